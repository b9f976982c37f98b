"""Kinds of bad (and of odd but good) input, one file each in every format that can hold it, and what becomes
of it.

Each kind changes a good file in one way and says which jets are still good. Reading must give exactly those,
with their own values, the others being dropped and counted (or refused); anything else is wrong.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from toys import toy_arrays

from hepml.data.reading.reader import iterate_chunks
from hepml.data.reading.report import DataReport
from hepml.errors import HepmlError

JETS, BAD = 12, 5
FORMATS = ("TTree", "RNTuple", "npz", "Parquet")
MOMENTUM = ("energy", "px", "py", "pz")
Arrays = dict[str, Any]
LAYOUT = {
    "constituents": {n: f"part_{n}" for n in MOMENTUM},
    "label": "label",
    "classes": ["QCD", "top"],
    "weight": "weight",
}


@dataclass(frozen=True)
class Kind:
    """One way in which input may be bad or odd.

    Args:
        group: what of the jets it is about.
        name: of it.
        change: the arrays of a good file -> those of this one.
        bad: whether one jet, `BAD`, is of no use then; else all are good.
        formats: that can hold it.
    """

    group: str
    name: str
    change: Callable[[Arrays], Arrays]
    bad: bool = False
    formats: tuple[str, ...] = field(default=FORMATS)


def good() -> Arrays:
    """A good file's arrays: momenta of constituents, a label, a weight and a further number."""
    arrays = toy_arrays(JETS, seed=9)
    draw = np.random.default_rng(9)
    return {
        **{f"part_{n}": arrays[f"part_{n}"] for n in MOMENTUM},
        "label": (np.arange(JETS) % 2).astype(np.int32),
        "weight": draw.integers(1, 5, JETS).astype(np.float32),
        "target": draw.integers(1, 90, JETS).astype(np.float32),
    }


def write(path: Path, kind: str, arrays: Arrays) -> None:
    """Writes the arrays in a format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "TTree":
            with uproot.recreate(path) as file:
                file["tree"] = arrays
        elif kind == "RNTuple":
            with uproot.recreate(path) as file:
                file.mkrntuple("tree", {n: ak.Array(v) for n, v in arrays.items()})
        elif kind == "Parquet":
            import pyarrow
            import pyarrow.parquet

            columns = {n: ak.Array(v).to_list() if isinstance(v, ak.Array) else v for n, v in arrays.items()}
            columns = {n: v.tolist() if getattr(v, "ndim", 1) > 1 else v for n, v in columns.items()}
            pyarrow.parquet.write_table(pyarrow.table(columns), path)
        else:
            counts = ak.num(arrays["part_px"])
            four = [np.asarray(ak.flatten(arrays[f"part_{n}"])) for n in MOMENTUM]
            rest = {n: np.asarray(v) for n, v in arrays.items() if not n.startswith("part_")}
            np.savez(
                path,
                four_momenta=np.stack(four, 1),
                offsets=np.concatenate([[0], np.cumsum(counts)]),
                labels=rest.pop("label"),
                weights=rest.pop("weight"),
                classes=np.array(["QCD", "top"]),
                **rest,
            )


def cases() -> Iterator[tuple[Kind, str]]:
    """Every kind in every format."""
    for kind in KINDS:
        for name in kind.formats:
            yield kind, name


def outcome(kind: Kind, name: str, folder: Path) -> str:
    """`read right`, `screened` (the bad jet is dropped and counted), `refused`, or `wrong: …`."""
    path = folder / {"TTree": "a.root", "RNTuple": "b.root", "npz": "c.npz", "Parquet": "d.parquet"}[name]
    arrays, truth = kind.change(good()), good()
    write(path, name, arrays)
    report = DataReport()
    layout = None if name == "npz" else LAYOUT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chunks = list(
                iterate_chunks(
                    path,
                    layout,
                    bad="drop",
                    finite=("target",),
                    jet_columns=["target"],
                    report=report,
                    essential=("target",),
                )
            )
    except HepmlError as problem:
        text = str(problem)
        return "refused" if text and "\n" not in text and problem.exit_code == 2 else f"wrong: says {text!r}"
    except Exception as problem:
        return f"wrong: {type(problem).__name__}: {problem}"
    entries = np.concatenate([c.entries for c in chunks]) if chunks else np.zeros(0, int)
    labels = np.concatenate([c.labels for c in chunks])
    # a label that is none is told by a number below zero, which training refuses and counts
    used = {int(e): i for i, e in enumerate(entries) if labels[i] >= 0}
    expected = [i for i in range(JETS) if not (kind.bad and i == BAD)]
    if sorted(used) != expected:
        return f"wrong: jets {sorted(used)} are read, {expected} are good"
    if kind.bad and len(entries) < JETS and report.dropped_bad != JETS - len(entries):
        return f"wrong: {JETS - len(entries)} jets are gone, {report.dropped_bad} counted"
    problem = _differs(chunks, truth, kind)
    return problem or ("screened" if kind.bad else "read right")


def _differs(chunks: list[Any], truth: Arrays, kind: Kind) -> str | None:
    for chunk in chunks:
        for i, entry in enumerate(chunk.entries):
            if kind.bad and entry == BAD:
                continue
            rows = slice(int(chunk.offsets[i]), int(chunk.offsets[i + 1]))
            for n in MOMENTUM:
                want = np.asarray(truth[f"part_{n}"][entry], dtype=np.float32)
                if not np.array_equal(chunk.constituents[n][rows], want):
                    return f"wrong: {n} of jet {entry}"
            for what, got, want in (
                ("label", chunk.labels[i], truth["label"][entry]),
                ("weight", chunk.weights[i], truth["weight"][entry]),
                ("target", chunk.jets["target"][i], truth["target"][entry]),
            ):
                if float(got) != float(want) and f"{what} of one jet" not in kind.name:
                    return f"wrong: {what} of jet {entry} is {got}, not {want}"
    return None


# ------------------------------------------------------------------------------------------------------------
# the kinds


def _at(name: str, value: Any, dtype: Any = None) -> Callable[[Arrays], Arrays]:
    """One value of a jet column becomes another."""

    def change(arrays: Arrays) -> Arrays:
        values = np.array(arrays[name], dtype=dtype or arrays[name].dtype)
        values[BAD] = value
        return arrays | {name: values}

    return change


def _typed(name: str, dtype: Any) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {name: arrays[name].astype(dtype)}


def _whole(name: str, make: Callable[[np.ndarray], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {name: make(arrays[name])}


def _first(value: Any, *names: str) -> Callable[[Arrays], Arrays]:
    """The first constituent of the bad jet gets another value in these columns."""

    def change(arrays: Arrays) -> Arrays:
        out = dict(arrays)
        for name in names:
            column = arrays[f"part_{name}"]
            flat, counts = np.asarray(ak.flatten(column)).copy(), ak.num(column)
            flat[int(np.sum(counts[:BAD]))] = (
                value(flat[int(np.sum(counts[:BAD]))]) if callable(value) else value
            )
            out[f"part_{name}"] = ak.unflatten(flat, counts)
        return out

    return change


def _padded(arrays: Arrays) -> Arrays:
    zeros = ak.Array(np.zeros((JETS, 3), dtype=np.float32))
    return arrays | {f"part_{n}": ak.concatenate([arrays[f"part_{n}"], zeros], axis=1) for n in MOMENTUM}


def _uneven(arrays: Arrays) -> Arrays:
    px = arrays["part_px"]
    moved = ak.unflatten(ak.flatten(px), np.roll(np.asarray(ak.num(px)), 1))
    return arrays | {"part_px": moved}


def _doubles(arrays: Arrays) -> Arrays:
    return arrays | {f"part_{n}": ak.values_astype(arrays[f"part_{n}"], np.float64) for n in MOMENTUM}


def _fixed_list(values: np.ndarray) -> np.ndarray:
    return np.stack([values, values + 1, values + 2], 1)


def _ragged_list(values: np.ndarray) -> ak.Array:
    return ak.unflatten(np.repeat(values, 2), 2)


TREES = ("TTree", "RNTuple", "Parquet")
LARGE = 2**40
KINDS: tuple[Kind, ...] = (
    Kind("whole", "as it should be", lambda arrays: arrays),
    *(
        Kind(f"{what} of a type", f"{what}: {np.dtype(kind).name}", _typed(what, kind), formats=formats)
        for what in ("weight", "target", "label")
        for kind, formats in (
            ("int8", FORMATS),
            ("uint8", FORMATS),
            ("int16", FORMATS),
            ("uint32", FORMATS),
            ("int64", FORMATS),
            ("uint64", FORMATS),
            ("float32", FORMATS),
            ("float64", FORMATS),
            ("float16", ("npz", "Parquet")),
            (">f8", ("npz",)),
            (">i4", ("npz",)),
        )
    ),
    Kind("label of a type", "label: bool", _typed("label", bool)),
    *(
        Kind(f"{what} of one jet", f"{what} of one jet: {value}", _at(what, value, np.float64), bad=True)
        for what in ("weight", "target")
        for value in (np.nan, np.inf, -np.inf)
    ),
    *(
        Kind(f"{what} of one jet", f"{what} of one jet: {value:g}", _at(what, value, np.float64))
        for what in ("weight", "target")
        for value in (-99.0, -1.0, 0.0, 1e9)
    ),
    *(
        Kind("label of one jet", f"label of one jet: {value}", _at("label", value, kind), bad=True)
        for value, kind in (
            (0.5, np.float64),
            (np.nan, np.float64),
            (-1, np.int64),
            (-99, np.int64),
            (2, np.int64),
            (LARGE, np.int64),
            (2**62, np.int64),
            (1e300, np.float64),
            (255, np.uint8),
        )
    ),
    *(
        Kind(f"{what} as a list", f"{what}: {name}", _whole(what, make), bad=True, formats=formats)
        for what in ("weight", "target", "label")
        for name, make, formats in (
            ("array of 3", _fixed_list, ("TTree", "npz", "Parquet")),
            ("array of 1", lambda v: v[:, None], ("TTree", "npz", "Parquet")),
            ("list of 2", _ragged_list, TREES),
            ("list of 1", lambda v: ak.unflatten(v, 1), TREES),
            ("text", lambda v: np.array([str(x) for x in v]), ("npz", "Parquet")),
        )
    ),
    *(
        Kind(
            f"{what} missing",
            f"{what}: null of one jet",
            _whole(what, lambda v: [None if i == BAD else float(x) for i, x in enumerate(v)]),
            bad=True,
            formats=("Parquet",),
        )
        for what in ("weight", "target", "label")
    ),
    *(
        Kind("constituent", name, change, bad=True)
        for name, change in (
            ("px NaN", _first(np.nan, "px")),
            ("energy infinite", _first(np.inf, "energy")),
            ("energy below momentum", _first(lambda e: e / 2, "energy")),
            ("negative energy", _first(lambda e: -e, "energy")),
            ("no transverse momentum", _first(0.0, "px", "py")),
            ("|eta| above 10", _first(1e7, "pz", "energy")),
            ("-999 everywhere", _first(-999.0, *MOMENTUM)),
            ("1e9 as pz", _first(1e9, "pz")),
        )
    ),
    Kind("constituent", "rows of zeros (padding)", _padded),
    Kind("constituent", "float64", _doubles),
    Kind("lists", "of other lengths", _uneven, bad=True, formats=TREES),
    Kind(
        "lists", "one number a jet", _whole("part_px", lambda v: np.asarray(v[:, 0])), bad=True, formats=TREES
    ),
    Kind(
        "lists",
        "lists of lists",
        _whole("part_px", lambda v: ak.unflatten(v, np.asarray(ak.num(v) * 0 + 1).repeat(ak.num(v)), axis=1)),
        bad=True,
        formats=("RNTuple", "Parquet"),
    ),
    *(
        Kind(
            "column not there",
            name,
            lambda arrays, n=name: {k: v for k, v in arrays.items() if k != n},
            bad=True,
            formats=TREES if name != "target" else FORMATS,
        )
        for name in ("part_px", "part_energy", "label", "weight", "target")
    ),
)
