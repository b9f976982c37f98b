"""How a law is learned from pairs of frames: autoencoder, canonical coordinates and law in one loss
(arXiv:1906.01563, section 5)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hepml.dynamics.fitting import FitSettings, descend, walk
from hepml.dynamics.integrators import DivergenceError, rk4
from hepml.dynamics.pixels.frames import SIDE, Frames
from hepml.dynamics.pixels.networks import PixelLaw
from hepml.errors import ConfigError

# Pairs that L-BFGS sees, spread evenly over the movies: all show one angle or another of the same rod.
POLISHED = 600


def pixel_loss(
    model: PixelLaw,
    now: Tensor,
    then: Tensor,
    *,
    law_weight: float = 0.1,
    method: str = "euler",
    relative: bool = False,
) -> Tensor:
    """Autoencoder + canonical-coordinate + weighted law loss of each pair of pairs (arXiv:1906.01563, section
    5), [B].

    Args:
        now, then: stacked frames, and the same a frame later, as `PixelLaw.compress` gives them, [B, 2 * 28 *
            28] where it sees pixels.
        law_weight: of the law; the paper has 0.1.
        method: `euler` as in the paper, or `rk4`, which does not mistake curvature for force.
        relative: the law's error in units of how far the latents move in a frame, so that smaller latents are
            no better.

    Raises:
        ConfigError: another method.
    """
    if method not in ("euler", "rk4"):
        raise ConfigError(f"cannot step latents by '{method}'", mend="use euler or rk4")
    z, z_then = model.encode(now), model.encode(then)
    rebuilt = (model.decode(z) - now).square().sum(-1) / (2 * SIDE * SIDE)
    predicted = z + model.move(z) if method == "euler" else rk4(model.move, z, 1.0)
    moved = (z_then - predicted).square().mean(-1)
    if relative:
        moved = moved / (z_then - z).square().mean()
    position, velocity = z.chunk(2, dim=-1)
    canonical = (velocity - (z_then.chunk(2, dim=-1)[0] - position)).square().mean(-1)
    return rebuilt + canonical + law_weight * moved


def fit_pixels(
    model: PixelLaw,
    train: Frames,
    test: Frames,
    settings: FitSettings,
    *,
    seed: int = 0,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> tuple[float, float, list[dict[str, float]]]:
    """Trains autoencoder and law together.

    Args:
        settings: see `FitSettings`; `objective: steps` takes its `method` for the law, any other Euler's, as
            in the paper.
        seed: of the batches.
        progress: called with the step and the losses every so often.

    Returns:
        the published train and test loss (with the paper's weights), and the history.

    Raises:
        DivergenceError: the loss is not finite.
        ConfigError: an integrator that is neither `euler` nor `rk4`.
    """
    s = settings
    method = s.method if s.objective == "steps" else "euler"
    batch_size = s.batch_size or 200
    generator = torch.Generator().manual_seed(seed)
    model.look(train)
    with torch.no_grad():
        now, then = (model.compress(x) for x in train.pairs())
    history: list[dict[str, float]] = []

    def loss_of(some: Tensor) -> Tensor:
        relative = s.loss == "relative"
        return pixel_loss(
            model, now[some], then[some], law_weight=s.law_weight, method=method, relative=relative
        ).mean()

    def note(step: int, value: float) -> None:
        if not math.isfinite(value):
            raise DivergenceError(f"the training loss is {value} at step {step}", mend="lower learning_rate")
        losses = {"train_loss": value, "test_loss": published_loss(model, test, most=batch_size)}
        history.append({"step": step, **losses})
        if progress is not None:
            progress(step, losses)

    walk(model, [], lambda: loss_of(torch.randint(len(now), (batch_size,), generator=generator)), s, note)
    if s.polish:
        model.double()
        now, then = now.double(), then.double()
        some = torch.linspace(0, len(now) - 1, min(POLISHED, len(now))).long()
        descend(list(model.parameters()), [], lambda: loss_of(some), s, note)
        model.float()
    return published_loss(model, train), published_loss(model, test), history


def published_loss(model: PixelLaw, data: Frames, most: int = 4000) -> float:
    """The paper's loss over evenly spread pairs of a set, at most so many."""
    now, then = (x.to(model.average) for x in data.pairs())
    some = torch.linspace(0, len(now) - 1, min(most, len(now))).long()
    with torch.no_grad():
        parts: list[Tensor] = []
        for i in some.split(500):
            a, b = model.compress(now[i]), model.compress(then[i])
            left_out = (model.restore(a) - now[i]).square().mean(-1)
            parts.append(pixel_loss(model, a, b) + left_out)
    return float(torch.cat(parts).mean())
