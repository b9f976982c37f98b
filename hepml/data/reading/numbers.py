"""Arithmetic of columns as a selection and a layout's expressions mean it: integers are exact, whatever
their type in the file, and nothing wraps around."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.FloorDiv: operator.floordiv,
}
COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_EXACT = (ast.Add, ast.Sub, ast.Mult)
_WHOLE = (ast.Mod, ast.FloorDiv)  # of integers, but for zeros, by which nothing can be divided


def compute(op: type[ast.operator], left: Any, right: Any) -> np.ndarray:
    """The result of an operator: integers of integers, as far as there are any, floats otherwise."""
    a, b = exact(left), exact(right)
    if is_integer(a) and is_integer(b):
        if op in _EXACT:
            return np.asarray(ARITHMETIC[op](*wide_enough(a, b)))
        if op in _WHOLE and np.all(b != 0):
            return np.asarray(ARITHMETIC[op](a, b))
    return np.asarray(ARITHMETIC[op](np.asarray(a, dtype=float), np.asarray(b, dtype=float)))


def is_integer(value: Any) -> bool:
    """Whether these are whole numbers of an integer type, or Python's own."""
    array = np.asarray(value)
    return array.dtype.kind in "iuO" and not isinstance(value, bool)


def exact(value: Any) -> np.ndarray:
    """A number as int64, as Python's integers where it is larger, or as float64."""
    array = np.asarray(value)
    if array.dtype.kind == "O":
        return array
    if array.dtype.kind not in "biu":
        return array.astype(float)
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        return array.astype(object)
    return array.astype(np.int64)


def wide_enough(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two integer arrays in a type in which their sum, difference and product cannot wrap around."""
    a, b = np.asarray(a), np.asarray(b)
    reach = [max(abs(int(x.min())), abs(int(x.max())), 1) if x.size else 1 for x in (a, b)]
    if max(reach[0] * reach[1], reach[0] + reach[1]) <= np.iinfo(np.int64).max and "O" not in (
        a.dtype.kind,
        b.dtype.kind,
    ):
        return a, b
    return a.astype(object), b.astype(object)
