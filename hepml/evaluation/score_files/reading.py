"""Reading scores: an npz with `labels` and one score array a tagger, or a table that `hepml predict` wrote
(ROOT, npz, parquet, csv, HDF5).

The first form is how groups exchange scores on a common test set; the second carries `score_CLASS` columns
beside the jets' own, from which the labels are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepml.data.reading.arrays import names_in, one_number_a_jet, read_arrays, whole_labels
from hepml.data.reading.per_jet import one_hot_labels
from hepml.errors import DataError, FileError, LayoutError, did_you_mean
from hepml.evaluation.multiclass import bare_name
from hepml.evaluation.score_files.writing import H5_TABLE

_SCORE = "score_"
_LABELS = ("labels", "label")
_WEIGHTS = ("weights", "weight")
_KNOWN = (_SCORE, *_LABELS, *_WEIGHTS)
_NO_TAGGER = frozenset({*_LABELS, *_WEIGHTS, "classes", "index", "entry", "file_index", "fold"})


@dataclass(frozen=True)
class ScoreSheet:
    """The contents of a file of scores.

    Args:
        labels: class index of each jet, [N].
        taggers: {name: scores [N] or [N, C]}.
        weights: [N], or None.
        classes: names of the classes, or None.
    """

    labels: NDArray[Any]
    taggers: dict[str, NDArray[Any]] = field(default_factory=dict)
    weights: NDArray[Any] | None = None
    classes: tuple[str, ...] | None = None

    @property
    def scores(self) -> NDArray[Any]:
        """The scores of the only tagger (of the first where there are several), [N] or [N, C]."""
        return next(iter(self.taggers.values()))

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(scores.shape)}" for name, scores in self.taggers.items())
        classes = "" if self.classes is None else f", classes {', '.join(self.classes)}"
        weighted = "" if self.weights is None else ", weighted"
        return f"ScoreSheet({len(self.labels):,} jets, scores: {shapes}{classes}{weighted})"


def read_scores(path: str | PathLike[str]) -> ScoreSheet:
    """Reads a file of scores; in a .npz every array with one row a jet beside `labels`, `weights` and
    `classes` is a tagger.

    Raises:
        FileError: missing, damaged, or of a kind that holds no scores.
        LayoutError: no labels or no scores in it.
        DataError: arrays of different lengths, or labels of which not exactly one is set.
    """
    where = Path(path)
    read = _READERS.get(where.suffix)
    if read is not None and not where.is_file():
        raise _missing(where)
    columns = read(where) if read is not None else _read_root(str(path))
    name = (
        where.stem if read is not None or where.suffix == ".root" else Path(str(path).split(".root")[0]).name
    )
    if any(key.startswith(_SCORE) for key in columns):
        return _predicted(columns, name, str(path))
    key = next((k for k in _LABELS if k in columns), None)
    if key is None:
        raise LayoutError(
            "array 'labels' not found",
            where=str(path),
            mend=did_you_mean("labels", columns, noun="arrays at hand"),
        )
    taggers = {k: v for k, v in columns.items() if k not in _NO_TAGGER}
    if not taggers:
        raise LayoutError(
            "no scores beside the labels", where=str(path), mend="add one array of scores a tagger"
        )
    classes = names_in(columns, str(path))
    labels = _labels(columns[key], str(path))
    for tagger, scores in taggers.items():
        if scores.ndim == 0 or len(scores) != len(labels):
            count = "a single number" if scores.ndim == 0 else f"{len(scores)} scores"
            raise DataError(
                f"tagger '{tagger}' has {count}, there are {len(labels)} labels",
                where=str(path),
                mend="give one score a jet",
            )
        if scores.ndim > 2 or scores.dtype.kind not in "iufb":
            raise DataError(
                f"tagger '{tagger}' has scores of shape {scores.shape} and type {scores.dtype}",
                where=str(path),
                mend="give one number a jet, or one a jet and class",
            )
    return ScoreSheet(labels, taggers, _weights(columns, len(labels), str(path)), classes)


def _predicted(columns: Mapping[str, NDArray[Any]], name: str, where: str) -> ScoreSheet:
    """Scores by class, and labels from the jets' own columns."""
    classes = tuple(key.removeprefix(_SCORE) for key in columns if key.startswith(_SCORE))
    lengths = {len(columns[_SCORE + c]) if columns[_SCORE + c].ndim == 1 else -1 for c in classes}
    if len(lengths) > 1 or -1 in lengths:
        raise DataError("the columns of scores differ in length", where=where, mend="score the jets again")
    scores = np.stack([columns[_SCORE + c] for c in classes], axis=1)
    key = next((k for k in _LABELS if k in columns), None)
    weights = _weights(columns, len(scores), where)
    if key is not None:
        return ScoreSheet(_labels(columns[key], where), {name: scores}, weights, classes)
    one_hot = []
    for c in classes:
        column = next((k for k in (c, f"label_{bare_name(c)}", bare_name(c)) if k in columns), None)
        if column is None:
            raise LayoutError(
                f"no column says which jets are of class '{c}'",
                where=where,
                mend="score files with labels, or give the jets themselves: hepml evaluate RUN FILES",
            )
        one_hot.append(one_number_a_jet(columns[column], f"column '{column}'", len(scores), where))
    truth = one_hot_labels(one_hot, len(scores))
    odd = np.flatnonzero(truth < 0)
    if len(odd):
        raise DataError(
            f"{len(odd)} of {len(truth)} jets are not of exactly one of the classes {', '.join(classes)}, "
            f"the first is jet {odd[0]}",
            where=where,
            mend="give the jets themselves, hepml evaluate RUN FILES, which leaves other classes out",
        )
    return ScoreSheet(truth, {name: scores}, weights, classes)


def _labels(given: NDArray[Any], where: str) -> NDArray[Any]:
    return whole_labels(given, given.shape[0] if given.ndim else 0, None, where)


def _weights(columns: Mapping[str, NDArray[Any]], jets: int, where: str) -> NDArray[Any] | None:
    column = next((columns[k] for k in _WEIGHTS if k in columns), None)
    return None if column is None else one_number_a_jet(column, "weights", jets, where)


def _missing(path: Path) -> FileError:
    folder = path.parent if path.parent.is_dir() else Path()
    beside = [p.name for p in folder.glob(f"*{path.suffix}")]
    kind = f"{path.suffix.removeprefix('.')} file"
    none = f"there is no {kind} beside it"
    mend = did_you_mean(path.name, beside, noun=f"{kind}s there") if beside else none
    return FileError("no such file", where=str(path), mend=mend)


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    columns = read_arrays(path)
    odd = next((name for name, values in columns.items() if values.dtype.kind not in "iufbUS"), None)
    if odd is not None:
        raise DataError(
            f"array '{odd}' has type {columns[odd].dtype}", where=str(path), mend="give numbers, or names"
        )
    return columns


def _read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    import pandas

    return _of_frame(path, lambda: pandas.read_parquet(path))


def _read_csv(path: Path) -> dict[str, NDArray[Any]]:
    import csv

    import pandas

    try:
        with path.open(newline="") as stream:
            names = next(csv.reader(stream), [])
    except (OSError, ValueError, csv.Error) as problem:
        raise _damaged(path, problem) from problem
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:  # pandas would call the second NAME.1, another class
        raise LayoutError(f"two columns are called '{twice}'", where=str(path), mend="name each column once")
    return _of_frame(path, lambda: pandas.read_csv(path))


def _of_frame(path: Path, read: Callable[[], Any]) -> dict[str, NDArray[Any]]:
    """The columns of a table that pandas reads; those that are no numbers are left out."""
    try:
        frame = read()
    except Exception as problem:
        raise _damaged(path, problem) from problem
    missing = [str(name) for name in frame.columns[frame.isna().any()] if str(name).startswith(_KNOWN)]
    if missing:
        raise DataError(
            f"column '{missing[0]}' has rows without a number", where=str(path), mend="score the jets again"
        )
    columns = {str(name): frame[name].to_numpy() for name in frame.columns}
    return {name: values for name, values in columns.items() if values.dtype.kind in "iufb"}


def _read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    from hepml.data.formats.hdf5_frame import open_h5py

    with open_h5py(str(path)) as file:
        table = file.get(H5_TABLE)
        if getattr(getattr(table, "dtype", None), "names", None) is None:
            raise LayoutError(
                f"no table '{H5_TABLE}' in it",
                where=str(path),
                mend="give a file that hepml predict wrote, or score these jets: hepml evaluate RUN FILES",
            )
        try:
            rows = table[:]
        except Exception as problem:
            raise _damaged(path, problem) from problem
    return {name: rows[name] for name in rows.dtype.names if rows[name].dtype.kind in "iufb"}


def _damaged(path: Path, problem: Exception) -> FileError:
    said = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
    return FileError(f"it cannot be read ({said})", where=str(path), mend="score the jets again")


def _read_root(path: str) -> dict[str, NDArray[Any]]:
    from hepml.data.reading.sources import expand, open_root, open_tree, refusing_damage

    sources = expand(path)
    if len(sources) != 1:
        raise FileError(f"{len(sources)} files, not one", where=path, mend="name one file of scores")
    with open_root(sources[0]) as file, refusing_damage(str(sources[0])):
        _, tree = open_tree(file, sources[0])
        keys = list(tree.keys())
        wanted = [key for key in keys if key.startswith((_SCORE, "label", *_WEIGHTS))]
        classes = [key.removeprefix(_SCORE) for key in wanted if key.startswith(_SCORE)]
        if not classes:
            raise LayoutError(
                "no column score_CLASS",
                where=path,
                mend="give a file that hepml predict wrote, or score these jets: hepml evaluate RUN " + path,
            )
        wanted += [c for c in keys if c in classes and c not in wanted]
        columns: dict[str, NDArray[Any]] = tree.arrays(wanted, library="np")
    return {key: values for key, values in columns.items() if values.dtype != object}


_READERS: dict[str, Callable[[Path], dict[str, NDArray[Any]]]] = {
    ".npz": _read_npz,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".h5": _read_hdf5,
}
