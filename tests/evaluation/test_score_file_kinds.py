"""Scores are written to every kind of file with the same rows, and read from it as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hepml.errors import HepmlError
from hepml.evaluation.score_files import read_scores, writer

SUFFIXES = [".root", ".npz", ".parquet", ".csv", ".h5"]


def write(path: Path) -> np.ndarray:
    rng = np.random.default_rng(1)
    scores = rng.random((6, 2)).astype(np.float32)
    with writer(path) as sink:
        for rows in (slice(0, 3), slice(3, 6)):
            sink.add(
                {
                    "score_QCD": scores[rows, 0],
                    "score_top": scores[rows, 1],
                    "label_QCD": np.array([1, 0, 1]),
                    "label_top": np.array([0, 1, 0]),
                    "weights": np.full(3, 0.5),
                }
            )
    return scores


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_scores_are_read_as_they_were_written(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"scores{suffix}"
    scores = write(path)
    sheet = read_scores(path)
    assert sheet.classes == ("QCD", "top")
    assert np.array_equal(np.asarray(sheet.scores, dtype=np.float32), scores)
    assert list(sheet.labels) == [0, 1, 0, 0, 1, 0]
    assert np.array_equal(np.asarray(sheet.weights), np.full(6, 0.5))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".h5"])
def test_chunks_become_the_rows_of_one_table(suffix: str, tmp_path: Path) -> None:
    import pandas

    path = tmp_path / f"scores{suffix}"
    with writer(path) as sink:
        for start in (0, 3):
            sink.add({"score_top": np.arange(start, start + 3, dtype=np.float32), "entry": np.arange(3)})
    if suffix == ".parquet":
        found = pandas.read_parquet(path)
    elif suffix == ".csv":
        found = pandas.read_csv(path)
    else:
        import tables

        with tables.open_file(str(path)) as file:
            found = pandas.DataFrame(file.root.jets.read())
    assert list(found["score_top"]) == [0, 1, 2, 3, 4, 5]
    assert list(found["entry"]) == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_half_a_file_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"scores{suffix}"
    write(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 + 3] if suffix != ".csv" else data[:-20])
    with pytest.raises(HepmlError):
        read_scores(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_name_that_is_not_there_is_refused(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(HepmlError, match="no such file"):
        read_scores(tmp_path / f"scores{suffix}")
