"""Selections mean what they say, count what they remove, and run nothing but comparisons and arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from hepml.data.dataset import JetDataset
from hepml.data.reading.reader import read_jets
from hepml.data.reading.selection import Selection
from hepml.errors import ConfigError, LayoutError

COLUMNS = {
    "pt": np.array([400.0, 550.0, 600.0, 700.0]),
    "eta": np.array([0.1, -2.5, 1.0, -0.3]),
    "n": np.array([1, 2, 3, 4], dtype=np.uint8),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pt > 500", [0, 1, 1, 1]),
        ("pt > 500 & abs(eta) < 2", [0, 0, 1, 1]),
        ("(pt > 500) & (abs(eta) < 2)", [0, 0, 1, 1]),
        ("pt > 500 && abs(eta) < 2", [0, 0, 1, 1]),
        ("pt > 500 and abs(eta) < 2", [0, 0, 1, 1]),
        ("pt < 500 | pt > 650", [1, 0, 0, 1]),
        ("pt < 500 || !(eta < 0)", [1, 0, 1, 0]),
        ("~(pt < 500)", [0, 1, 1, 1]),
        ("500 < pt <= 600", [0, 1, 1, 0]),
        ("n - 2 < 0", [1, 0, 0, 0]),
        ("n != 2", [1, 0, 1, 1]),
        ("-eta > 0.2", [0, 1, 0, 1]),
        ("max(pt, 600) == 600", [1, 1, 1, 0]),
        ("n % 2 == 0 and pt / 100 > 6", [0, 0, 0, 1]),
    ],
)
def test_expressions_mean_what_they_say(text, expected) -> None:
    assert Selection(text)(COLUMNS).astype(int).tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "pt.__class__",
        "pt[0] > 1",
        "(lambda: 1)()",
        "open('x')",
        "[x for x in pt]",
        "pt > 'a'",
        "pt >",
        "",
        "1 < 2",
        "pt if eta else n",
        "pt ^ 2",
        "abs(pt, key=1) > 2",
    ],
)
def test_nothing_else_is_evaluated(text) -> None:
    with pytest.raises(ConfigError):
        Selection(text)


SMALL = {
    "q": np.array([-128, 5], dtype=np.int8),
    "u": np.array([1, 250], dtype=np.uint8),
    "i": np.array([2**53 + 1, 7]),
    "big": np.array([2**63 + 1, 3], dtype=np.uint64),
    "low": np.array([-(2**63), 1]),
    "ok": np.array([True, False]),
    "x": np.array([2.5, np.nan], dtype=np.float32),
    "none": np.array([0, 0]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abs(q) > 100", [1, 0]),  # int8: |-128| is 128
        ("-q > 100", [1, 0]),
        ("q * q > 16000", [1, 0]),
        ("q + q < -200", [1, 0]),
        ("-u < 0", [1, 1]),
        ("u - 2 < 0", [1, 0]),
        ("u + u == 500", [0, 1]),
        ("sqrt(u) > 15.81", [0, 1]),  # numpy takes the root of uint8 in float16
        ("i == 9007199254740993", [1, 0]),  # beyond the integers that float64 holds
        ("i + 0 == 9007199254740993 and i % 2 == 1", [1, 0]),
        ("big == 9223372036854775809", [1, 0]),
        ("big - 1 == 9223372036854775808", [1, 0]),
        ("-big < 0", [1, 1]),
        ("abs(low) > 0", [1, 1]),
        ("max(big, low) > 9223372036854775807", [1, 0]),
        ("min(q, u) < 0", [1, 0]),
        ("q > 1000", [0, 0]),
        ("u > -1", [1, 1]),
        ("(u & 2) != 0", [0, 1]),  # bitwise, as numpy means it
        ("(u | 1) == u", [1, 0]),
        ("ok & u > 0", [1, 0]),
        ("!ok", [0, 1]),
        ("0 < q < 6", [0, 1]),
        ("not q > 0 and ok", [1, 0]),
        ("x < 9e999", [1, 0]),
    ],
)
def test_integers_of_any_type_are_exact(text, expected) -> None:
    assert Selection(text)(SMALL).astype(int).tolist() == expected


@pytest.mark.parametrize(
    "text",
    ["u", "1 & u > 0", "u > 0 & 3", "ok & u", "~u", "not u", "u & 2", "u & 2 > 0", "q == 5 | 6", "-ok"],
)
def test_a_number_is_no_condition(text) -> None:
    with pytest.raises(ConfigError, match="is a number, not a condition") as error:
        Selection(text)(SMALL)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["min(q, u, x) < 0", "abs(q, u) > 0", "max(q) > 0", "sqrt() > 0", "abs(*q) > 0"]
)
def test_functions_take_exactly_their_arguments_and_nothing_is_written(text) -> None:
    with pytest.raises(ConfigError):
        Selection(text)


def test_a_selection_leaves_its_columns_as_they_are() -> None:
    before = {name: column.copy() for name, column in SMALL.items()}
    Selection("abs(q) + min(u, i) * -x > 0 | ok")(SMALL)
    assert all(np.array_equal(before[n], SMALL[n], equal_nan=n == "x") for n in SMALL)


@pytest.mark.parametrize(
    ("text", "kept", "undefined"),
    [
        ("x > 1", [1, 0], [0, 1]),
        ("~(x > 1)", [0, 1], [0, 1]),
        ("u / none > 1", [1, 1], [1, 1]),
        ("u % none == 0", [0, 0], [1, 1]),
        ("log(q) > 1", [0, 1], [1, 0]),
        ("isfinite(x)", [1, 0], [0, 0]),
    ],
)
def test_nan_and_division_by_zero_are_told(text, kept, undefined) -> None:
    keep, told = Selection(text).decide(SMALL)
    assert keep.astype(int).tolist() == kept
    assert told.astype(int).tolist() == undefined


@pytest.mark.parametrize("text", ["q > " + "9" * 6000, "(" * 500 + "q", "q > 1" + " + 1" * 4000, "q > 0\x00"])
def test_an_overlong_or_broken_expression_is_refused_in_one_line(text) -> None:
    with pytest.raises(ConfigError) as error:
        Selection(text)(SMALL)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_an_unknown_column_or_function_names_the_nearest(write, arrays) -> None:
    with pytest.raises(ConfigError, match=r"unknown function 'sqr'.*did you mean 'sqrt'"):
        Selection("sqr(pt) > 2")
    with pytest.raises(LayoutError, match=r"branch 'jet_p' not found.*did you mean 'jet_pt'"):
        read_jets(write(arrays), selection="jet_p > 500")


def test_removed_jets_are_counted(write, arrays) -> None:
    path, limit = write(arrays), float(np.median(arrays["jet_pt"]))
    dataset = JetDataset.open(path, selection=f"jet_pt > {limit}")
    assert len(dataset) == int((arrays["jet_pt"] > np.float32(limit)).sum())
    assert dataset.report.removed_by_selection == 60 - len(dataset)
    assert "removed by the selection" in str(dataset.report)


def test_jet_columns_that_a_file_lacks_follow_from_its_constituents(write, arrays) -> None:
    bare = {n: v for n, v in arrays.items() if not n.startswith("jet_")}
    assert len(read_jets(write(bare), selection="jet_nparticles > 0 & jet_mass >= 0")) == 60
