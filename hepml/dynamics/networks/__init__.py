"""Networks that learn a law of motion, by name.

They map states to time derivatives and know nothing of jets, so they live here and not among the taggers of
`hepml.models`.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from hepml.dynamics.networks.basic import HNN, Baseline, Hamiltonian, MechanicalHNN, Separable, SeparableHNN
from hepml.dynamics.networks.dissipative import DampedMechanicalHNN, DissipativeHNN
from hepml.dynamics.networks.graph import GraphHNN, PairHNN
from hepml.dynamics.networks.lagrangian import LagrangianNN
from hepml.errors import ConfigError, did_you_mean

NETWORKS: dict[str, type[nn.Module]] = {
    "mlp": Baseline,
    "hnn": HNN,
    "separable_hnn": SeparableHNN,
    "mechanical_hnn": MechanicalHNN,
    "dissipative_hnn": DissipativeHNN,
    "damped_mechanical_hnn": DampedMechanicalHNN,
    "lagrangian_nn": LagrangianNN,
    "graph_hnn": GraphHNN,
    "pair_hnn": PairHNN,
}

__all__ = [
    "HNN",
    "NETWORKS",
    "Baseline",
    "DampedMechanicalHNN",
    "DissipativeHNN",
    "GraphHNN",
    "Hamiltonian",
    "LagrangianNN",
    "MechanicalHNN",
    "PairHNN",
    "Separable",
    "SeparableHNN",
    "network",
]


def network(name: str, dimension: int, **arguments: Any) -> nn.Module:
    """The network of that name for a phase space of `dimension` coordinates.

    Raises:
        ConfigError: no such network, or an argument that it does not take; names the nearest.
    """
    if name not in NETWORKS:
        raise ConfigError(f"unknown network '{name}'", mend=did_you_mean(name, NETWORKS, noun="networks"))
    known = [key for key in inspect.signature(NETWORKS[name]).parameters if key != "dimension"]
    for key in arguments:
        if key not in known:
            raise ConfigError(
                f"network '{name}' takes no '{key}'", mend=did_you_mean(key, known, noun="it takes")
            )
    return NETWORKS[name](dimension, **arguments)
