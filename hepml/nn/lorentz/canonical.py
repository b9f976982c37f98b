"""Features of a jet's constituents in their local frames, for the networks that read them (LLoCa,
arXiv:2505.20280).

A frame network is given momenta in the jet's rest frame and the reference vectors beside them; its vectors
make the frames (`hepml.nn.lorentz.frames`), and features that follow from momenta are computed from what each
constituent sees. All of it is done in float64, outside of autocast: products and boosts of momenta need the
digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.nn import kernels
from hepml.nn.lorentz.frames import FrameNetwork
from hepml.nn.lorentz.products import gram_matrix
from hepml.nn.lorentz.rest_frame import RestFrames, to_rest_frame
from hepml.packed.rectangle import mask_of, to_dense, to_packed
from hepml.packed.rectangular import known_mask, mask_behind, rectangular
from hepml.packed.segments import rows_in_order, segment_sum

# Pairs of a group of jets on a CPU, for each thread, and elsewhere: some twenty tensors of so many float64
# numbers are made.
_PAIRS, _MANY_PAIRS = 2**14, 2**20


# Jets, their offsets from zero, their rows, and constituents of the largest.
_Part = tuple[slice, Tensor, slice, int]


def follows_from_momenta(name: str) -> bool:
    """Whether a constituent feature of that name changes with the frame."""
    return bool(set(feature_table.lookup(name).needs) & set(feature_table.MOMENTUM_COLUMNS))


def frame_vectors(
    network: FrameNetwork, batch: JetBatch, references: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What frames are made of.

    Args:
        network: that predicts vectors; one scalar a reference vector.
        batch: jets.
        references: [R, 4] the same for all jets, in the frame of their momenta.

    Returns:
        momenta [ΣN, 4] in the jets' rest frames, three vectors [ΣN, 3, 4] for each, and the jets [B, 4]
        there: float64.
    """
    # in float64 throughout: a massless momentum that float32 rounded again has a mass, and a frame shows it
    momenta, rest = to_rest_frame(batch.four_momenta, batch.offsets, torch.float64)
    jets = segment_sum(momenta, batch.offsets)
    if mask_behind(batch.offsets) is not None:
        return momenta, _in_rectangle(network, batch, references, momenta, rest, jets), jets
    count, extra = len(batch), len(references)
    each = extra * torch.arange(count + 1, device=batch.device)
    fixed = rest.boost(references.to(momenta).repeat(count, 1), each).view(count, extra, 4)
    order = torch.argsort(batch.counts, stable=True)
    rows, offsets = rows_in_order(batch.offsets, order, len(momenta))
    x, p = batch.four_momenta[rows], momenta[rows]
    parts = []
    if kernels.allows("pieces", batch.four_momenta, accelerator=True, autocast=True):
        groups = _groups(offsets, extra, batch.device)
    else:
        groups = iter([(slice(0, count), offsets, slice(0, len(p)), max(1, batch.max_count))])
    for these, own, at, width in groups if count else ():
        which = order[these]
        gram_rows = torch.cat(
            (references.to(x).expand(len(which), extra, 4), to_dense(x[at], own, width)), dim=1
        )
        exact = torch.arange(extra + width, device=x.device).expand(len(which), -1) < extra
        vectors = network.dense(
            torch.cat((fixed[which], to_dense(p[at], own, width)), dim=1),
            torch.eye(extra + width, extra, dtype=p.dtype, device=p.device).expand(len(which), -1, -1),
            gram_matrix(gram_rows, exact if extra else None),
            jets[which, 0],
            exact | F.pad(mask_of(own, width), (extra, 0)),
            skip=extra,
        )
        parts.append(to_packed(vectors.flatten(2), own, at.stop - at.start))
    triples = torch.cat(parts) if parts else momenta.new_zeros((0, 12))
    return momenta, triples.new_empty(triples.shape).index_copy(0, rows, triples).unflatten(1, (3, 4)), jets


def _in_rectangle(
    network: FrameNetwork,
    batch: JetBatch,
    references: Tensor,
    momenta: Tensor,
    rest: RestFrames,
    jets: Tensor,
) -> Tensor:
    """The vectors [B · N, 3, 4] of jets in a rectangle, all at once."""
    mask, extra = known_mask(batch.offsets), len(references)
    count, width = mask.shape
    rectangle = momenta.view(count, width, 4)
    own = batch.four_momenta.view(count, width, 4)
    exact = F.pad(mask.new_zeros(mask.shape), (extra, 0), value=True)
    if extra:
        fixed = references.to(momenta).expand(count, extra, 4)
        boosted = rest.boost(fixed.flatten(0, 1), rectangular(mask.new_ones((count, extra))))
        rectangle = torch.cat((boosted.view(count, extra, 4), rectangle), dim=1)
        own = torch.cat((references.to(own).expand(count, extra, 4), own), dim=1)
    vectors = network.dense(
        rectangle,
        F.pad(torch.eye(extra, dtype=rectangle.dtype, device=rectangle.device), (0, 0, 0, width)).expand(
            count, -1, -1
        ),
        gram_matrix(own, exact if extra else None),
        jets[:, 0],
        F.pad(mask, (extra, 0), value=True),
        skip=extra,
    )
    rest_vector = vectors.new_tensor([1.0, 0.0, 0.0, 0.0])  # absent ones have no frame, which would be NaN
    return torch.where(mask[..., None, None], vectors, rest_vector).flatten(0, 1)


def _groups(offsets: Tensor, extra: int, device: torch.device) -> Iterator[_Part]:
    """Consecutive jets by rising count, none without constituents."""
    most = _PAIRS * torch.get_num_threads() if device.type == "cpu" else _MANY_PAIRS
    counts = offsets.diff()
    pairs = (counts * (counts + extra)).cumsum(0)
    cuts = torch.nonzero(torch.div(pairs, most, rounding_mode="floor").diff() > 0)[:, 0] + 1
    ends = [int((counts == 0).sum()), *cuts.tolist(), len(counts)]
    ends = sorted({end for end in ends if end >= ends[0]})
    bounds = offsets[ends].tolist()
    for (i, k), (low, high) in zip(pairwise(ends), pairwise(bounds), strict=True):
        own = offsets[i : k + 1] - low
        yield slice(i, k), own, slice(low, high), int(own[-1] - own[-2])


def seen_from(matrices: Tensor, p: Tensor, dtype: torch.dtype) -> Tensor:
    """L p, components that are rounding set to zero, so that angles of momenta on an axis do not turn with
    it.

    Momenta along z are given a trace of x, where angles have derivatives. Shapes: [M, 4, 4], [M, 4] -> [M,
    4].
    """
    components = (matrices @ p[..., None])[..., 0]
    energy = components[:, :1].detach().abs()
    components = torch.where(components.abs() < torch.finfo(dtype).eps ** 0.6 * energy, 0.0, components)
    trace = F.pad(1e-12 * energy, (1, 2)) * (components[:, 1:3] == 0).all(dim=1, keepdim=True)
    return torch.where(trace > 0, trace, components).to(dtype)


def local_features(
    batch: JetBatch, names: Sequence[str], frames: Tensor, momenta: Tensor, jets: Tensor
) -> Tensor:
    """Constituent features by name, those that follow from momenta as seen from each constituent's frame:
    [ΣN, len(names)].

    Args:
        batch: the jets, which have the other features.
        names: features.
        frames: [ΣN, 4, 4] Lorentz matrices.
        momenta, jets: [ΣN, 4] and [B, 4] in one frame of each jet.
    """
    columns = feature_table.momentum_columns(
        seen_from(frames, momenta, batch.dtype),
        torch.arange(momenta.shape[0], device=batch.device),
        seen_from(frames, jets[batch.jet_of], batch.dtype),
    )
    values = [
        feature_table.lookup(name)(columns) if follows_from_momenta(name) else batch.select((name,))[:, 0]
        for name in names
    ]
    return torch.stack(values, dim=-1).to(batch.dtype)
