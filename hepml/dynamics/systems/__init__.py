"""Mechanical systems by name."""

from __future__ import annotations

import inspect
from typing import Any

from hepml.dynamics.systems.accelerator import Dipole, Fodo, FodoByCell
from hepml.dynamics.systems.base import System
from hepml.dynamics.systems.gravity import NBody, ThreeBody, TwoBody
from hepml.dynamics.systems.oscillators import DampedPendulum, DampedSpring, Pendulum, Spring
from hepml.errors import ConfigError, did_you_mean

SYSTEMS: dict[str, type[System]] = {
    kind.name: kind
    for kind in (
        Spring,
        Pendulum,
        DampedPendulum,
        DampedSpring,
        TwoBody,
        ThreeBody,
        NBody,
        Dipole,
        Fodo,
        FodoByCell,
    )
}

__all__ = [
    "SYSTEMS",
    "DampedPendulum",
    "DampedSpring",
    "Dipole",
    "Fodo",
    "FodoByCell",
    "NBody",
    "Pendulum",
    "Spring",
    "System",
    "ThreeBody",
    "TwoBody",
    "system",
]


def system(name: str, **arguments: Any) -> System:
    """The system of that name.

    Raises:
        ConfigError: no such system, or an argument that it does not take; names the nearest.
    """
    if name not in SYSTEMS:
        raise ConfigError(f"unknown system '{name}'", mend=did_you_mean(name, SYSTEMS, noun="systems"))
    known = inspect.signature(SYSTEMS[name]).parameters
    for key in arguments:
        if key not in known:
            raise ConfigError(
                f"system '{name}' takes no '{key}'", mend=did_you_mean(key, known, noun="it takes")
            )
    return SYSTEMS[name](**arguments)
