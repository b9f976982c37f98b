"""LLoCa (arXiv:2505.20280): any registered model, made Lorentz-equivariant by local canonical frames.

A small network predicts a frame for each constituent, equivariantly. What a constituent looks like from its own frame is the same whatever
the frame of the jet, and so is everything that a model makes of it: messages between constituents are scalars. The model itself stays as it
is. Frames are predicted from momenta in the jet's rest frame, in float64, which keeps the digits that a boost would take.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.models.catalogue import create, register
from hepml.nn.lorentz import GramVectors, Pairs, reference_vectors, with_references
from hepml.nn.lorentz.frames import FrameNetwork, frames
from hepml.nn.lorentz.rest_frame import to_rest_frame
from hepml.nn.segments import segment_mean, segment_sum


@register(
    "lloca",
    paper="arXiv:2505.20280",
    symmetries=("permutation", "lorentz"),
    published={"references": ("lightlike_beam", "time")},
)
class LLoCa(nn.Module):
    """Local canonicalisation of the input of another model.

    Symmetry: SO+(1,3), and permutations if the backbone respects them; reference vectors break it to what leaves them in place. Features
    that follow from momenta are computed in the constituents' frames, others (charge, displacement) are given on. Where the backbone
    reads four-momenta, they are those seen from one frame of the jet, so that pairs of them fit together. Jets of fewer than three
    constituents have an axis, but no frame: for them the symmetry holds where a backbone reads features alone.

    Args:
        outputs: columns of the result.
        backbone: name of a registered model.
        backbone_arguments: its hyperparameters, `outputs` excepted.
        frame: `constituent`, or `jet` for one frame a jet, the same for all constituents.
        hidden: width of the network that predicts frames.
        depth: its hidden layers.
        dropout: in it.
        references: names of reference vectors that frames may depend on (see `hepml.nn.lorentz.REFERENCES`), such as
            `[lightlike_beam, time]`; none keeps the full Lorentz symmetry.
    """

    references: Tensor

    def __init__(
        self,
        outputs: int = 2,
        backbone: str = "transformer",
        backbone_arguments: dict[str, Any] | None = None,
        frame: Literal["constituent", "jet"] = "constituent",
        hidden: int = 128,
        depth: int = 2,
        dropout: float = 0.0,
        references: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        arguments = dict(backbone_arguments or {})
        if "outputs" in arguments:
            raise ConfigError("lloca: backbone_arguments has 'outputs'", mend="give outputs to lloca itself")
        self.frame = frame
        self.backbone = create(backbone, outputs=outputs, **arguments)
        wanted: Inputs = self.backbone.inputs  # type: ignore[assignment]
        self.wanted = wanted
        self.inputs = Inputs(
            tuple(name for name in wanted.features if not _from_momenta(name)),
            tuple(name for name in wanted.jet_features if name not in _JET_COLUMNS),
            max_constituents=wanted.max_constituents,
        )
        self.register_buffer("references", reference_vectors(references), persistent=False)
        self.predict = FrameNetwork(len(self.references), hidden, depth, dropout)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, outputs]."""
        return self.backbone(self.canonical(batch))  # type: ignore[no-any-return]

    def canonical(self, batch: JetBatch) -> JetBatch:
        """The jets as the backbone sees them."""
        with torch.autocast(batch.device.type, enabled=False):  # frames are made of products of momenta
            momenta, vectors, jets = self._vectors(batch)
            parallel = torch.finfo(batch.dtype).eps ** 0.5
            seen = replace(batch, jet_momenta=None, features=None, feature_names=(), extras={})
            own = frames(segment_mean(vectors.flatten(1), batch.offsets).unflatten(1, (3, 4)), parallel)[batch.jet_of]
            local = own if self.frame == "jet" else frames(vectors, parallel)
            seen = replace(seen, four_momenta=_finite_backwards(_seen_from(own, momenta, batch.dtype)))
            names = self.wanted.features
            if names:
                columns = _apart(
                    feature_table.momentum_columns(
                        _seen_from(local, momenta, batch.dtype),
                        torch.arange(len(momenta), device=batch.device),
                        _seen_from(local, jets[batch.jet_of], batch.dtype),
                    )
                )
                made = [
                    feature_table.lookup(name)(columns) if _from_momenta(name) else batch.select((name,))[:, 0]
                    for name in names
                ]
                seen = replace(seen, features=torch.stack(made, dim=-1).to(batch.dtype), feature_names=names)
            if batch.jet_features is not None:
                seen = replace(
                    seen,
                    jet_features=batch.select_jets(self.inputs.jet_features),
                    jet_feature_names=self.inputs.jet_features,
                )
        return seen

    def _vectors(self, batch: JetBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Momenta [ΣN, 4] in the jets' rest frames, three vectors [ΣN, 3, 4] for each, and the jets [B, 4]: float64."""
        moved, rest = to_rest_frame(batch.four_momenta, batch.offsets)
        momenta = moved.double()
        count, extra = len(batch), len(self.references)
        x, offsets, fixed = with_references(batch.four_momenta, batch.offsets, self.references)
        p = momenta
        scalars = p.new_zeros((len(x), extra))
        if extra:
            references = self.references.double().repeat(count, 1)
            seen = rest.boost(references, extra * torch.arange(count + 1, device=p.device))
            p = p.new_zeros((len(x), 4)).masked_scatter(fixed[:, None], seen)
            p = p.masked_scatter(~fixed[:, None], momenta)
            scalars[fixed] = torch.eye(extra, dtype=p.dtype, device=p.device).repeat(count, 1)
        products = GramVectors.of(x, Pairs.of(offsets), torch.float64, exact=fixed)
        jets = segment_sum(momenta, batch.offsets)
        mass = jets[:, 0].repeat_interleave(offsets.diff(), output_size=len(x))
        vectors = self.predict(p, scalars, products, mass)
        return momenta, vectors[~fixed], jets


_JET_COLUMNS = ("jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_mass", "jet_nparticles")


def _from_momenta(name: str) -> bool:
    return bool(set(feature_table.lookup(name).needs) & set(feature_table.MOMENTUM_COLUMNS))


def _seen_from(matrices: Tensor, p: Tensor, dtype: torch.dtype) -> Tensor:
    """L p, components that are rounding set to zero, so that angles of momenta on an axis do not turn with it.

    Momenta along z are given a trace of x, where angles have derivatives. Shapes: [M, 4, 4], [M, 4] -> [M, 4].
    """
    seen = (matrices @ p[..., None])[..., 0]
    energy = seen[:, :1].detach().abs()
    seen = torch.where(seen.abs() < torch.finfo(dtype).eps ** 0.6 * energy, 0.0, seen)
    trace = F.pad(1e-12 * energy, (1, 2)) * (seen[:, 1:3] == 0).all(dim=1, keepdim=True)
    return torch.where(trace > 0, trace, seen).to(dtype)


def _finite_backwards(x: Tensor) -> Tensor:
    """x, to which functions without a derivative (the mass of one massless particle) send none."""
    if x.requires_grad:
        x.register_hook(lambda gradient: torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0))
    return x


def _apart(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Columns with a trace of delta_eta where a constituent is on the axis, where its distance has a derivative."""
    eta, phi = columns["delta_eta"], columns["delta_phi"]
    return {**columns, "delta_eta": torch.where((eta == 0) & (phi == 0), 1e-12, eta)}
