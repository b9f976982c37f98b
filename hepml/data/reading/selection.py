"""Selections: expressions on jet columns such as `jet_pt > 500 & abs(jet_eta) < 2`, evaluated without `eval`.

`&`, `|`, `~` (and `&&`, `||`, `!`) mean and, or, not, and bind less tightly than comparisons, as in ROOT's
TTree::Draw; parentheses around each comparison, as numpy wants them, do no harm. Known functions are those in
`FUNCTIONS`; nothing else can be called.
"""

from __future__ import annotations

import ast
import io
import operator
import tokenize
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hepml.errors import ConfigError, LayoutError, did_you_mean

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "sqrt": np.sqrt,
    "log": np.log,
    "exp": np.exp,
    "cos": np.cos,
    "sin": np.sin,
    "tanh": np.tanh,
    "min": np.minimum,
    "max": np.maximum,
    "isfinite": np.isfinite,
}
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class Selection:
    """A parsed selection.

    Args:
        text: the expression.

    Raises:
        ConfigError: not an expression of comparisons, arithmetic, columns, numbers and known functions.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(_pythonic(text), mode="eval").body
        except (SyntaxError, tokenize.TokenError, IndentationError) as problem:
            raise ConfigError(
                f"the selection '{text}' is not an expression",
                mend="write it as 'jet_pt > 500 & abs(jet_eta) < 2'",
            ) from problem
        self.names: tuple[str, ...] = tuple(dict.fromkeys(self._check(self._tree)))
        if not self.names:
            raise ConfigError(
                f"the selection '{text}' names no jet column", mend="write it as 'jet_pt > 500'"
            )

    def __call__(self, columns: Mapping[str, np.ndarray], where: str | None = None) -> np.ndarray:
        """Which jets fulfil it, [B] bool.

        Raises:
            LayoutError: a column that is not there; names the nearest.
        """
        for name in self.names:
            if name not in columns:
                raise LayoutError(
                    f"the selection needs jet column '{name}'", where=where, mend=did_you_mean(name, columns)
                )
        with np.errstate(all="ignore"):
            return np.asarray(self._value(self._tree, columns), dtype=bool)

    def _check(self, node: ast.AST) -> list[str]:
        if isinstance(node, ast.Name):
            return [node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return []
        if isinstance(node, ast.BoolOp):
            return [n for v in node.values for n in self._check(v)]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.UAdd):
            return self._check(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return self._check(node.left) + self._check(node.right)
        if isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
            return [n for v in (node.left, *node.comparators) for n in self._check(v)]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords and node.args:
            if node.func.id not in FUNCTIONS:
                raise ConfigError(
                    f"unknown function '{node.func.id}' in the selection '{self.text}'",
                    mend=did_you_mean(node.func.id, FUNCTIONS),
                )
            return [n for v in node.args for n in self._check(v)]
        raise ConfigError(
            f"'{ast.unparse(node)}' is not allowed in the selection '{self.text}'",
            mend="use comparisons, arithmetic, jet columns, numbers and " + ", ".join(FUNCTIONS),
        )

    def _value(self, node: ast.AST, columns: Mapping[str, np.ndarray]) -> Any:
        if isinstance(node, ast.Name):
            return columns[node.id]
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.BoolOp):
            combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            out = self._value(node.values[0], columns)
            for value in node.values[1:]:
                out = combine(out, self._value(value, columns))
            return out
        if isinstance(node, ast.UnaryOp):
            value = self._value(node.operand, columns)
            if isinstance(node.op, ast.Not):
                return np.logical_not(value)
            return -np.asarray(value, dtype=float) if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp):
            left, right = self._value(node.left, columns), self._value(node.right, columns)
            # Unsigned and boolean branches must not wrap around.
            return _ARITHMETIC[type(node.op)](np.asarray(left, dtype=float), np.asarray(right, dtype=float))
        if isinstance(node, ast.Compare):
            left, out = self._value(node.left, columns), np.True_
            for op, right in zip(node.ops, node.comparators, strict=True):
                value = self._value(right, columns)
                out = np.logical_and(out, _COMPARE[type(op)](left, value))
                left = value
            return out
        assert isinstance(node, ast.Call)
        assert isinstance(node.func, ast.Name)
        return FUNCTIONS[node.func.id](*(self._value(v, columns) for v in node.args))


_WORDS = {"&": "and", "|": "or", "~": "not", "!": "not"}


def _pythonic(text: str) -> str:
    """`&`, `|`, `~` and their doubled forms as and, or, not."""
    text = (
        " ".join(text.split()).replace("&&", "&").replace("||", "|").replace("!=", " <> ").replace("!", "~")
    )
    text = text.replace(" <> ", "!=")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    words = [_WORDS.get(t.string, t.string) if t.type == tokenize.OP else t.string for t in tokens]
    return " ".join(word for word in words if word.strip())
