"""A layout's expressions: integers are exact, functions take exactly their arguments, nothing is written."""

from __future__ import annotations

import numpy as np
import pytest

from hepml.data.reading.expressions import Expression
from hepml.data.reading.tree_reader import Flat
from hepml.errors import ConfigError, LayoutError

BYTES = np.array([-128, 127], np.int8)
NATURAL = np.array([1, 2], np.uint8)
LARGE = np.array([2**40, 3], np.int64)
REAL = np.array([1.5, -2.5], np.float32)
TRUE = np.array([True, False])


def worked_out(text: str) -> np.ndarray:
    given = {"b": BYTES, "n": NATURAL, "large": LARGE, "x": REAL, "t": TRUE}
    columns = {name: Flat(values.copy(), None) for name, values in given.items()}
    found = Expression(text)(columns, "a.root").content
    for name, values in given.items():
        assert np.array_equal(columns[name].content, values), f"{text} wrote into {name}"
    return found


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("np.abs(b)", [128, 127]),
        ("-b", [128, -127]),
        ("np.negative(n)", [-1, -2]),
        ("b * 2", [-256, 254]),
        ("n - 2", [-1, 0]),
        ("np.subtract(n, 2)", [-1, 0]),
        ("np.abs(n - 2)", [1, 0]),
        ("np.square(b)", [16384, 16129]),
        ("large * large", [2.0**80, 9]),
        ("np.clip(b, -1000, 1000)", [-128, 127]),
        ("np.where(t, b, 300)", [-128, 300]),
        ("n & 300", [0, 0]),
        ("~n", [-2, -3]),
        ("~t", [False, True]),
        ("b ** -1", [-1 / 128, 1 / 127]),
        ("np.log(n)", [0.0, np.log(2.0)]),
    ],
)
def test_integers_of_any_type_are_exact(text: str, right: list[float]) -> None:
    assert worked_out(text).tolist() == right


@pytest.mark.parametrize("text", ["n % 0", "n // 0", "np.mod(n, 0)"])
def test_nothing_is_divided_by_zero_without_a_word(text: str) -> None:
    assert not np.isfinite(worked_out(text)).any()


def test_floats_keep_their_precision() -> None:
    assert worked_out("np.exp(x) * 2 + b").dtype == np.float32


@pytest.mark.parametrize(
    "text",
    [
        "np.log(x, x)",
        "np.abs(b, n)",
        "np.maximum(b, n, n)",
        "np.logical_and(t, t, t)",
        "np.where(t)",
        "np.clip(x, 2)",
    ],
)
def test_functions_take_exactly_their_arguments(text: str) -> None:
    with pytest.raises(ConfigError, match="takes"):
        worked_out(text)


@pytest.mark.parametrize("text", ["x & b", "x | x", "~x", "t - t"])
def test_what_numpy_does_not_know_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(LayoutError, match="cannot be computed") as problem:
        worked_out(text)
    assert "\n" not in str(problem.value)
