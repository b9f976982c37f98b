"""Batches and data sets show themselves in a few lines, and as a small table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.reading.reader import read_jets
from hepml.errors import DataError


@pytest.fixture(scope="module")
def batch(toy_files: dict[str, Path]) -> JetBatch:
    return JetBatch.from_awkward(read_jets(toy_files["val"]))


def test_a_batch_shows_itself_in_fewer_than_twelve_lines(batch: JetBatch) -> None:
    for jets in (batch, batch[:0], batch[3]):
        lines = repr(jets).splitlines()
        assert lines[0].startswith(f"JetBatch of {len(jets)} jet")
        assert len(lines) < 12
        assert max(map(len, lines)) <= 130
        assert "<table>" in jets._repr_html_()
    assert "<svg" in batch._repr_html_()


def test_a_data_set_shows_itself_and_what_was_read(toy_files: dict[str, Path]) -> None:
    data = JetDataset.open(toy_files["val"], Inputs(features=("log_pt",)))
    assert len(repr(data).splitlines()) < 12
    assert repr(data).startswith("JetDataset of 200 jets")
    assert "200 of 200" in repr(data)
    assert "<table>" in data._repr_html_()


def test_slices_are_views_and_pieces_join_to_the_whole(batch: JetBatch) -> None:
    piece = batch[2:5]
    assert piece.four_momenta.untyped_storage().data_ptr() == batch.four_momenta.untyped_storage().data_ptr()
    assert torch.equal(piece.four_momenta, batch.take([2, 3, 4]).four_momenta)
    whole = JetBatch.concatenate([batch[:7], batch[7], batch[8:8], batch[8:]])
    assert torch.equal(whole.offsets, batch.offsets)
    assert torch.equal(whole.labels, batch.labels)
    assert all(torch.equal(whole.raw[n], batch.raw[n]) for n in batch.raw)
    assert torch.equal(batch[-1].four_momenta, batch[len(batch) - 1].four_momenta)
    assert len(batch[np.arange(len(batch)) % 2 == 0]) == len(batch) // 2
    with pytest.raises(IndexError):
        batch[len(batch)]
    with pytest.raises(DataError, match="different jet_features"):
        JetBatch.concatenate([batch[:2], JetBatch.from_arrays(batch.four_momenta, batch.offsets)])
