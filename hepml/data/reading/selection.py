"""Selections: expressions on jet columns such as `jet_pt > 500 & abs(jet_eta) < 2`, evaluated without `eval`.

`and`, `or`, `not` join conditions; `&`, `|`, `~` (and `&&`, `||`, `!`) do the same and, like them, bind less
tightly than comparisons, as in ROOT's TTree::Draw; parentheses around each comparison, as numpy wants them,
do no harm. Between two integers `&` and `|` are bitwise, as in numpy. A number is no condition, and is
refused as one. Integers are exact, whatever their type in the file: nothing wraps around. Known functions are
those in `FUNCTIONS`, with exactly their arguments; nothing else can be called, and no expression can write.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Mapping
from typing import Any

import numpy as np

from hepml.data.reading.numbers import COMPARE, compute, exact, is_integer, wide_enough
from hepml.errors import ConfigError, LayoutError, did_you_mean

FUNCTIONS: dict[str, np.ufunc] = {
    "abs": np.absolute,
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
_OF_INTEGERS = ("abs", "min", "max")  # functions that give an integer for integers
_ALLOWED = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Pow)
# Stands between the operands of `&` and `|`, which `and` and `or` alone would not tell.
_BITWISE = "_bitwise_"
_LONGEST = 10_000  # characters


class Selection:
    """A parsed selection.

    Args:
        text: the expression.

    Raises:
        ConfigError: not an expression of comparisons, arithmetic, columns, numbers and known functions, or
            not a condition.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            if len(text) > _LONGEST:
                raise SyntaxError("too long")
            self._tree = ast.parse(_pythonic(text), mode="eval").body
            names = self._check(self._tree)
        except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError) as problem:
            shown = text if len(text) < 200 else text[:200] + " …"
            raise ConfigError(
                f"the selection '{shown}' is not an expression",
                mend="write it as 'jet_pt > 500 & abs(jet_eta) < 2'",
            ) from problem
        self.names: tuple[str, ...] = tuple(dict.fromkeys(names))
        if not self.names:
            raise ConfigError(
                f"the selection '{text}' names no jet column", mend="write it as 'jet_pt > 500'"
            )
        if _is_number(self._tree):
            raise self._no_condition(self._tree)

    def __call__(self, columns: Mapping[str, np.ndarray], where: str | None = None) -> np.ndarray:
        """Which jets fulfil it, [B] bool.

        Raises:
            LayoutError: a column that is not there; names the nearest.
            ConfigError: a number where a condition belongs.
        """
        return self.decide(columns, where)[0]

    def decide(
        self, columns: Mapping[str, np.ndarray], where: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which jets fulfil it, and for which it met NaN or a value that does not exist, such as 1/0 or the
        logarithm of -1; [B] bool each. Comparisons with NaN are false (`!=` true), as everywhere."""
        for name in self.names:
            if name not in columns:
                raise LayoutError(
                    f"the selection needs jet column '{name}'", where=where, mend=did_you_mean(name, columns)
                )
            if np.ndim(columns[name]) != 1 or columns[name].dtype.kind not in "biuf":
                raise LayoutError(
                    f"the selection needs one number a jet, jet column '{name}' has not", where=where
                )
        jets = len(columns[self.names[0]])
        run = _Evaluation(self, columns, jets)
        with np.errstate(all="ignore"):
            keep = run.value(self._tree)
        if not _is_boolean(keep):
            raise self._no_condition(self._tree, where)
        return np.broadcast_to(keep, jets).copy(), run.undefined

    def _check(self, node: ast.AST) -> list[str]:
        if isinstance(node, ast.Name):
            return [] if node.id == _BITWISE else [node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return []
        if isinstance(node, ast.BoolOp):
            return [n for v in node.values for n in self._check(v)]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.UAdd):
            if isinstance(node.op, ast.Not) and _is_number(node.operand):
                raise self._no_condition(node.operand)
            return self._check(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _ALLOWED:
            return self._check(node.left) + self._check(node.right)
        if isinstance(node, ast.Compare) and all(type(op) in COMPARE for op in node.ops):
            return [n for v in (node.left, *node.comparators) for n in self._check(v)]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            name = node.func.id
            if name not in FUNCTIONS:
                raise ConfigError(
                    f"unknown function '{name}' in the selection '{self.text}'",
                    mend=did_you_mean(name, FUNCTIONS),
                )
            if len(node.args) != FUNCTIONS[name].nin:
                raise ConfigError(
                    f"{name} takes {FUNCTIONS[name].nin} argument{'s' * (FUNCTIONS[name].nin > 1)}, "
                    f"not {len(node.args)}, in the selection '{self.text}'",
                    mend="nest them: min(a, min(b, c))" if name in ("min", "max") else f"write {name}(x)",
                )
            return [n for v in node.args for n in self._check(v)]
        raise ConfigError(
            f"'{ast.unparse(node)}' is not allowed in the selection '{self.text}'",
            mend="use comparisons, arithmetic, jet columns, numbers and " + ", ".join(FUNCTIONS),
        )

    def _no_condition(self, node: ast.AST, where: str | None = None) -> ConfigError:
        words = _plainly(node)
        return ConfigError(
            f"'{words}' is a number, not a condition, in the selection '{self.text}'",
            where=where,
            mend=f"compare it, as in '{words} != 0' (in parentheses beside & and |)",
        )


class _Evaluation:
    """One evaluation of a selection on the columns of some jets.

    Args:
        selection: what is evaluated.
        columns: jet columns [B].
        jets: B.
    """

    def __init__(self, selection: Selection, columns: Mapping[str, np.ndarray], jets: int) -> None:
        self.selection, self.columns = selection, columns
        self.undefined = np.zeros(jets, dtype=bool)

    def value(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Name):
            column = self.columns[node.id].view()
            column.flags.writeable = False
            return column
        if isinstance(node, ast.Constant):
            return _literal(node)
        if isinstance(node, ast.BoolOp):
            return self._joined(node)
        if isinstance(node, ast.UnaryOp):
            value = self.value(node.operand)
            if isinstance(node.op, ast.Not):
                return np.logical_not(self._condition(value, node.operand))
            return 0 - exact(value) if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp):
            return self._arithmetic(node)
        if isinstance(node, ast.Compare):
            left, out = self.value(node.left), np.True_
            for op, right in zip(node.ops, node.comparators, strict=True):
                value = self.value(right)
                self._note(_is_nan(left) | _is_nan(value))
                out = np.logical_and(out, np.asarray(COMPARE[type(op)](left, value), dtype=bool))
                left = value
            return out
        assert isinstance(node, ast.Call)
        assert isinstance(node.func, ast.Name)
        return self._call(node.func.id, [self.value(v) for v in node.args])

    def _joined(self, node: ast.BoolOp) -> Any:
        """Conditions joined by and, or; integers by `&`, `|`."""
        both = isinstance(node.op, ast.And)
        parts = [v for v in node.values if not _is_marker(v)]
        bitwise = [_is_marker(node.values[node.values.index(v) - 1]) for v in parts[1:]]
        out, before = self.value(parts[0]), parts[0]
        for part, bits in zip(parts[1:], bitwise, strict=True):
            value = self.value(part)
            if bits and is_integer(out) and is_integer(value):
                left, right = exact(out), exact(value)
                out = left & right if both else left | right
            else:
                a, b = self._condition(out, before), self._condition(value, part)
                out = np.logical_and(a, b) if both else np.logical_or(a, b)
            before = part
        return out

    def _condition(self, value: Any, node: ast.AST) -> Any:
        if not _is_boolean(value):
            raise self.selection._no_condition(node)
        return value

    def _arithmetic(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        out = compute(type(node.op), left, right)
        if out.dtype.kind == "f":
            a, b = (np.asarray(v, dtype=float) for v in (left, right))
            self._note(np.isfinite(a) & np.isfinite(b) & ~np.isfinite(out))
        return out

    def _call(self, name: str, values: list[Any]) -> Any:
        given = [exact(v) for v in values]
        if name in _OF_INTEGERS and all(is_integer(v) for v in given):
            return FUNCTIONS[name](*(wide_enough(*given) if len(given) > 1 else wide_enough(given[0], 2)[:1]))
        floats = [np.asarray(v, dtype=float) for v in given]
        out = FUNCTIONS[name](*floats)
        if name != "isfinite":
            self._note(np.isfinite(sum(floats, np.zeros(()))) & ~np.isfinite(out))
        return out

    def _note(self, jets: Any) -> None:
        self.undefined |= jets


def _is_number(node: ast.AST) -> bool:
    """Whether an expression is a number, whatever the columns are: no condition."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id != "isfinite"
    return isinstance(node, ast.Constant | ast.BinOp) or (
        isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not)
    )


def _literal(node: ast.Constant) -> Any:
    """A number as it is written; an integer that no column can hold as a float."""
    value: Any = node.value
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        try:
            return float(value)
        except OverflowError:
            return np.inf if value > 0 else -np.inf
    return value


def _is_marker(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == _BITWISE


def _is_boolean(value: Any) -> bool:
    return bool(np.asarray(value).dtype == np.bool_)


def _is_nan(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros((), dtype=bool)


def _plainly(node: ast.AST) -> str:
    return ast.unparse(node).replace(f" and {_BITWISE} and ", " & ").replace(f" or {_BITWISE} or ", " | ")


_WORDS = {"&": f"and {_BITWISE} and", "|": f"or {_BITWISE} or", "~": "not", "!": "not"}


def _pythonic(text: str) -> str:
    """`&`, `|`, `~` and their doubled forms as and, or, not."""
    text = " ".join(text.split())
    text = text.replace("&&", " and ").replace("||", " or ").replace("!=", " <> ").replace("!", "~")
    text = text.replace(" <> ", "!=")
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    if any(t.string == _BITWISE for t in tokens):
        raise SyntaxError(_BITWISE)
    words = [_WORDS.get(t.string, t.string) if t.type == tokenize.OP else t.string for t in tokens]
    return " ".join(word for word in words if word.strip())
