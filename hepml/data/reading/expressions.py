"""Columns that a layout computes from branches: arithmetic, comparisons and known functions, never `eval`.

The grammar is Python's, as weaver's YAML files write it: `np.log(part_pt / jet_pt)`, `(np.abs(pid) == 211) *
0.5`. A name is a branch or another defined column; a number a jet is repeated for each element of a list it
meets. What is not in the lists here is refused by name when it is parsed. Functions take exactly their
arguments, so that no expression can write; integers are exact (`hepml.data.reading.numbers`).

Longer than other files because it is one idea: a small language, its checks and its evaluation.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np

from hepml.data.reading.numbers import ARITHMETIC, COMPARE, compute, exact, is_integer, wide_enough
from hepml.data.reading.tree_reader import Flat
from hepml.errors import ConfigError, DataError, LayoutError, did_you_mean

_PACKAGES = ("np", "numpy", "math", "ak", "awkward")
_CONSTANTS = {"pi": np.pi, "e": np.e, "inf": np.inf, "nan": np.nan}
# One value for each of the arguments' values.
_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **{n: getattr(np, n) for n in (
        "abs", "absolute", "arccos", "arcsin", "arctan", "arctan2", "arccosh", "arcsinh", "arctanh", "cbrt",
        "ceil", "cos", "cosh", "deg2rad", "exp", "exp2", "expm1", "floor", "fmax", "fmin", "fabs", "fmod",
        "hypot", "isfinite", "isinf", "isnan", "log", "log10", "log1p", "log2", "logical_and", "logical_not",
        "logical_or", "logical_xor", "maximum", "minimum", "mod", "negative", "power", "rad2deg", "rint",
        "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc", "true_divide", "divide", "multiply",
        "add", "subtract", "heaviside", "copysign", "where", "clip", "nan_to_num",
    )},
    "pow": np.power, "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "atan2": np.arctan2,
    "ones_like": np.ones_like, "zeros_like": np.zeros_like, "_clip": np.clip,
}  # fmt: skip
# One number a jet of a list a jet; the second argument, or `axis`, is 1 where it is given.
_REDUCTIONS = ("sum", "max", "min", "mean", "any", "all", "num", "count", "count_nonzero", "firsts", "prod")
_BITWISE: dict[type, Callable[[Any, Any], Any]] = {
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
}  # fmt: skip
_BINARY = (*ARITHMETIC, *_BITWISE)
# The functions that are operators, by another name.
_OPERATORS: dict[str, type[ast.operator]] = {
    "add": ast.Add, "subtract": ast.Sub, "multiply": ast.Mult, "divide": ast.Div, "true_divide": ast.Div,
    "mod": ast.Mod, "power": ast.Pow, "pow": ast.Pow,
}  # fmt: skip
# Functions that give integers for integers, and those that ask of values whether they are something.
_OF_INTEGERS = (
    "abs", "absolute", "negative", "sign", "maximum", "minimum", "clip", "_clip", "where", "ones_like",
    "zeros_like",
)  # fmt: skip
_QUESTIONS = ("logical_and", "logical_not", "logical_or", "logical_xor", "isfinite", "isinf", "isnan")
_ARGUMENTS = {"where": 3, "clip": 3, "_clip": 3}  # of those that are no ufunc; 1 of the others
_UNARY = (ast.USub, ast.UAdd, ast.Invert, ast.Not)
_LONGEST = 20_000  # characters


class Expression:
    """A parsed expression.

    Args:
        text: as written.
        key: where it stands, for errors.

    Raises:
        ConfigError: not an expression of the allowed kind; names what is not.
    """

    def __init__(self, text: str, key: str = "") -> None:
        self.text, self.key = str(text), key
        try:
            if len(self.text) > _LONGEST:
                raise SyntaxError("too long")
            self._tree = ast.parse(" ".join(self.text.split()), mode="eval").body
            names: dict[str, None] = {}
            self._check(self._tree, names)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
            raise ConfigError(
                f"'{self.text[:200]}' is not an expression",
                where=key or None,
                mend="write it as np.log(part_pt / jet_pt)",
            ) from problem
        self.names = tuple(names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def is_list(self, lists: Callable[[str], bool]) -> bool:
        """Whether it is a list a jet, of what is known of the names in it."""
        return _is_list(self._tree, lists)

    def __call__(self, columns: Mapping[str, Flat], where: str) -> Flat:
        """The column, from those that it names.

        Raises:
            DataError: two lists of one jet that differ in length.
        """
        try:
            with np.errstate(all="ignore"):
                values = _Evaluation(self, columns, where).value(self._tree)
        except (TypeError, ValueError, OverflowError) as problem:  # numpy's, of kinds that do not go together
            raise LayoutError(
                f"'{self.text[:120]}' cannot be computed ({str(problem).splitlines()[0]})",
                where=where,
                mend="join conditions by & and |, numbers by + - * /",
            ) from problem
        if isinstance(values, _Lists):
            return Flat(_native(values.content), values.offsets)
        return Flat(_native(values), None)

    def _check(self, node: ast.AST, names: dict[str, None]) -> None:
        if isinstance(node, ast.Name):
            names[node.id] = None
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            pass
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, _UNARY):
            self._check(node.operand, names)
        elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            self._check(node.left, names)
            self._check(node.right, names)
        elif isinstance(node, ast.BoolOp):
            for value in node.values:
                self._check(value, names)
        elif isinstance(node, ast.Compare) and all(type(op) in COMPARE for op in node.ops):
            for value in (node.left, *node.comparators):
                self._check(value, names)
        elif isinstance(node, ast.Attribute) and _of_package(node) and node.attr in _CONSTANTS:
            pass
        elif isinstance(node, ast.Subscript) and _element_of(node) is not None:
            self._check(node.value, names)
        elif isinstance(node, ast.Call):
            name = _called(node)
            known = (*_ELEMENTWISE, *_REDUCTIONS)
            if name not in known:
                raise ConfigError(
                    f"'{ast.unparse(node.func)}' is not among the known functions, in '{self.text[:200]}'",
                    where=self.key or None,
                    mend=did_you_mean(name or ast.unparse(node.func), known),
                )
            for keyword in node.keywords:
                if keyword.arg != "axis" or name not in _REDUCTIONS or not _is_axis(keyword.value):
                    self._refuse(node)
            arguments = node.args
            if name in _REDUCTIONS:
                if len(arguments) == 2 and _is_axis(arguments[1]):
                    arguments = arguments[:1]
                if len(arguments) != 1:
                    self._refuse(node)
            elif len(arguments) != (takes := _takes(name)):  # numpy writes into one more
                raise ConfigError(
                    f"{name} takes {takes} argument{'s' * (takes > 1)}, not {len(arguments)}, "
                    f"in '{self.text[:200]}'",
                    where=self.key or None,
                    mend=f"write {name}({', '.join('abc'[:takes])}), and nest calls for more",
                )
            for value in arguments:
                self._check(value, names)
        else:
            self._refuse(node)

    def _refuse(self, node: ast.AST) -> None:
        raise ConfigError(
            f"'{ast.unparse(node)[:200]}' is not allowed in an expression",
            where=self.key or None,
            mend="use arithmetic, comparisons, branches, numbers and functions of numpy",
        )


class _Lists:
    """A list of numbers a jet, while an expression is worked out."""

    def __init__(self, content: Any, offsets: np.ndarray) -> None:
        self.content, self.offsets = content, offsets


class _Evaluation:
    """One evaluation on the columns of some jets."""

    def __init__(self, expression: Expression, columns: Mapping[str, Flat], where: str) -> None:
        self.expression, self.columns, self.where = expression, columns, where

    def value(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Name):
            content, offsets = self.columns[node.id]
            return content if offsets is None else _Lists(content, offsets)
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Attribute):
            return _CONSTANTS[node.attr]
        if isinstance(node, ast.UnaryOp):
            return self._each(partial(_unary, node.op), self.value(node.operand))
        if isinstance(node, ast.BinOp):
            return self._each(partial(_binary, type(node.op)), self.value(node.left), self.value(node.right))
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            out = self.value(node.values[0])
            for part in node.values[1:]:
                out = self._each(join, out, self.value(part))
            return out
        if isinstance(node, ast.Compare):
            left, out = self.value(node.left), None
            for op, right in zip(node.ops, node.comparators, strict=True):
                value = self.value(right)
                one = self._each(COMPARE[type(op)], left, value)
                out = one if out is None else self._each(np.logical_and, out, one)
                left = value
            return out
        if isinstance(node, ast.Subscript):
            return self._element(self.value(node.value), int(_element_of(node) or 0))
        assert isinstance(node, ast.Call)
        name = str(_called(node))
        if name in _REDUCTIONS:
            return self._reduced(name, self.value(node.args[0]))
        return self._each(partial(_function, name), *(self.value(v) for v in node.args))

    def _each(self, function: Callable[..., Any], *values: Any) -> Any:
        """A function of each value, numbers of a jet repeated for the elements of its lists."""
        lists = [v for v in values if isinstance(v, _Lists)]
        if not lists:
            return function(*values)
        offsets = lists[0].offsets
        for other in lists[1:]:
            if other.offsets is not offsets and not np.array_equal(other.offsets, offsets):
                raise DataError(
                    f"lists of different length meet in '{self.expression.text[:120]}'",
                    where=self.where,
                    mend="name columns of one collection",
                )
        counts = np.diff(offsets)
        flat = [
            v.content if isinstance(v, _Lists) else np.repeat(v, counts) if np.ndim(v) else v for v in values
        ]
        return _Lists(function(*flat), offsets)

    def _reduced(self, name: str, values: Any) -> Any:
        if not isinstance(values, _Lists):
            raise LayoutError(
                f"{name} needs a list a jet, in '{self.expression.text[:120]}'", where=self.where
            )
        counts = np.diff(values.offsets)
        if name in ("num", "count"):
            return counts
        if name == "firsts":
            return self._element(values, 0)
        content = np.asarray(values.content)
        jets = np.repeat(np.arange(len(counts)), counts)
        if name in ("sum", "mean", "count_nonzero", "any", "all"):
            terms = content != 0 if name in ("count_nonzero", "any", "all") else content
            total = np.bincount(jets, weights=terms.astype(np.float64), minlength=len(counts))
            if name == "mean":
                return total / counts
            return total > 0 if name == "any" else total == counts if name == "all" else total
        operation = {"max": np.maximum, "min": np.minimum, "prod": np.multiply}[name]
        start = {"max": -np.inf, "min": np.inf, "prod": 1.0}[name]
        out = np.full(len(counts), start, dtype=np.float64)
        operation.at(out, jets, content)
        return out if name == "prod" else np.where(counts > 0, out, np.nan)

    def _element(self, values: Any, at: int) -> Any:
        if not isinstance(values, _Lists):
            raise LayoutError(f"no list a jet in '{self.expression.text[:120]}'", where=self.where)
        counts = np.diff(values.offsets)
        place = at if at >= 0 else counts + at
        there = (place >= 0) & (place < counts)
        rows = np.where(there, values.offsets[:-1] + place, 0)
        content = np.asarray(values.content, dtype=np.float64)
        return np.where(there, content[rows] if len(content) else 0.0, np.nan)


def _unary(op: ast.unaryop, x: Any) -> Any:
    if isinstance(op, ast.USub):
        return -x if np.asarray(x).dtype.kind == "f" else compute(ast.Sub, 0, x)
    if isinstance(op, ast.Invert):
        # not, of conditions; bitwise, of integers; refused of other numbers
        return np.invert(exact(x) if is_integer(x) else x)
    return np.logical_not(x) if isinstance(op, ast.Not) else x


def _binary(op: type[ast.operator], a: Any, b: Any) -> Any:
    """Exact for integers; otherwise, and for conditions, as numpy has it, in the floats' own precision."""
    whole = is_integer(a) and is_integer(b)
    if op in _BITWISE:
        return _BITWISE[op](exact(a), exact(b)) if whole else _BITWISE[op](a, b)
    return compute(op, a, b) if whole else ARITHMETIC[op](a, b)


def _function(name: str, *values: Any) -> Any:
    """The same for a function: of integers it is exact where it can be, else a float64."""
    if name in _OPERATORS:
        return _binary(_OPERATORS[name], *values)
    first, numbers = (values[:1], values[1:]) if name == "where" else ((), values)
    function = _ELEMENTWISE[name]
    if name in _QUESTIONS or not all(is_integer(v) for v in numbers):
        return function(*values)
    if name not in _OF_INTEGERS:
        return function(*(np.asarray(v, dtype=float) for v in numbers))
    whole = [exact(v) for v in numbers]
    if len(whole) == 1:  # twice the number, so that the lowest has a negative
        whole = list(wide_enough(whole[0], 2)[:1])
    return function(*first, *whole)


def _native(values: Any) -> np.ndarray:
    """Numbers of a type that a column can have."""
    array = np.asarray(values)
    return array.astype(np.float64) if array.dtype == object else array


def _takes(name: str) -> int:
    """How many arguments a function takes."""
    function = _ELEMENTWISE[name]
    return function.nin if isinstance(function, np.ufunc) else _ARGUMENTS.get(name, 1)


def _of_package(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in _PACKAGES


def _called(node: ast.Call) -> str | None:
    """The function's name, without the package it is taken from."""
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) and _of_package(node.func) else None


def _is_axis(node: ast.AST) -> bool:
    """1 or -1: over the elements of each jet."""
    text = ast.unparse(node)
    return text in ("1", "-1")


def _element_of(node: ast.Subscript) -> int | None:
    """The k of `x[:, k]`, or None."""
    at = node.slice
    if isinstance(at, ast.Tuple) and len(at.elts) == 2 and ast.unparse(at.elts[0]) == ":":
        try:
            number = ast.literal_eval(at.elts[1])
        except ValueError:
            return None
        return number if isinstance(number, int) else None
    return None


def _is_list(node: ast.AST, lists: Callable[[str], bool]) -> bool:
    if isinstance(node, ast.Name):
        return lists(node.id)
    if isinstance(node, ast.Subscript):
        return False
    if isinstance(node, ast.Call):
        return _called(node) not in _REDUCTIONS and any(_is_list(v, lists) for v in node.args)
    return any(_is_list(child, lists) for child in ast.iter_child_nodes(node))


class Definitions:
    """Defined columns of a layout, which stand for branches wherever one is named.

    Args:
        expressions: name -> expression; they may name each other.

    Raises:
        ConfigError: an expression that names itself, straight or over others.
    """

    def __init__(self, expressions: Mapping[str, Expression]) -> None:
        self.expressions = dict(expressions)
        self.order: list[str] = []
        for name in self.expressions:
            self._visit(name, ())

    def __bool__(self) -> bool:
        return bool(self.expressions)

    def __repr__(self) -> str:
        return f"Definitions({self.expressions!r})"

    def _visit(self, name: str, above: tuple[str, ...]) -> None:
        if name in self.order:
            return
        if name in above:
            raise ConfigError(f"'{name}' is defined by itself", where=f"define.{name}", mend="name a branch")
        for other in self.expressions[name].names:
            if other in self.expressions:
                self._visit(other, (*above, name))
        self.order.append(name)

    def kinds(self, branches: Mapping[str, str]) -> dict[str, str]:
        """Branches and defined columns with their types; those whose branches are absent are left out."""
        types = dict(branches)
        for name in self.order:
            expression = self.expressions[name]
            types.pop(name, None)
            if all(other in types for other in expression.names):
                lists = expression.is_list(lambda n: "[" in types[n] or "vector<" in types[n])
                types[name] = "double[]" if lists else "double"
        return types

    def branches(self, names: list[str]) -> list[str]:
        """The branches to read for these names."""
        out: dict[str, None] = {}
        for name in names:
            if name in self.expressions:
                out.update(dict.fromkeys(self.branches(list(self.expressions[name].names))))
            else:
                out[name] = None
        return list(out)

    def complete(self, flat: Mapping[str, Flat], names: list[str], where: str) -> dict[str, Flat]:
        """The columns of these names, from the branches that were read."""
        columns = dict(flat)
        needed = self._needed(names)
        entries = next((len(f.content) if f.offsets is None else len(f.offsets) - 1) for f in flat.values())
        for name in self.order:
            if name in needed:
                value = self.expressions[name](columns, where)
                content = value.content if value.content.ndim else np.full(entries, value.content)
                columns[name] = Flat(content, value.offsets)
        return {name: columns[name] for name in names}

    def _needed(self, names: list[str]) -> set[str]:
        out: set[str] = set()
        left = [n for n in names if n in self.expressions]
        while left:
            name = left.pop()
            if name not in out:
                out.add(name)
                left += [n for n in self.expressions[name].names if n in self.expressions]
        return out


@lru_cache(maxsize=64)
def definitions(items: tuple[tuple[str, Expression], ...]) -> Definitions:
    """The definitions of a layout, ordered once."""
    return Definitions(dict(items))
