"""The pixel pendulum (arXiv:1906.01563, task 6), rendered by us: from pairs of frames to a latent phase space with its own law.

The paper's frames came from a screen of OpenAI Gym. Ours are drawn from the angle: a rod of soft edges on 28 x 28 pixels, hanging from
the middle. Units are the paper's canonical ones, H = 1.875 (1 - cos q) + p² with p a quarter of Gym's angular velocity; a frame is 0.1
long in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hepml.dynamics.integrators import DivergenceError, rk4, rollout
from hepml.dynamics.networks import network
from hepml.dynamics.systems import Pendulum
from hepml.dynamics.trajectories import solve
from hepml.errors import ConfigError

SIDE = 28
FRAME = 0.1  # time between frames
STRENGTH = 1.875
LARGEST_ANGLE, LARGEST_MOMENTUM = math.pi / 6, 0.25


class PixelPendulum(Pendulum):
    """The pendulum behind the frames; initial angles within ±30 degrees."""

    def __init__(self, strength: float = STRENGTH) -> None:
        super().__init__(strength)

    def sample(self, count: int, generator: np.random.Generator | np.random.RandomState) -> Tensor:
        draws = 2 * generator.random((count, 2)) - 1
        return torch.as_tensor(draws * np.array([LARGEST_ANGLE, LARGEST_MOMENTUM]))


@dataclass(frozen=True)
class Frames:
    """Movies of a pendulum.

    Args:
        pixels: [K, T, 28 * 28] brightness in [0, 1].
        states: [K, T, 2] the true (q, p).
    """

    pixels: Tensor
    states: Tensor

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Every two adjacent frames stacked, and the same one frame later, each [K (T - 2), 2 * 28 * 28]."""
        stacked = torch.cat((self.pixels[:, :-1], self.pixels[:, 1:]), dim=-1)
        return stacked[:, :-1].flatten(0, 1), stacked[:, 1:].flatten(0, 1)


def render(angle: Tensor, *, length: float = 11.0, width: float = 1.6, softness: float = 0.7) -> Tensor:
    """A rod that hangs from the middle of the picture at an angle from the vertical. Shapes: [...] -> [..., 28 * 28] in [0, 1].

    Args:
        length, width: of the rod in pixels, half the width on each side.
        softness: of its edges in pixels, so that brightness changes smoothly with the angle.
    """
    line = torch.arange(SIDE, dtype=angle.dtype, device=angle.device) - (SIDE - 1) / 2
    down, right = torch.meshgrid(line, line, indexing="ij")
    tip = torch.stack((torch.sin(angle), torch.cos(angle)), dim=-1)[..., None, None, :]
    along = (right * tip[..., 0] + down * tip[..., 1]).clamp(0, length)
    distance = torch.sqrt((right - along * tip[..., 0]) ** 2 + (down - along * tip[..., 1]) ** 2 + 1e-12)
    return torch.sigmoid((width - distance) / softness).flatten(-2)


def read_angle(pixels: Tensor) -> Tensor:
    """The angle of the rod in a frame, from the direction of the centre of brightness. Shapes: [..., 28 * 28] -> [...]."""
    line = torch.arange(SIDE, dtype=pixels.dtype, device=pixels.device) - (SIDE - 1) / 2
    # The dark ground of a decoded frame is noise around zero: only what is bright counts.
    bright = (pixels - 0.1).clamp_min(0).unflatten(-1, (SIDE, SIDE))
    return torch.atan2((bright.sum(-2) * line).sum(-1), (bright.sum(-1) * line).sum(-1))


def read_states(stacked: Tensor) -> Tensor:
    """(q, p) half a frame in, read from two stacked frames. Shapes: [..., 2 * 28 * 28] -> [..., 2]."""
    first, second = (read_angle(frame) for frame in stacked.chunk(2, dim=-1))
    return torch.stack((0.5 * (first + second), 0.5 * (second - first) / FRAME), dim=-1)


def make_frames(trajectories: int = 200, frames: int = 103, seed: int = 0) -> Frames:
    """Movies of a pendulum that starts anywhere within its range."""
    system = PixelPendulum()
    times = FRAME * torch.arange(frames, dtype=torch.float64)
    states = solve(system, system.sample(trajectories, np.random.default_rng(seed)), times)
    return Frames(render(states[..., 0]).float(), states)


class PixelLaw(nn.Module):
    """An autoencoder of two stacked frames, and a law of motion in its latent space, in units of frames.

    With `components`, the autoencoder works on the principal components of single frames. They are fixed and orthonormal, so that squared
    errors are those of the pixels up to what the basis leaves out; a step costs a third, because most pixels never change.

    Args:
        law: name of a network of `hepml.dynamics.networks`.
        latent: coordinates of the latent space.
        width: units of the autoencoder's layers.
        components: principal components of a frame that the autoencoder sees; the pixels themselves where None, as in the paper.
        law_arguments: of the law.
    """

    basis: Tensor
    average: Tensor

    def __init__(
        self,
        law: str = "hnn",
        latent: int = 2,
        width: int = 200,
        components: int | None = None,
        **law_arguments: object,
    ) -> None:
        super().__init__()
        if components is not None and not 0 < components <= SIDE * SIDE:
            raise ConfigError(
                f"{components} components of {SIDE * SIDE} pixels", mend="24 leave out 6e-8 of squared brightness"
            )
        seen = 2 * (components or SIDE * SIDE)
        self.components = components
        self.register_buffer("basis", torch.zeros(components or 0, SIDE * SIDE))
        self.register_buffer("average", torch.zeros(SIDE * SIDE))
        self.encoder = _Residual(seen, width, latent)
        self.decoder = _Residual(latent, width, seen)
        self.law = network(law, latent, **law_arguments)

    def look(self, data: Frames) -> None:
        """Finds the principal components of the frames of a training set; nothing to do where the pixels themselves are seen."""
        if self.components is None:
            return
        frames = data.pixels.flatten(0, 1)
        with torch.no_grad():
            self.average.copy_(frames.mean(0))
            scatter = torch.cov((frames - self.average).double().T)
            self.basis.copy_(torch.linalg.eigh(scatter).eigenvectors[:, -self.components :].T.flip(0))

    def compress(self, stacked: Tensor) -> Tensor:
        """What the encoder sees of stacked frames. Shapes: [..., 2 * 28 * 28] -> [..., 2 * components]."""
        if self.components is None:
            return stacked
        frames = stacked.unflatten(-1, (2, SIDE * SIDE)) - self.average
        return (frames @ self.basis.T).flatten(-2)

    def restore(self, seen: Tensor) -> Tensor:
        """Stacked frames from what the decoder gives. Shapes: [..., 2 * components] -> [..., 2 * 28 * 28]."""
        if self.components is None:
            return seen
        return (seen.unflatten(-1, (2, self.components)) @ self.basis + self.average).flatten(-2)


class _Residual(nn.Module):
    """Linear, two residual layers and a linear map, orthogonal, as the paper's autoencoder has on each side."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in ((inputs, hidden), (hidden, hidden), (hidden, hidden), (hidden, outputs))
        )
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.orthogonal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.layers[0](x))
        x = x + torch.relu(self.layers[1](x))
        x = x + torch.relu(self.layers[2](x))
        return self.layers[3](x)  # type: ignore[no-any-return]


def pixel_loss(model: PixelLaw, now: Tensor, then: Tensor, *, law_weight: float = 0.1, method: str = "euler") -> Tensor:
    """Autoencoder + canonical-coordinate + weighted law loss of each pair of pairs (arXiv:1906.01563, section 5), [B].

    Args:
        now, then: stacked frames, and the same a frame later, as `PixelLaw.compress` gives them, [B, 2 * 28 * 28] where it sees pixels.
        law_weight: of the law; the paper has 0.1.
        method: `euler` as in the paper, or `rk4`, which does not mistake curvature for force.

    Raises:
        ConfigError: another method.
    """
    if method not in ("euler", "rk4"):
        raise ConfigError(f"cannot step latents by '{method}'", mend="use euler or rk4")
    z, z_then = model.encoder(now), model.encoder(then)
    rebuilt = (model.decoder(z) - now).square().sum(-1) / (2 * SIDE * SIDE)
    predicted = z + model.law(z) if method == "euler" else rk4(model.law, z, 1.0)
    moved = (z_then - predicted).square().mean(-1)
    position, velocity = z.chunk(2, dim=-1)
    canonical = (velocity - (z_then.chunk(2, dim=-1)[0] - position)).square().mean(-1)
    return rebuilt + canonical + law_weight * moved


def fit_pixels(
    model: PixelLaw,
    train: Frames,
    test: Frames,
    *,
    steps: int = 10_000,
    batch_size: int = 200,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-5,
    schedule: str = "constant",
    law_weight: float = 0.1,
    method: str = "euler",
    every: int = 100,
    seed: int = 0,
    progress: object = None,
) -> tuple[float, float, list[dict[str, float]]]:
    """Trains autoencoder and law together; returns the published train and test loss (with the paper's weights) and the history.

    Raises:
        DivergenceError: the loss is not finite.
    """
    optimiser = torch.optim.Adam(model.parameters(), learning_rate, weight_decay=weight_decay, fused=True)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps) if schedule == "cosine" else None
    generator = torch.Generator().manual_seed(seed)
    model.look(train)
    with torch.no_grad():
        now, then = (model.compress(x) for x in train.pairs())
    history: list[dict[str, float]] = []
    for step in range(steps + 1):
        batch = torch.randint(len(now), (batch_size,), generator=generator)
        optimiser.zero_grad(set_to_none=True)
        loss = pixel_loss(model, now[batch], then[batch], law_weight=law_weight, method=method).mean()
        loss.backward()
        if step % every == 0 or step == steps:
            value = float(loss.detach())
            if not math.isfinite(value):
                raise DivergenceError(f"the training loss is {value} at step {step}", mend="lower learning_rate")
            history.append(
                {"step": step, "train_loss": value, "test_loss": published_loss(model, test, most=batch_size)}
            )
            if callable(progress):
                progress(step, history[-1])
        optimiser.step()
        if annealing is not None and step < steps:
            annealing.step()
    return published_loss(model, train), published_loss(model, test), history


def published_loss(model: PixelLaw, data: Frames, most: int = 4000) -> float:
    """The paper's loss over evenly spread pairs of a set, at most so many."""
    now, then = data.pairs()
    some = torch.linspace(0, len(now) - 1, min(most, len(now))).long()
    with torch.no_grad():
        parts: list[Tensor] = []
        for i in some.split(500):
            a, b = model.compress(now[i]), model.compress(then[i])
            left_out = (model.restore(a) - now[i]).square().mean(-1)
            parts.append(pixel_loss(model, a, b) + left_out)
    return float(torch.cat(parts).mean())


def follow_pixels(model: PixelLaw, data: Frames, trajectories: int = 15) -> Tensor:
    """(q, p) read from decoded frames along latent rollouts, [B, T - 1, 2]; they begin at the first two frames of each movie.

    Raises:
        DivergenceError: a rollout runs away.
    """
    pixels = data.pixels[:trajectories]
    start = torch.cat((pixels[:, 0], pixels[:, 1]), dim=-1)
    with torch.no_grad():
        z = model.encoder(model.compress(start)).double()
        law = _Double(model.law)
        times = torch.arange(pixels.shape[1] - 1, dtype=torch.float64)
        path = rollout(law, z, times, "adaptive", tolerance=1e-6)
        return read_states(model.restore(model.decoder(path.to(pixels.dtype))).double())


class _Double(nn.Module):
    """A float32 law for float64 states."""

    def __init__(self, law: nn.Module) -> None:
        super().__init__()
        self.law = law

    def forward(self, z: Tensor) -> Tensor:
        return self.law(z.float()).to(z)  # type: ignore[no-any-return]
