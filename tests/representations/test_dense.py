"""The dense view and the way back."""

import torch
from padded import dense_features

from hepml.data.batch import JetBatch
from hepml.packed.rectangle import mask_of, to_dense, to_packed

OFFSETS = torch.tensor([0, 3, 3, 4, 9])


def test_dense_rows_are_each_jets_own_then_padding() -> None:
    x = torch.randn(9, 2)
    dense, mask = to_dense(x, OFFSETS, 6, fill=-7.0), mask_of(OFFSETS, 6)
    assert dense.shape == (4, 6, 2)
    for jet, (low, high) in enumerate(zip(OFFSETS[:-1].tolist(), OFFSETS[1:].tolist(), strict=True)):
        assert torch.equal(dense[jet, : high - low], x[low:high])
        assert (dense[jet, high - low :] == -7.0).all()
        assert mask[jet].tolist() == [i < high - low for i in range(6)]


def test_packing_the_dense_view_gives_the_packed_rows_and_their_gradients() -> None:
    x = torch.randn(9, 2, requires_grad=True)
    back = to_packed(to_dense(x, OFFSETS), OFFSETS)
    assert torch.equal(back, x)
    (3 * back).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 3.0))


def test_no_jets_and_no_constituents_have_a_dense_view() -> None:
    assert to_dense(torch.zeros(0, 2), torch.tensor([0])).shape == (0, 0, 2)
    assert to_dense(torch.zeros(0, 2), torch.tensor([0, 0, 0])).shape == (2, 0, 2)


def test_named_features_are_padded_to_the_largest_jet_of_the_batch() -> None:
    p = torch.rand(9, 4) + torch.tensor([3.0, 0.0, 0.0, 0.0])
    batch = JetBatch.from_arrays(p, OFFSETS)
    x, mask = dense_features(batch, ("log_pt", "delta_eta"))
    assert x.shape == (4, 5, 2)
    assert torch.equal(x[mask], batch.select(("log_pt", "delta_eta")))
    assert (x[~mask] == 0).all()
