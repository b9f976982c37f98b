"""Masked-particle pretraining: a backbone learns from jets without labels by guessing what was hidden of
them.

A share of each jet's constituents keeps its direction and loses its momentum: all of them are given the same
transverse momentum, so that the jet's scalar sum stays. A head on each constituent's row says how much there
was (after arXiv:2401.13537). The trained backbone is fine-tuned by the usual means, `model.pretrained: RUN`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hepml import kinematics, objectives
from hepml.data.batch import JetBatch
from hepml.data.changed_jets import with_constituents
from hepml.data.inputs import Inputs
from hepml.errors import ConfigError
from hepml.packed.segments import segment_sum
from hepml.training.side_tasks import SideTasks, Task

# ln(pT / pT of the jet) of constituents is spread so (the published standardisation of `log_pt_rel`)
CENTRE, WIDTH = -4.7, 1.0 / 0.7


class MaskedParticles(SideTasks):
    """The pretext task: how much transverse momentum a hidden constituent had.

    Args:
        model: the backbone.
        probe: a few jets.
        outputs: columns of the model's outputs, which learn nothing here.
        share: of the constituents that are hidden.
    """

    def __init__(self, model: nn.Module, probe: JetBatch, outputs: int, share: float) -> None:
        head = objectives.objective("gaussian", centre=CENTRE, width=WIDTH)
        self.share = share
        super().__init__(model, [Task("masked", "pt", "constituent", head, 1.0)], probe, outputs)

    def loss_of(self, run: Any, batch: JetBatch, generator: torch.Generator | None = None) -> Tensor:
        """The mean loss of the hidden constituents; also kept for `figures`."""
        hidden, chosen, target = mask(batch, self.share, generator)
        run(hidden)
        (task,) = self.tasks
        parameters = self.parameters_of(task)[chosen]
        nll = task.objective.negative_log_likelihood(parameters, target)
        with torch.no_grad():
            self.add(task, nll, parameters, target)
        return nll.mean() if len(nll) else parameters.sum() * 0.0


def mask(
    batch: JetBatch, share: float, generator: torch.Generator | None = None
) -> tuple[JetBatch, Tensor, Tensor]:
    """Jets some of whose constituents are hidden, which these are, [ΣN], and ln(pT / pT of the jet) that they
    had.

    Args:
        batch: jets; features that follow from momenta are recomputed.
        share: probability of each constituent to be hidden.
        generator: of the choice; torch's own where left out.
    """
    p = batch.four_momenta
    pt = kinematics.pt(p)
    drawn = torch.rand(len(pt), generator=generator, device=None if generator else p.device).to(p.device)
    chosen = (drawn < share) & (pt > 0)
    of_hidden = segment_sum(torch.stack((pt * chosen, chosen.to(pt)), dim=1), batch.offsets)
    common = (of_hidden[:, 0] / of_hidden[:, 1].clamp_min(1.0))[batch.jet_of]
    scale = torch.where(chosen, common / pt.clamp_min(torch.finfo(pt.dtype).tiny), 1.0)
    whole = kinematics.pt(batch.jets).clamp_min(1e-6)[batch.jet_of]
    target = torch.log(pt[chosen] / whole[chosen])
    return with_constituents(batch, p * scale[:, None]), chosen, target


def refuse_extras(inputs: Inputs) -> None:
    """Raises ConfigError for a model whose views are made at loading, before anything is hidden."""
    if inputs.extras:
        raise ConfigError(
            f"the model reads {', '.join(inputs.extras)}, made at loading from all constituents",
            where="pretraining",
            mend="pretrain a tagger that reads constituents, such as particlenet",
        )
