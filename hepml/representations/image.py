"""The image view: a jet as a picture of its transverse momentum in the (eta, phi) plane.

Constituents are moved to a standard pose (centred, rotated, flipped) while they are still points, then filled
into pixels: all jets of a batch at once, on the device, without padding and without a loop. The last axis of
a picture is eta (signed by the jet's hemisphere, as everywhere here), the one before it phi; row and column 0
are at the most negative. What lies outside of the picture is left out of it, though not out of what fractions
are fractions of.

With pixels of transverse momentum, pictures are infrared and collinear safe up to constituents that cross the
border of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.errors import ConfigError, did_you_mean
from hepml.packed.rectangular import jets_of, mask_behind, spread
from hepml.packed.segments import segment_sum
from hepml.representations.sequence import hardest

Centre = Literal["axis", "centroid", "leading"]
Rotate = Literal["none", "principal", "second"]
Flip = Literal["none", "horizontal", "both"]
Intensity = Literal["gev", "fraction"]
Channel = Literal["pt", "count", "charged_pt", "neutral_pt"]

# What stands exactly in the middle of a picture, or exactly above or below it, must not choose its pixel or
# its side by rounding:
# pixels begin this much of a pixel early, and sides this far (in eta or phi) from the middle.
_EARLY, _ASIDE = 1e-4, 1e-5


def jet_images(
    batch: JetBatch,
    pixels: int = 64,
    half_width: float = 0.8,
    *,
    centre: Centre = "axis",
    rotate: Rotate = "none",
    flip: Flip = "none",
    intensity: Intensity = "fraction",
    channels: Sequence[str] = ("pt",),
) -> Tensor:
    """Pictures of jets.

    Args:
        batch: B jets.
        pixels: P of a side.
        half_width: distance in eta and phi from the centre to each side.
        centre: the jet axis, the centroid in transverse momentum, or the hardest constituent.
        rotate: turn the principal axis of the transverse momentum upright, turn the second-hardest
            constituent to below the centre, or neither.
        flip: mirror so that the quadrant with the most transverse momentum is at positive eta and phi (both)
            or that the half is at positive eta (horizontal), or not at all.
        intensity: transverse momentum in GeV, or as a fraction of the sum over the jet's constituents.
        channels: what each channel counts: pt, count (constituents), charged_pt, neutral_pt (these ask for
            the feature `charge`).

    Returns:
        [B, C, P, P]; zeros for a jet without constituents.

    Raises:
        ConfigError: an unknown channel.
    """
    for name in channels:
        if name not in get_args(Channel):
            raise ConfigError(f"unknown channel '{name}'", mend=did_you_mean(name, get_args(Channel)))
    with torch.autocast(batch.device.type, enabled=False):
        pt, x, y = _points(batch)
        total = None
        if centre == "centroid" or rotate == "principal":
            x, y, total = _posed_by_moments(batch, pt, x, y, centre, rotate)
        if centre == "leading" or rotate == "second":
            x, y = _posed_by_constituents(batch, x, y, centre, rotate)
        if flip != "none":
            x, y = _flipped(batch, pt, x, y, flip)
        if intensity == "fraction":
            total = segment_sum(pt[:, None], batch.offsets)[:, 0] if total is None else total
            pt = pt * _spread(batch, total.clamp_min(_tiny(pt)).reciprocal())
        weights = [_weight(batch, pt, name) for name in channels]
        return _filled(batch, x, y, weights, pixels, half_width)


def features_needed(channels: Sequence[str]) -> tuple[str, ...]:
    """Constituent features that these channels ask of the data."""
    return ("charge",) if {"charged_pt", "neutral_pt"} & set(channels) else ()


# ------------------------------------------------------------------------------------------------------------
# the pose


def _points(batch: JetBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Transverse momentum in GeV and position relative to the jet axis, each [ΣN]."""
    _, px, py, pz = batch.four_momenta.unbind(-1)
    _, jx, jy, jz = batch.jets.unbind(-1)
    pt, eta = _pt_and_eta(px, py, pz)
    jet_pt, jet_eta = _pt_and_eta(jx, jy, jz)
    jet_pt = jet_pt.clamp_min(_tiny(pt))
    along, across = _spread(batch, jx / jet_pt), _spread(batch, jy / jet_pt)
    phi = torch.atan2(py * along - px * across, px * along + py * across)  # within (-pi, pi] of the jet's
    hemisphere = torch.where(jet_eta < 0, -1.0, 1.0).to(pt.dtype)
    return pt, (eta - _spread(batch, jet_eta)) * _spread(batch, hemisphere), phi


def _pt_and_eta(px: Tensor, py: Tensor, pz: Tensor) -> tuple[Tensor, Tensor]:
    """As `hepml.kinematics` has them, but the pseudorapidity by one logarithm, which a processor takes eight
    at a time."""
    pt = kinematics.length(px, py)
    ratio = pz.abs() / pt.clamp_min(1e-20)
    return pt, torch.copysign(torch.log(ratio + torch.hypot(ratio, torch.ones_like(ratio))), pz)


def _posed_by_moments(
    batch: JetBatch, pt: Tensor, x: Tensor, y: Tensor, centre: Centre, rotate: Rotate
) -> tuple[Tensor, Tensor, Tensor]:
    """Positions from the centroid and along the principal axes, and the sum of transverse momentum [B]."""
    wx, wy = pt * x, pt * y
    moments = [pt, wx, wy]
    if rotate == "principal":
        moments += [wx * x, wy * y, wx * y]
    sums = segment_sum(torch.stack(moments, dim=-1), batch.offsets)
    total = sums[:, 0]
    mean = sums[:, 1:] / total.clamp_min(_tiny(pt))[:, None]
    cx, cy = mean[:, 0], mean[:, 1]
    if rotate != "principal":
        return x - _spread(batch, cx), y - _spread(batch, cy), total
    xx, yy, xy = mean[:, 2] - cx * cx, mean[:, 3] - cy * cy, mean[:, 4] - cx * cy
    angle = 0.5 * torch.atan2(2 * xy, xx - yy)  # of the major axis from the first
    if centre != "centroid":
        cx, cy = torch.zeros_like(cx), torch.zeros_like(cy)
    return *_turned(batch, x, y, cx, cy, 0.5 * math.pi - angle), total


def _posed_by_constituents(
    batch: JetBatch, x: Tensor, y: Tensor, centre: Centre, rotate: Rotate
) -> tuple[Tensor, Tensor]:
    """Positions from the hardest constituent, or with the second-hardest straight below, or both."""
    if not torch.compiler.is_compiling() and not len(x):
        return x, y
    counts = batch.counts
    first, second = hardest(batch, 2).unbind(1)
    has, two = counts > 0, counts > 1
    cx, cy = torch.zeros_like(batch.jets[:, 0]), torch.zeros_like(batch.jets[:, 0])
    if centre == "leading":
        cx, cy = torch.where(has, x[first], cx), torch.where(has, y[first], cy)
    if rotate != "second":
        return x - _spread(batch, cx), y - _spread(batch, cy)
    # A jet of one is not turned; its angle still needs a derivative.
    angle = torch.atan2(torch.where(two, y[second] - cy, -1.0), torch.where(two, x[second] - cx, 0.0))
    return _turned(batch, x, y, cx, cy, -0.5 * math.pi - angle)


def _turned(
    batch: JetBatch, x: Tensor, y: Tensor, cx: Tensor, cy: Tensor, angle: Tensor
) -> tuple[Tensor, Tensor]:
    """Positions relative to (cx, cy), turned by an angle, all [B]."""
    cosine, sine = angle.cos(), angle.sin()
    c, s = _spread(batch, cosine), _spread(batch, sine)
    x, y = x - _spread(batch, cx), y - _spread(batch, cy)
    return x * c - y * s, x * s + y * c


def _flipped(batch: JetBatch, pt: Tensor, x: Tensor, y: Tensor, flip: Flip) -> tuple[Tensor, Tensor]:
    right = x > _ASIDE
    quadrant = right.to(torch.int64) if flip == "horizontal" else right + 2 * (y > _ASIDE)
    sums = pt.new_zeros(4 * jets_of(batch.offsets)).index_add_(0, 4 * batch.jet_of + quadrant, pt.detach())
    best = sums.view(-1, 4).argmax(dim=1)
    x = x * _spread(batch, torch.where(best % 2 == 1, 1.0, -1.0).to(x.dtype))
    if flip == "both":
        y = y * _spread(batch, torch.where(best > 1, 1.0, -1.0).to(y.dtype))
    return x, y


# ------------------------------------------------------------------------------------------------------------
# the pixels


def _weight(batch: JetBatch, pt: Tensor, channel: str) -> Tensor:
    if channel == "pt":
        return pt
    if channel == "count":
        return torch.ones_like(pt)
    charged = batch.select(("charge",))[:, 0] != 0
    return torch.where(charged if channel == "charged_pt" else ~charged, pt, 0.0)


def _filled(
    batch: JetBatch, x: Tensor, y: Tensor, weights: Sequence[Tensor], pixels: int, half_width: float
) -> Tensor:
    """The weights of all constituents, added up in their pixels: [B, C, P, P]."""
    count, there = jets_of(batch.offsets), mask_behind(batch.offsets)
    area, scale = pixels * pixels, pixels / (2 * half_width)
    column, row = x * scale + (pixels / 2 + _EARLY), y * scale + (pixels / 2 + _EARLY)
    inside = (torch.minimum(column, row) >= 0) & (torch.maximum(column, row) < pixels)
    if there is not None:
        inside = inside & there.flatten()
    jets = torch.arange(count, device=batch.device) * (area * len(weights))
    pixel = row.clamp(0, pixels - 1).to(torch.int64) * pixels + column.clamp(0, pixels - 1).to(torch.int64)
    pixel = pixel + _spread(batch, jets)
    out = batch.four_momenta.new_zeros(count * len(weights) * area)
    for channel, weight in enumerate(weights):
        out.index_add_(0, pixel + channel * area, torch.where(inside, weight, 0.0))
    return out.view(count, len(weights), pixels, pixels)


def _spread(batch: JetBatch, values: Tensor) -> Tensor:
    """One value a jet [B] as one a constituent [ΣN]."""
    return spread(values, batch.offsets, batch.four_momenta.shape[0])


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
