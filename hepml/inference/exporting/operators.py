"""Operators that torch's ONNX exporter lacks or writes with numbers rounded to float32, or that
onnxruntime has for float32 alone, in operators of the standard."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

OPSET = 18
_FLOAT, _DOUBLE = 1, 11  # element types of ONNX


def translations() -> dict[Any, Callable[..., Any]]:
    """What stands for an operator of torch in the file, by the operator."""
    import numpy as np
    import onnx
    from onnxscript import ir, opset18
    from onnxscript.function_libs.torch_lib.ops import core, nn

    op: Any = opset18

    def hypot(x: Any, y: Any) -> Any:
        return op.Sqrt(op.Add(op.Mul(x, x), op.Mul(y, y)))

    def copysign(x: Any, y: Any) -> Any:
        size = op.Abs(x)
        return op.Where(op.Less(y, op.CastLike(op.Constant(value_float=0.0), y)), op.Neg(size), size)

    def stable_sort(x: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
        size = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
        return op.TopK(x, size, axis=dim, largest=descending, sorted=True)

    def atan(x: Any) -> Any:
        if x.dtype != ir.DataType.DOUBLE:
            return op.Atan(x)
        return _double_atan(op, x)

    def atan2(y: Any, x: Any) -> Any:
        zero = op.CastLike(op.Constant(value_float=0.0), x)
        at_origin = op.And(op.Equal(x, zero), op.Equal(y, zero))
        one = op.CastLike(op.Constant(value_float=1.0), x)
        ratio = op.Div(y, op.Where(at_origin, one, x))
        half = op.CastLike(op.Constant(value_float=math.pi), x)
        if x.dtype == ir.DataType.DOUBLE:
            half = op.Cast(op.Constant(value=onnx.numpy_helper.from_array(np.array(math.pi))), to=_DOUBLE)
        # what an operator gives has no type yet: the inputs have
        angle = _double_atan(op, ratio) if x.dtype == ir.DataType.DOUBLE else op.Atan(ratio)
        turned = op.Where(op.Less(y, zero), op.Sub(angle, half), op.Add(angle, half))
        return op.Where(op.Less(x, zero), turned, angle)

    def number(value: Any, dtype: Any) -> Any:
        """A constant with all its digits: the smallest float64 numbers are zero in float32."""
        if dtype == ir.DataType.DOUBLE and isinstance(value, int | float):
            return op.Constant(value=onnx.numpy_helper.from_array(np.array(value, dtype=np.float64)))
        return op.Cast(value, to=int(dtype))

    def scalar_tensor(
        s: Any, dtype: int = _FLOAT, layout: str = "", device: str = "", pin_memory: bool = False
    ) -> Any:
        return number(s, ir.DataType(dtype if dtype > 0 else _FLOAT))

    def clamp(x: Any, low: float | None = None, high: float | None = None) -> Any:
        if low is None and high is None:
            return op.Identity(x)
        return op.Clip(x, *(None if limit is None else number(limit, x.dtype) for limit in (low, high)))

    def clamp_max(x: Any, high: float) -> Any:
        return clamp(x, None, high)

    def asinh(x: Any) -> Any:
        if x.dtype != ir.DataType.DOUBLE:
            return op.Asinh(x)
        size, one = op.Abs(x), op.Cast(op.Constant(value_float=1.0), to=_DOUBLE)
        return op.Mul(op.Sign(x), op.Log(op.Add(size, op.Sqrt(op.Add(op.Mul(size, size), one)))))

    def gelu(x: Any, approximate: str = "none") -> Any:
        """In the order that onnxruntime knows as one operator of its own: torch's has the half elsewhere."""
        if approximate != "none":
            return nn.aten_gelu(x, approximate)
        root, one, half = (op.CastLike(op.Constant(value_float=v), x) for v in (math.sqrt(2), 1.0, 0.5))
        return op.Mul(op.Mul(x, op.Add(op.Erf(op.Div(x, root)), one)), half)

    def index(x: Any, indices: Any) -> Any:
        """Rows by number: one copy a row, where torch's translation transposes before and behind."""
        given = [(axis, i) for axis, i in enumerate(indices) if i is not None]
        if len(given) > 1 or given[0][1].dtype == ir.DataType.BOOL:
            return core.aten_index(x, indices)
        return op.Gather(x, given[0][1], axis=given[0][0])

    aten = torch.ops.aten
    return {
        aten.gelu.default: gelu,
        aten.index.Tensor: index,
        aten.asinh.default: asinh,
        aten.clamp.default: clamp,
        aten.clamp_min.default: clamp,
        aten.clamp_max.default: clamp_max,
        aten.scalar_tensor.default: scalar_tensor,
        aten.atan.default: atan,
        aten.atan2.default: atan2,
        aten.hypot.default: hypot,
        aten.copysign.Tensor: copysign,
        aten.sort.stable: stable_sort,
    }


def _double_atan(op: Any, x: Any) -> Any:
    """The arc tangent in float64, which onnxruntime has in float32: that one, and what is left of the angle.

    With a the rounded angle, tan(atan(x) - a) = (x cos a - sin a) / (cos a + x sin a), which is as small as
    rounding and so is its own arc tangent.
    """
    limit = op.Cast(op.Constant(value_float=1e30), to=_DOUBLE)
    x = op.Min(op.Max(x, op.Neg(limit)), limit)
    angle = op.Cast(op.Atan(op.Cast(x, to=_FLOAT)), to=_DOUBLE)
    sine, cosine = op.Sin(angle), op.Cos(angle)
    left = op.Div(op.Sub(op.Mul(x, cosine), sine), op.Add(cosine, op.Mul(x, sine)))
    return op.Add(angle, left)
