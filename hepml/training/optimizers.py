"""Optimizers by name, with the parameter groups that a training asks for.

Weight decay spares biases, normalisations and other vectors, as is customary. `muon` orthogonalises the step
of each hidden matrix (`torch.optim.Muon`) and leaves vectors and the last layer to AdamW; `soap` runs Adam in
the eigenbasis of Shampoo's preconditioner (arXiv:2409.11321, by the library pytorch-optimizer).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hepml.errors import ConfigError
from hepml.training.training_config import TrainingConfig

# Muon's step times 0.2 sqrt(larger side) has the size of AdamW's (arXiv:2502.16982).
_MATCHED = "match_rms_adamw"


def build_optimizer(
    model: nn.Module,
    settings: TrainingConfig,
    fresh: frozenset[str] | None = None,
    heads: nn.Module | None = None,
) -> torch.optim.Optimizer:
    """The configured optimizer.

    Args:
        model: its parameters that require gradients are optimised.
        settings: the `training` block.
        fresh: names of parameters that learn at the full rate, where the others came from given weights.
        heads: further layers, which are new in any case.

    Raises:
        ConfigError: an optimizer that the installed torch has not.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if heads is not None:
        added = [(f"heads of side tasks.{name}", p) for name, p in heads.named_parameters()]
        fresh = None if fresh is None else fresh | {name for name, _ in added}
        trained = [*added, *trained]  # the model's last matrix stays the last
    if settings.optimizer == "muon":
        return _muon(trained, settings, fresh)
    groups = _groups(trained, settings, fresh)
    lr, betas = settings.learning_rate, settings.betas
    match settings.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=betas)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=betas)
        case "radam":
            return torch.optim.RAdam(groups, lr=lr, betas=betas)
        case "nadam":
            return torch.optim.NAdam(groups, lr=lr, betas=betas)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=lr)
        case "soap":
            return _soap(groups, lr, betas)
        case _:
            return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)


class Together(torch.optim.Optimizer):
    """Several optimizers, each of its own parameters, behind one face: schedules, gradient clipping and
    checkpoints see their groups as one list."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        # the very dictionaries that the parts read, so that a schedule reaches them
        self.param_groups = [group for part in parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def _groups(
    trained: list[tuple[str, nn.Parameter]], settings: TrainingConfig, fresh: frozenset[str] | None
) -> list[dict[str, Any]]:
    slow = settings.learning_rate * settings.pretrained_rate
    new = [p for name, p in trained if fresh is None or name in fresh]
    old = [p for name, p in trained if fresh is not None and name not in fresh]
    groups = []
    for parameters, rate in ((new, settings.learning_rate), (old, slow)):
        for decay, chosen in (
            (settings.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "lr": rate})
    return groups


def _soap(groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    from pytorch_optimizer import SOAP  # slow to import, and rarely wanted

    optimizer: torch.optim.Optimizer = SOAP(groups, lr=lr, betas=betas)
    return optimizer


def _muon(
    trained: list[tuple[str, nn.Parameter]], settings: TrainingConfig, fresh: frozenset[str] | None
) -> torch.optim.Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            f"torch {torch.__version__} has no Muon",
            where="training.optimizer",
            mend="install torch 2.9 or later, or use adamw",
        )
    last = [name for name, p in trained if p.ndim == 2][-1:]  # the head
    hidden = [(name, p) for name, p in trained if p.ndim == 2 and name not in last]
    names = {name for name, _ in hidden}
    rest = [(name, p) for name, p in trained if name not in names]
    lr = settings.learning_rate
    parts: list[torch.optim.Optimizer] = []
    if hidden:
        groups = _groups(hidden, settings, fresh)
        parts.append(torch.optim.Muon(groups, lr=lr, adjust_lr_fn=_MATCHED))
    if rest:
        parts.append(torch.optim.AdamW(_groups(rest, settings, fresh), lr=lr, betas=settings.betas))
    return parts[0] if len(parts) == 1 else Together(*parts)
