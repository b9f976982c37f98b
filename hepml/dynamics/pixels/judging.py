"""Energies of latent rollouts, in two ways: from what the decoded frames show, and as the paper's notebook
estimates them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hepml.dynamics.evaluation import Reference, Rollouts
from hepml.dynamics.integrators import rollout
from hepml.dynamics.pixels.frames import FRAME, Frames, PixelPendulum, make_frames, read_states
from hepml.dynamics.pixels.networks import PixelLaw

# The notebook's movie: it starts between 16.4 and 18 degrees and has 200 frames.
NOTEBOOK_FRAMES = 200
NOTEBOOK_ANGLES = (math.pi / 11, math.pi / 10)


def follow_pixels(model: PixelLaw, data: Frames, trajectories: int = 15) -> Tensor:
    """(q, p) read from decoded frames along latent rollouts, [B, T - 1, 2]; they begin at the first two
    frames of each movie.

    Raises:
        DivergenceError: a rollout runs away.
    """
    with torch.no_grad():
        z = roll_latents(model, data.pixels[:trajectories])
        return read_states(model.restore(model.decode(z)).double())


def notebook_energies(
    model: PixelLaw, train: Frames, trajectories: int = 15, seed: int = 10_000, frames: int = NOTEBOOK_FRAMES
) -> tuple[Reference, Rollouts]:
    """The motion whose energies the paper compares for its table (its notebook `analyze-pixels`).

    Latents are rolled out from the first two frames, decoded into pairs of frames and encoded again; a linear
    map, fitted to Gym's states over the training movies, makes canonical coordinates of them; the first is
    the truth's. Energies follow from the coordinates. The notebook has one movie and fits its map by Adam;
    this has several, other ones than the training's, and least squares. Its clock runs slower than its frames
    by 1.5 %, which this leaves out.

    Raises:
        DivergenceError: a rollout runs away.
    """
    movies = make_frames(trajectories, frames + 1, seed, PixelPendulum(1.9, *NOTEBOOK_ANGLES))
    # The notebook's states are one frame ahead of the second frame of a pair.
    known = train.states[:, 2:].flatten(0, 1)
    with torch.no_grad():
        pairs = train.pairs()[0]
        codes = torch.cat([model.encode(model.compress(x)) for x in pairs.split(2000)]).double()
        ones = torch.ones(len(codes), 1, dtype=torch.float64)
        fitted = torch.linalg.lstsq(torch.cat((codes, ones), dim=1), known).solution
        decoded = model.restore(model.decode(roll_latents(model, movies.pixels[:, :frames])))
        again = model.encode(model.compress(decoded)).double()
    predicted = again @ fitted[:-1] + fitted[-1]
    truth = movies.states[:, 2 : predicted.shape[1] + 2]
    predicted[:, 0] = truth[:, 0]
    times = FRAME * torch.arange(predicted.shape[1], dtype=torch.float64)
    return Reference(truth, times), Rollouts(predicted, 0)


def roll_latents(model: PixelLaw, pixels: Tensor) -> Tensor:
    """Latents from the first two frames on, a frame apart. Shapes: [B, T, 28 * 28] -> [B, T - 1, latent]."""
    with torch.no_grad():
        start = torch.cat((pixels[:, 0], pixels[:, 1]), dim=-1)
        z = model.encode(model.compress(start)).double()
        times = torch.arange(pixels.shape[1] - 1, dtype=torch.float64)
        return rollout(_Double(model), z, times, "adaptive", tolerance=1e-6).to(pixels.dtype)


class _Double(nn.Module):
    """A float32 law for float64 states."""

    def __init__(self, model: PixelLaw) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        return self.model.move(z.float()).to(z)
