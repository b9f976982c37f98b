"""Scores are written to every kind of file with the same rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hepml.training.score_files import writer


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
