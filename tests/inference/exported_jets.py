"""Real jets for exported files: of the numbers of constituents at which layouts differ, of usual ones, and
many short ones for large batches; and the differences between a tagger and its file on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hepml import kinematics
from hepml.data.batch import JetBatch
from hepml.inference.exporting.parity import parity
from hepml.inference.exporting.session import ExportedTagger
from hepml.inference.prediction import score
from hepml.models import registry

LONG = (128, 200)


def real_jets(shared: Path) -> JetBatch:
    """The thousand jets of the top-tagging reference that are at hand."""
    with np.load(shared / "data/real/toptag_reference_1000.npz") as given:
        return JetBatch.from_arrays(
            given["four_momenta"].astype(np.float32), given["offsets"], labels=given["labels"]
        )


def special(jets: JetBatch, neighbours: int) -> JetBatch:
    """Jets of 0, 1, 2, k - 1, k, k + 1, 128 and 200 constituents: real ones cut to their hardest, and several
    turned about the beam to one azimuth."""
    jets = jets.take(torch.argsort(jets.counts, descending=True))
    counts = (0, 1, 2, neighbours - 1, neighbours, neighbours + 1)
    rows = [jets[30 + i].leading(max(n, 1)).four_momenta[:n] for i, n in enumerate(counts)]
    turned = torch.cat([_turned(jets[i].four_momenta) for i in range(4)])
    rows += [turned[:n] for n in LONG]
    offsets = np.cumsum([0, *(len(r) for r in rows)])
    return JetBatch.from_arrays(torch.cat(rows), offsets)


def _turned(p: torch.Tensor) -> torch.Tensor:
    """A jet turned about the beam to azimuth zero."""
    angle = kinematics.phi(p.sum(0, keepdim=True))[0]
    c, s = angle.cos(), angle.sin()
    e, x, y, z = p.unbind(1)
    return torch.stack((e, c * x + s * y, c * y - s * x, z), dim=1)


@dataclass(frozen=True)
class Found:
    """Largest differences of a probability between a tagger and its file.

    Args:
        usual: over real jets in batches of 1, 2, 64 and 512, padded by 0 and 50.
        odd: over jets of 0, 1, 2, k - 1, k, k + 1, 128 and 200 constituents.
        permuted: of the file with itself, constituents in another order and absent ones among them.
        boosted: of the file with itself, jets boosted by gamma = 3; None for taggers that do not claim it.
        beyond: real jets that differ by more than 1e-5.
        jets: real jets in all.
    """

    usual: float
    odd: float
    permuted: float
    boosted: float | None
    beyond: int
    jets: int


def differences(model: nn.Module, exported: ExportedTagger, jets: JetBatch, neighbours: int = 16) -> Found:
    """All of it in one session of one file."""
    odd = parity(model, exported, special(jets, neighbours), (1, 2, 64), (0, 50))
    usual = parity(model, exported, jets[:64], (1, 2, 64), (0, 50))
    many = replace(jets[:512].leading(20), jet_momenta=None)
    usual += parity(model, exported, many, (512,), (0, 50))
    some = jets[64:128]
    apart = np.abs(exported.probabilities(some) - score(model, some)).max(1)
    inputs = exported.padded(some, 5)
    order = np.argsort(np.random.default_rng(0).random(inputs["mask"].shape), axis=1)
    moved = {
        name: np.take_along_axis(x, order.reshape(order.shape + (1,) * (x.ndim - 2)), axis=1)
        if name in ("four_momenta", "mask", "columns")
        else x
        for name, x in inputs.items()
    }
    first = exported.run(inputs)[exported.form.outputs[0]]
    permuted = np.abs(exported.run(moved)[exported.form.outputs[0]] - first).max()
    boosted = None
    if "lorentz" in registry()[exported.hepml_name].symmetries:
        matrix = kinematics.boost(torch.tensor([0.3, 0.5, -0.4], dtype=torch.float64), 3.0)
        there = some.with_four_momenta(kinematics.transform(some.four_momenta.double(), matrix).float())
        boosted = float(np.abs(exported.probabilities(there) - first).max())
    return Found(
        max(row.largest for row in usual),
        max(row.largest for row in odd),
        float(permuted),
        boosted,
        int((apart > 1e-5).sum()),
        len(some),
    )
