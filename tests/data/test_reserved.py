"""Columns grow where they are: the same rows whatever was foretold, and views of them stay whole."""

from __future__ import annotations

import mmap
import resource

import numpy as np
import pytest

from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.reserved import GrowingArray, GrowingColumns


@pytest.mark.parametrize("expected", [0, 7, 40, 1000])
@pytest.mark.parametrize("keep_views", [False, True])
@pytest.mark.parametrize("large", [1, 1 << 22])
def test_rows_are_the_same_whatever_was_foretold(expected, keep_views, large, monkeypatch) -> None:
    monkeypatch.setattr("hepml.data.reserved._LARGE", large)
    rows = np.random.default_rng(1).random((40, 3)).astype(np.float32)
    column, views = GrowingArray((3,), np.float32), []
    for first in range(0, 40, 7):
        place = column.room(len(rows[first : first + 7]), expected)
        place[:] = rows[first : first + 7]
        column.append(place, expected)
        if keep_views:  # memory that somebody views must not be moved
            views.append((first, place))
        del place
    whole = column.finish()
    assert np.array_equal(whole, rows)
    for first, view in views:
        assert np.array_equal(view, rows[first : first + 7])


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="only Linux moves mappings by their pages")
def test_a_large_column_grows_without_its_pages_being_touched_again() -> None:
    """A file whose first jets are short foretells too little."""
    size = 1 << 24
    column, whole = GrowingArray((4,), np.float32), np.ones((size // 16, 4), dtype=np.float32)
    for expected in (len(whole), 2 * len(whole)):
        column.append(whole, expected)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    column.room(4 * len(whole))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < size / mmap.PAGESIZE / 4
    assert np.array_equal(column.finish(), np.concatenate([whole, whole]))


def test_a_column_that_one_chunk_lacks_is_left_out() -> None:
    columns = GrowingColumns(4)
    for reached, weights in ((2, np.ones(2)), (4, None)):
        columns.reached = reached
        columns.append({"labels": np.arange(2), "weights": weights})
    made = columns.finish()
    assert made["weights"] is None
    assert made["labels"].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("step", [1, 7, 11, 60])
def test_jets_are_the_same_however_a_basket_is_cut(write, arrays, monkeypatch, step) -> None:
    """A basket that spans several chunks is decompressed once and kept until it is used up."""
    whole = JetDataset.open(write(arrays), Inputs(features=("log_pt", "delta_eta", "charge")))
    monkeypatch.setattr("hepml.data.reading.tree_reader.IN_CACHE", step)
    for baskets in (1, 3):
        cut = JetDataset.open(write(arrays, baskets=baskets), Inputs(features=whole.feature_names))
        assert cut.digest == whole.digest
        assert np.array_equal(cut.entries, whole.entries)


def test_read_jets_holds_the_jets_once_and_says_when_they_are_many(write, arrays, monkeypatch) -> None:
    import hepml

    path = write(arrays, baskets=6)
    monkeypatch.setattr("hepml.data.reading.tree_reader.IN_CACHE", 10)
    cut = hepml.read_jets(path)
    monkeypatch.undo()
    whole = hepml.read_jets(path)
    assert cut.fields == whole.fields
    assert cut.tolist() == whole.tolist()
    monkeypatch.setattr("hepml.data.reading.reader.MANY", 1000)
    with pytest.warns(UserWarning, match=r"take about .* GB of memory; hepml.data.iterate_jets"):
        hepml.read_jets(path)
