"""The calorimeter of the parametric detector: resolutions of energy, and the mesh of towers that both of
its parts share (see `hepml.generation.detector`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


def ecal_resolution(eta: Array, energy: Array) -> Array:
    """Absolute resolution of electromagnetic energy in GeV (10.1 % stochastic, 0.17 % constant in the
    precision region)."""
    size = np.abs(eta)
    central, forward = (
        np.hypot(0.0017 * energy, 0.101 * np.sqrt(energy)),
        np.hypot(0.035 * energy, 0.285 * np.sqrt(energy)),
    )
    return np.where(size <= 3.2, central, np.where(size <= 4.9, forward, 0.0))


def hcal_resolution(eta: Array, energy: Array) -> Array:
    """Absolute resolution of hadronic energy in GeV (52 % stochastic, 3 % constant, 1.59 GeV noise in the
    barrel)."""
    size = np.abs(eta)
    barrel = np.sqrt((0.0302 * energy) ** 2 + 0.5205**2 * energy + 1.59**2)
    endcap = np.sqrt((0.05 * energy) ** 2 + 0.706**2 * energy)
    forward = np.sqrt((0.0942 * energy) ** 2 + energy)
    return np.where(size <= 1.7, barrel, np.where(size <= 3.2, endcap, np.where(size <= 4.9, forward, 0.0)))


class TowerMesh:
    """The mesh of towers: edges in eta, and for each ring the number of equal steps in phi."""

    def __init__(self) -> None:
        fine = np.round(
            np.arange(-25, 27) * 0.1, 1
        )  # upper edges of rings with 36 steps, besides -3.2 and 3.3
        one_side = np.array([2.8, 3.0, 3.2, 3.5, 3.7, 3.9, 4.1, 4.3, 4.5, 4.7, 4.9])
        other_side = -np.array([2.6, 2.8, 3.0, 3.3, 3.5, 3.7, 3.9, 4.1, 4.3, 4.5, 4.7])
        coarse = np.concatenate([other_side, one_side])
        upper = np.concatenate([fine, [-3.2, 3.3], coarse])
        steps = np.concatenate([np.full(len(fine) + 2, 36), np.full(len(coarse), 18)])
        order = np.argsort(upper)
        self.edges = np.concatenate([[-4.9], upper[order]])
        self.steps = steps[order].astype(np.int64)
        self.first = np.concatenate([[0], np.cumsum(self.steps)[:-1]])
        self.size = int(self.steps.sum())
        self.ring = np.repeat(np.arange(len(self.steps)), self.steps)

    def index(self, eta: Array, phi: Array) -> Ints:
        """Tower number of each direction, -1 outside the calorimeter."""
        ring = np.searchsorted(self.edges, eta, side="left") - 1
        inside = (ring >= 0) & (ring < len(self.steps))
        ring = np.where(inside, ring, 0)
        steps = self.steps[ring]
        step = np.clip(((phi + np.pi) / (2 * np.pi) * steps).astype(np.int64), 0, steps - 1)
        return np.where(inside, self.first[ring] + step, -1)

    def centre_eta(self, tower: Ints) -> Array:
        """Pseudorapidity of the middle of a tower, at which the resolutions are taken."""
        ring = self.ring[tower]
        out: Array = 0.5 * (self.edges[ring] + self.edges[ring + 1])
        return out

    def smear(self, tower: Ints, rng: np.random.Generator) -> tuple[Array, Array]:
        """A direction drawn uniformly inside each tower: a calorimeter does not know where in the tower the
        energy fell."""
        ring = self.ring[tower]
        low, high = self.edges[ring], self.edges[ring + 1]
        step = (tower - self.first[ring] + rng.random(len(tower))) / self.steps[ring]
        return low + (high - low) * rng.random(len(tower)), 2 * np.pi * step - np.pi


MESH = TowerMesh()


def log_normal(mean: Array, sigma: Array, rng: np.random.Generator) -> Array:
    """Log-normal numbers of given mean and standard deviation; zero where the mean is not positive."""
    positive = mean > 0
    safe = np.where(positive, mean, 1.0)
    spread = np.sqrt(np.log1p((sigma / safe) ** 2))
    return np.where(positive, safe * np.exp(spread * rng.standard_normal(len(mean)) - 0.5 * spread**2), 0.0)
