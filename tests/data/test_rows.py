"""Jets copied whole out of packed columns are the jets taken row by row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from hepml.data import ragged
from hepml.data.ragged import Pieces
from hepml.data.rows import JetRows
from hepml.packed.segments import rows_in_order

JETS = [5, 0, 3, 3, 7, 1]


@pytest.fixture(autouse=True)
def always(monkeypatch) -> None:
    monkeypatch.setattr(ragged, "LARGE", 1)


@pytest.fixture
def offsets() -> torch.Tensor:
    counts = np.random.default_rng(1).integers(0, 9, 8)
    counts[3] = 0
    return torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.float16, torch.bool])
@pytest.mark.parametrize("row", [(), (1,), (2,), (4,), (17,), (3, 2), (0,)])
def test_jets_are_those_taken_row_by_row(offsets, dtype, row) -> None:
    column = (torch.rand(int(offsets[-1]), *row) * 100).to(dtype)
    jets = torch.tensor(JETS)
    rows = JetRows(offsets, jets)
    one_by_one = [column[offsets[j] : offsets[j + 1]] for j in JETS]
    assert torch.equal(rows.of(column), torch.cat(one_by_one))
    assert rows.offsets.tolist() == np.concatenate([[0], np.cumsum([len(c) for c in one_by_one])]).tolist()
    assert JetRows(offsets, jets[:0]).of(column).shape == (0, *row)


@pytest.mark.parametrize("jets", [JETS, []])
def test_the_rows_that_an_accelerator_takes_are_those_of_the_copies(offsets, jets) -> None:
    rows, own = rows_in_order(offsets, torch.tensor(jets, dtype=torch.int64))
    pieces = Pieces(offsets.numpy(), np.array(jets, dtype=np.int64))
    assert rows.tolist() == pieces.rows.tolist()
    assert own.tolist() == pieces.offsets.tolist()


def test_columns_of_every_make_are_taken(offsets) -> None:
    """A view of some columns, one that does not begin at a whole number, one that gradients flow through."""
    total, jets = int(offsets[-1]), torch.tensor(JETS)
    rows = torch.cat([torch.arange(int(offsets[j]), int(offsets[j + 1])) for j in JETS])
    wide = torch.rand(total, 5)
    shifted = torch.rand(total * 4 + 1)[1:].reshape(total, 4)
    for column in (wide[:, 1:3], shifted, wide.bfloat16(), wide.clone().requires_grad_()):
        assert torch.equal(JetRows(offsets, jets).of(column), column[rows])


def test_large_columns_are_copied_by_jets(offsets) -> None:
    """Rows are not even counted then."""
    pieces = Pieces(offsets.numpy(), np.arange(len(offsets) - 1))
    column = np.random.default_rng(2).random((int(offsets[-1]), 17)).astype(np.float32)
    assert np.array_equal(pieces.of(column), column)
    assert "rows" not in vars(pieces)


@pytest.mark.parametrize("rows", [10, 200_000])
@pytest.mark.parametrize("offsets", [[0, 3, 999_999], [-2, 3, 5], [0, 5, 2]])
def test_offsets_that_lead_elsewhere_are_refused(offsets, rows) -> None:
    with pytest.raises((IndexError, ValueError)):
        Pieces(np.array(offsets), np.array([1, 0])).of(np.ones((rows, 4), dtype=np.float32))


def test_pieces_of_many_threads_do_not_mix(offsets) -> None:
    """Memory that the copying needs besides is shared."""
    column = np.random.default_rng(3).random((int(offsets[-1]), 17)).astype(np.float32)

    def same(seed: int) -> bool:
        which = np.random.default_rng(seed).permutation(len(offsets) - 1)[: 50 * seed]
        pieces = Pieces(offsets.numpy(), which)
        return np.array_equal(pieces.of(column), column[pieces.rows])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(same, range(1, 9)))
