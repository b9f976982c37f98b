"""Movies of the pixel pendulum, drawn by us as OpenAI Gym's screen shows it after the published preparation.

Gym's pendulum is a rod of length 1 and width 0.2 with round ends, on a screen of 4.4 x 4.4; the paper cuts
out 1.5 x 1.5 of it around the hanging rod, subtracts green from red, which leaves the rod at half brightness
on black, and shrinks that to 28 x 28 bytes. Ours are drawn from the angle with the same geometry and edges,
without Gym. The motion is Gym's own: semi-implicit Euler steps of 0.05 s.

Units are the paper's canonical ones, H = 1.875 (1 - cos q) + p² with p a quarter of Gym's angular velocity; a
frame is 0.1 long in them.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hepml.dynamics.systems import Pendulum

SIDE = 28
FRAME = 0.1  # time between frames
STRENGTH = 1.875
LARGEST_ANGLE, LARGEST_MOMENTUM = math.pi / 6, 0.25
# The rod in pixels: 340 of the screen's 1000 rows and columns become 28, and the axle is 60 rows below the
# upper edge.
LENGTH, HALF_WIDTH, AXLE = 18.72, 1.87, 4.44
BRIGHTNESS = 127  # of 255: red minus green of the rod's colour


class PixelPendulum(Pendulum):
    """The pendulum behind the frames.

    Args:
        strength: of the energy function; the movies move under 1.875.
        smallest_angle, largest_angle: bounds of the initial angle, on either side.
    """

    def __init__(
        self, strength: float = STRENGTH, smallest_angle: float = 0.0, largest_angle: float = LARGEST_ANGLE
    ) -> None:
        super().__init__(strength)
        self.smallest_angle, self.largest_angle = smallest_angle, largest_angle

    def sample(self, count: int, generator: np.random.Generator | np.random.RandomState) -> Tensor:
        draws = 2 * generator.random((count, 2)) - 1
        angle = np.sign(draws[:, 0]) * (
            self.smallest_angle + (self.largest_angle - self.smallest_angle) * np.abs(draws[:, 0])
        )
        return torch.as_tensor(np.stack((angle, LARGEST_MOMENTUM * draws[:, 1]), axis=1))


@dataclass(frozen=True)
class Frames:
    """Movies of a pendulum.

    Args:
        pixels: [K, T, 28 * 28] brightness in [0, 0.5].
        states: [K, T, 2] Gym's (q, p) of each frame. Gym's momentum belongs half a frame earlier, so that
            their energy is not constant.
    """

    pixels: Tensor
    states: Tensor

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Every two adjacent frames stacked, and the same one frame later, each [K (T - 2), 2 * 28 * 28]."""
        stacked = torch.cat((self.pixels[:, :-1], self.pixels[:, 1:]), dim=-1)
        return stacked[:, :-1].flatten(0, 1), stacked[:, 1:].flatten(0, 1)

    def between(self) -> Tensor:
        """The true (q, p) half way between every two frames, which is what two frames show, [K, T - 1, 2]."""
        first, second = self.states[:, :-1, 0], self.states[:, 1:, 0]
        return torch.stack((0.5 * (first + second), 0.5 * (second - first) / FRAME), dim=-1)


def render(angle: Tensor) -> Tensor:
    """The rod at an angle from the vertical, in steps of 1/255. Shapes: [...] -> [..., 28 * 28] in [0,
    0.5]."""
    line = torch.arange(SIDE, dtype=angle.dtype, device=angle.device)
    down, right = torch.meshgrid(line - AXLE, line - (SIDE - 1) / 2, indexing="ij")
    tip = torch.stack((torch.sin(angle), torch.cos(angle)), dim=-1)[..., None, None, :]
    along = (right * tip[..., 0] + down * tip[..., 1]).clamp(0, LENGTH)
    distance = torch.sqrt((right - along * tip[..., 0]) ** 2 + (down - along * tip[..., 1]) ** 2)
    # Shrinking weights the screen's pixels by a triangle, one pixel to each side: an edge is that triangle's
    # integral.
    inside = (HALF_WIDTH - distance).clamp(-1, 1)
    covered = 0.5 + inside - 0.5 * inside * inside.abs()
    return ((BRIGHTNESS * covered).round() / 255).flatten(-2)


def read_angle(pixels: Tensor) -> Tensor:
    """The angle of the rod in a frame, from the direction of the centre of brightness. Shapes: [..., 28 * 28]
    -> [...]."""
    directions, true = (t.to(pixels) for t in _directions())
    direction = _direction(pixels)
    above = torch.searchsorted(directions, direction.contiguous()).clamp(1, len(directions) - 1)
    share = (direction - directions[above - 1]) / (directions[above] - directions[above - 1])
    return true[above - 1] + share * (true[above] - true[above - 1])


def _direction(pixels: Tensor) -> Tensor:
    """The direction of the centre of brightness from the axle, up to 0.003 off the angle, because pixels are
    coarse."""
    line = torch.arange(SIDE, dtype=pixels.dtype, device=pixels.device)
    # The dark ground of a decoded frame is noise around zero: only what is bright counts.
    bright = (pixels - 0.05).clamp_min(0).unflatten(-1, (SIDE, SIDE))
    across = (bright.sum(-2) * (line - (SIDE - 1) / 2)).sum(-1)
    return torch.atan2(across, (bright.sum(-1) * (line - AXLE)).sum(-1))


@functools.cache
def _directions() -> tuple[Tensor, Tensor]:
    """Directions of rendered rods, rising, and their angles."""
    angles = torch.linspace(-0.8, 0.8, 321, dtype=torch.float64)
    return _direction(render(angles)), angles


def read_states(stacked: Tensor) -> Tensor:
    """(q, p) half a frame in, read from two stacked frames. Shapes: [..., 2 * 28 * 28] -> [..., 2]."""
    first, second = (read_angle(frame) for frame in stacked.chunk(2, dim=-1))
    return torch.stack((0.5 * (first + second), 0.5 * (second - first) / FRAME), dim=-1)


def make_frames(
    trajectories: int = 200, frames: int = 103, seed: int = 0, system: PixelPendulum | None = None
) -> Frames:
    """Movies of a pendulum that starts anywhere within its system's range."""
    system = system or PixelPendulum()
    q, p = system.sample(trajectories, np.random.default_rng(seed)).unbind(-1)
    states = []
    for _ in range(frames):
        states.append(torch.stack((q, p), dim=-1))
        p = p - FRAME * STRENGTH * torch.sin(q)
        q = q + FRAME * 2 * p
    path = torch.stack(states, dim=1)
    return Frames(torch.cat([render(a).float() for a in path[..., 0].split(20)]), path)
