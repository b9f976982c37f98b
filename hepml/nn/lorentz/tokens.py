"""The sequence that an equivariant transformer reads: a class token, the reference vectors, then the
constituents of each jet.

Momenta are seen from each jet's rest frame. There no component is large, so that a network that carries
components keeps the digits that a boost would take; an equivariant network gives the same answer in every
frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hepml.data.batch import JetBatch
from hepml.nn.encoder import Grouped, grouped
from hepml.nn.lorentz.rest_frame import to_rest_frame
from hepml.packed.rectangle import Rectangle
from hepml.packed.rectangular import known_mask, mask_behind, rectangular, widened

ROWS = 768  # constituents of a group on a CPU: activations of a token are some thousand numbers


@dataclass(frozen=True, eq=False)
class TokenGroup:
    """Some jets of similar length, as tokens.

    Args:
        vectors: [M, 4] in the jets' rest frames: zero for class tokens, constituents times the scale,
            reference vectors as they are.
        scalars: [M, 1 + R + F] one column for the class token and one for each reference vector, then
            features of constituents.
        where: the rectangle of the jets; the class token is the first of each.
    """

    vectors: Tensor
    scalars: Tensor
    where: Rectangle


@dataclass(frozen=True, eq=False)
class Tokens:
    """All jets of a batch as tokens, in groups; `jets.restore` brings results back to the order of the
    batch."""

    jets: Grouped
    groups: tuple[TokenGroup, ...]

    def __iter__(self) -> Iterator[TokenGroup]:
        return iter(self.groups)


def jet_tokens(
    batch: JetBatch, references: Tensor, scale: float, dtype: torch.dtype, features: tuple[str, ...] = ()
) -> Tokens:
    """The tokens of a batch.

    Args:
        batch: jets.
        references: [R, 4] reference vectors, the same for all jets in the frame of their momenta.
        scale: of momenta, 1/GeV.
        dtype: of the result; frames are computed in float64.
        features: constituent features that are given as scalars.
    """
    if mask_behind(batch.offsets) is not None:
        return _in_rectangle(batch, references, scale, dtype, features)
    jets = grouped(batch, ROWS)
    ordered = jets.batch
    count, extra, device = len(ordered), len(references) + 1, batch.device
    momenta, frames = to_rest_frame(ordered.four_momenta, ordered.offsets)
    offsets = ordered.offsets + extra * torch.arange(count + 1, device=device)
    rows = torch.arange(len(momenta), device=device) + extra * (ordered.jet_of + 1)
    first = offsets[:-1, None] + torch.arange(extra, device=device)
    vectors = torch.zeros((len(momenta) + extra * count, 4), dtype=dtype, device=device)
    vectors[rows] = (scale * momenta).to(dtype)
    scalars = vectors.new_zeros((len(vectors), extra + len(features)))
    scalars[first.flatten()] = torch.eye(extra, scalars.shape[1], dtype=dtype, device=device).repeat(count, 1)
    if extra > 1:
        each = (extra - 1) * torch.arange(count + 1, device=device)
        boosted = frames.boost(references.to(device, torch.float64).repeat(count, 1), each)
        vectors[first[:, 1:].flatten()] = boosted.to(dtype)
    if features:
        scalars[rows, extra:] = ordered.select(features).to(dtype)
    groups, low = [], 0
    for group in jets:
        own, constituents = offsets[group.jets.start : group.jets.stop + 1], len(group.where.rows)
        high = low + constituents + extra * (group.jets.stop - group.jets.start)
        width = extra + (
            group.where.width if constituents else 0
        )  # a rectangle without constituents is one wide
        groups.append(
            TokenGroup(vectors[low:high], scalars[low:high], Rectangle.of(own - low, width, high - low))
        )
        low = high
    return Tokens(jets, tuple(groups))


def _in_rectangle(
    batch: JetBatch, references: Tensor, scale: float, dtype: torch.dtype, features: tuple[str, ...]
) -> Tokens:
    """The tokens of jets in a rectangle, as one group."""
    mask, extra = known_mask(batch.offsets), len(references) + 1
    (count, width), device = mask.shape, batch.device
    momenta, frames = to_rest_frame(batch.four_momenta, batch.offsets)
    first = torch.zeros((count, 1, 4), dtype=dtype, device=device)
    vectors = [first, (scale * momenta).to(dtype).view(count, width, 4)]
    if extra > 1:
        each = rectangular(mask.new_ones((count, extra - 1)))
        fixed = references.to(device, torch.float64).expand(count, extra - 1, 4).flatten(0, 1)
        vectors.insert(1, frames.boost(fixed, each).to(dtype).view(count, extra - 1, 4))
    kinds = torch.eye(extra, extra + len(features), dtype=dtype, device=device).expand(count, -1, -1)
    given = first.new_zeros((count, width, extra))
    if features:
        given = torch.cat((given, batch.select(features).to(dtype).view(count, width, len(features))), dim=2)
    offsets = rectangular(widened(mask, extra))
    group = TokenGroup(
        torch.cat(vectors, dim=1).flatten(0, 1),
        torch.cat((kinds, given), dim=1).flatten(0, 1),
        Rectangle.of(offsets, extra + width),
    )
    return Tokens(grouped(batch), (group,))
