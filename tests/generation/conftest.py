"""A detector's input by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hepml.generation.detector import Particles
from hepml.generation.events import electric_charge


@pytest.fixture(scope="session")
def beam() -> Callable[..., Particles]:
    """Equal particles, one an event unless `event` says otherwise: `beam(pdg, pt, eta, phi, number)`; pT in
    GeV, lengths in mm."""
    masses = {11: 0.000511, 13: 0.10566, 211: 0.13957, 130: 0.4976, 310: 0.4976}

    def make(
        pdg: int,
        pt: float,
        eta: float = 0.2,
        phi: float = 0.3,
        number: int = 1,
        vertex: tuple[float, float, float] = (0, 0, 0),
    ) -> Particles:
        one = np.ones(number)
        energy = np.sqrt((pt * np.cosh(eta)) ** 2 + masses.get(abs(pdg), 0.0) ** 2)
        ids = np.full(number, pdg)
        return Particles(
            np.arange(number), ids, electric_charge(ids), pt * np.cos(phi) * one, pt * np.sin(phi) * one,
            pt * np.sinh(eta) * one, energy * one, *(v * one for v in vertex),
        )  # fmt: skip

    return make
