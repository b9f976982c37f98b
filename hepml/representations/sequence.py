"""The sequence view: the constituents of each jet by falling transverse momentum, for models that read them
in order.

Files usually have them so already, but a model must not depend on it. Constituents of exactly equal
transverse momentum keep the order they were given in, so a view is permutation invariant up to such ties.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from hepml.data.batch import JetBatch
from hepml.packed.rectangle import rows_in_dense
from hepml.packed.rectangular import mask_behind, rectangular


def order_by_pt(batch: JetBatch) -> Tensor:
    """Rows of the batch, [ΣN] int64, jet by jet and by falling transverse momentum within each."""
    square = _squares(batch)
    if _is_falling(square, batch):
        return torch.arange(len(square))
    order = torch.argsort(square, descending=True, stable=True)
    return order[torch.argsort(batch.jet_of[order], stable=True)]


def hardest(batch: JetBatch, most: int) -> Tensor:
    """Rows of the hardest constituents of each jet, [B, most] int64; any row of the batch where a jet has
    fewer.

    One search for the largest each, where `order_by_pt` would sort everything.
    """
    square, starts = _squares(batch), batch.offsets[:-1, None]
    mask = mask_behind(batch.offsets)
    if mask is not None:
        return starts + _order_in_rectangle(square, mask, most)[0]
    last = max(len(square) - 1, 0)
    if _is_falling(square, batch):
        return (starts + torch.arange(most, device=starts.device)).clamp_max(last)
    width = max(1, batch.max_count)
    table = square.new_full((len(batch) * width,), -1.0)
    table = table.index_copy_(0, rows_in_dense(batch.offsets, width), square).view(-1, width)
    positions = []
    for _ in range(most):
        at = table.argmax(dim=1, keepdim=True)  # the first of equal ones, as in a stable sort
        table.scatter_(1, at, -1.0)
        positions.append(at)
    return (starts + torch.cat(positions, dim=1)).clamp_max(last)


def _squares(batch: JetBatch) -> Tensor:
    """[ΣN] squares of the transverse momenta, for comparisons alone."""
    px, py = batch.four_momenta.detach()[:, 1:3].unbind(1)
    return px * px + py * py


def _is_falling(square: Tensor, batch: JetBatch) -> bool:
    """Whether each jet is known to be in order: on a CPU one look is cheaper than a sort, elsewhere it would
    wait for the device."""
    if square.device.type != "cpu":
        return False
    falling = square[1:] <= square[:-1]
    ends = batch.offsets[1:-1]  # a jet's first may be harder than the last of the jet before
    inner = ends[(ends > 0) & (ends < len(square))] - 1
    return bool(falling.index_fill_(0, inner, True).all())


def leading(batch: JetBatch, most: int | None = None) -> tuple[Tensor, Tensor]:
    """The leading constituents of each jet, by falling transverse momentum.

    Args:
        batch: B jets.
        most: constituents a jet that are kept; None keeps all.

    Returns:
        rows of the batch, [M] int64, and where each jet's begin and end among them, offsets [B + 1].
    """
    mask = mask_behind(batch.offsets)
    if mask is not None:
        columns, there = _order_in_rectangle(_squares(batch), mask, most)
        return (columns + batch.offsets[:-1, None]).flatten(), rectangular(there)
    order, offsets = order_by_pt(batch), batch.offsets
    if most is None or batch.max_count <= most:
        return order, offsets
    counts = batch.counts.clamp_max(most)
    kept = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    total = int(kept[-1])
    shift = torch.repeat_interleave(offsets[:-1] - kept[:-1], counts, output_size=total)
    return order[torch.arange(total, device=order.device) + shift], kept


def _order_in_rectangle(square: Tensor, mask: Tensor, most: int | None) -> tuple[Tensor, Tensor]:
    """Places in a jet by falling transverse momentum, absent constituents last, and which are there, [B,
    most] each; all N where `most` is None."""
    keys = square.view(mask.shape).masked_fill(~mask, -1.0)
    order = keys.sort(dim=1, descending=True, stable=True)[1]
    there = mask.gather(1, order)
    if most is None:
        return order, there
    return (torch.nn.functional.pad(t, (0, most))[:, :most] for t in (order, there))  # type: ignore[return-value]


def backwards(offsets: Tensor, total: int) -> Tensor:
    """Rows [M] int64 of packed sequences with offsets [B + 1] and M rows in all, each read from its last to
    its first."""
    ends = offsets[:-1] + offsets[1:] - 1
    return ends.repeat_interleave(offsets.diff(), output_size=total) - torch.arange(
        total, device=offsets.device
    )


def packed_sequence(values: Tensor, offsets: Tensor) -> tuple[PackedSequence, Tensor]:
    """Packed rows as torch's `PackedSequence`, which holds all first constituents, then all second ones and
    so on; never padded.

    Args:
        values: [ΣN, C], each jet's rows in the order they are to be read in.
        offsets: [B + 1].

    Returns:
        the sequences of the jets that have constituents, longest first, and the index [B'] of each one's jet.
    """
    counts = offsets.diff()
    lengths, jets = counts.sort(descending=True, stable=True)
    rank = torch.empty_like(jets)
    rank[jets] = torch.arange(len(jets), device=jets.device)
    on_host = lengths.cpu()
    longest = int(on_host[0]) if len(on_host) else 0
    alive = len(on_host) - torch.searchsorted(
        on_host.flip(0), torch.arange(1, longest + 1)
    )  # jets with a t-th constituent
    starts = torch.nn.functional.pad(alive.cumsum(0), (1, 0))[:-1].to(values.device)
    jet_of = torch.repeat_interleave(
        torch.arange(len(counts), device=counts.device), counts, output_size=len(values)
    )
    place = torch.arange(len(values), device=values.device) - offsets[:-1][jet_of]
    data = torch.empty_like(values).index_copy(0, starts[place] + rank[jet_of], values)
    return PackedSequence(data, alive), jets[: int(alive[0]) if longest else 0]
