"""How far the members of an ensemble disagree: the uncertainty of a score by the random start of a training.

An ensemble's score is that of the mean of its members' logits; its spread is the standard deviation of their
probabilities (arXiv:1612.01474). Trained on the same jets with several seeds, members differ by chance alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.errors import ConfigError
from hepml.inference.prediction import head_of, inputs_of, output_names, width_of
from hepml.models.ensemble import Ensemble
from hepml.models.identity import identify
from hepml.objectives import Objective


class WithSpread(nn.Module):
    """An ensemble whose outputs are what `predict` gives, and behind it the spread of each of these columns.

    Args:
        ensemble: from `hepml ensemble`, or trained as one.

    Raises:
        ConfigError: a single tagger.
    """

    def __init__(self, ensemble: nn.Module) -> None:
        super().__init__()
        if not isinstance(ensemble, Ensemble) or len(ensemble.members) < 2:
            raise ConfigError(
                "a single tagger has no spread of scores",
                where="--spread",
                mend="train it with several seeds and join them: hepml ensemble RUN RUN -o runs/ensemble",
            )
        self.ensemble, self.inputs, self.head = ensemble, inputs_of(ensemble), head_of(ensemble)
        self.names = spread_names(output_names(ensemble))
        identify(self, objective=Passed(self.head, 2 * width_of(ensemble)))

    def forward(self, batch: JetBatch) -> Tensor:
        """[B, 2 C]."""
        outputs = torch.stack([member(batch) for member in self.ensemble.members])
        rows = torch.stack([self.head.activation(each) for each in outputs])
        return torch.cat((self.head.activation(outputs.mean(dim=0)), rows.std(dim=0)), dim=1)


class Passed(Objective):
    """The head of a model whose outputs are activated already."""

    name, task = "passed", "classification"

    def __init__(self, head: Objective, columns: int) -> None:
        self.task, self.columns = head.task, columns  # type: ignore[misc]

    @property
    def outputs(self) -> int:
        return self.columns

    def activation(self, parameters: Tensor) -> Tensor:
        return parameters

    def negative_log_likelihood(self, parameters: Tensor, target: Tensor) -> Tensor:
        raise ConfigError("activated scores have no likelihood", mend="train the members")


def spread_names(names: list[str]) -> list[str]:
    """`score_QCD` -> `spread_QCD`."""
    return [f"spread_{name.removeprefix('score_')}" for name in names]
