"""What the constituents of a jet see from their local frames, for the networks that read it (LLoCa, arXiv:2505.20280).

A frame network is given momenta in the jet's rest frame and the reference vectors beside them; its vectors make the frames
(`hepml.nn.lorentz.frames`), and features that follow from momenta are computed from what each constituent sees. All of it is done in
float64, outside of autocast: products and boosts of momenta need the digits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.nn.lorentz.frames import FrameNetwork
from hepml.nn.lorentz.pairs import Pairs
from hepml.nn.lorentz.references import with_references
from hepml.nn.lorentz.rest_frame import to_rest_frame
from hepml.nn.lorentz.vectors import GramVectors
from hepml.nn.segments import segment_sum


def follows_from_momenta(name: str) -> bool:
    """Whether a constituent feature of that name changes with the frame."""
    return bool(set(feature_table.lookup(name).needs) & set(feature_table.MOMENTUM_COLUMNS))


def frame_vectors(network: FrameNetwork, batch: JetBatch, references: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What frames are made of.

    Args:
        network: that predicts vectors; one scalar a reference vector.
        batch: jets.
        references: [R, 4] the same for all jets, in the frame of their momenta.

    Returns:
        momenta [ΣN, 4] in the jets' rest frames, three vectors [ΣN, 3, 4] for each, and the jets [B, 4] there: float64.
    """
    moved, rest = to_rest_frame(batch.four_momenta, batch.offsets)
    momenta = moved.double()
    count, extra = len(batch), len(references)
    x, offsets, fixed = with_references(batch.four_momenta, batch.offsets, references)
    p = momenta
    scalars = p.new_zeros((len(x), extra))
    if extra:
        each = extra * torch.arange(count + 1, device=p.device)
        seen = rest.boost(references.to(p).repeat(count, 1), each)
        p = p.new_zeros((len(x), 4)).masked_scatter(fixed[:, None], seen)
        p = p.masked_scatter(~fixed[:, None], momenta)
        scalars[fixed] = torch.eye(extra, dtype=p.dtype, device=p.device).repeat(count, 1)
    products = GramVectors.of(x, Pairs.of(offsets), torch.float64, exact=fixed)
    jets = segment_sum(momenta, batch.offsets)
    mass = jets[:, 0].repeat_interleave(offsets.diff(), output_size=len(x))
    vectors = network(p, scalars, products, mass)
    return momenta, vectors[~fixed], jets


def seen_from(matrices: Tensor, p: Tensor, dtype: torch.dtype) -> Tensor:
    """L p, components that are rounding set to zero, so that angles of momenta on an axis do not turn with it.

    Momenta along z are given a trace of x, where angles have derivatives. Shapes: [M, 4, 4], [M, 4] -> [M, 4].
    """
    seen = (matrices @ p[..., None])[..., 0]
    energy = seen[:, :1].detach().abs()
    seen = torch.where(seen.abs() < torch.finfo(dtype).eps ** 0.6 * energy, 0.0, seen)
    trace = F.pad(1e-12 * energy, (1, 2)) * (seen[:, 1:3] == 0).all(dim=1, keepdim=True)
    return torch.where(trace > 0, trace, seen).to(dtype)


def local_features(batch: JetBatch, names: Sequence[str], frames: Tensor, momenta: Tensor, jets: Tensor) -> Tensor:
    """Constituent features by name, those that follow from momenta as seen from each constituent's frame: [ΣN, len(names)].

    Args:
        batch: the jets, which have the other features.
        names: features.
        frames: [ΣN, 4, 4] Lorentz matrices.
        momenta, jets: [ΣN, 4] and [B, 4] in one frame of each jet.
    """
    columns = _apart(
        feature_table.momentum_columns(
            seen_from(frames, momenta, batch.dtype),
            torch.arange(len(momenta), device=batch.device),
            seen_from(frames, jets[batch.jet_of], batch.dtype),
        )
    )
    made = [
        feature_table.lookup(name)(columns) if follows_from_momenta(name) else batch.select((name,))[:, 0]
        for name in names
    ]
    return torch.stack(made, dim=-1).to(batch.dtype)


def _apart(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Columns with a trace of delta_eta where a constituent is on the axis, where its distance has a derivative."""
    eta, phi = columns["delta_eta"], columns["delta_phi"]
    return {**columns, "delta_eta": torch.where((eta == 0) & (phi == 0), 1e-12, eta)}
