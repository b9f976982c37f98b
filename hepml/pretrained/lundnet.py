"""The published LundNet weights (arXiv:2012.08526): names are hepml's own; shapes tell the coordinates.

Their ψ is made of azimuths from 0 to 2π, and jumps where a declustering lies on both sides of φ = 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# By their number, as the published program chooses and orders them.
COORDINATES = {
    2: ("ln_delta", "ln_kt"),
    3: ("ln_z", "ln_delta", "ln_kt"),
    4: ("ln_z", "ln_delta", "ln_kt", "psi"),
    5: ("ln_z", "ln_delta", "psi", "ln_m", "ln_kt"),
}


def read(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor], tuple[str, ...] | None]:
    """Hyperparameters, state and classes.

    Raises:
        ValueError: a number of coordinates that no published network has.
        KeyError: a parameter that is not there.
    """
    columns = state["edge_convs.0.theta.weight"].shape[1]
    if columns not in COORDINATES:
        raise ValueError(f"{columns} coordinates a declustering, where 2 to 5 are known")
    widths = []
    for block in range(_count(state, r"edge_convs\.(\d+)\.theta\.weight")):
        first = state[f"edge_convs.{block}.theta.weight"].shape[0]
        more = _count(state, rf"edge_convs\.{block}\.fcs\.(\d+)\.weight")
        widths.append((first, *(state[f"edge_convs.{block}.fcs.{i}.weight"].shape[0] for i in range(more))))
    hidden = _count(state, r"fc\.(\d+)\.0\.weight")
    outputs = state[f"fc.{hidden}.weight"].shape[0]
    hyperparameters = {
        "outputs": outputs,
        "coordinates": COORDINATES[columns],
        "widths": tuple(widths),
        "head": tuple(state[f"fc.{i}.0.weight"].shape[0] for i in range(hidden)),
        "wrapped": False,
    }
    return hyperparameters, dict(state), ("background", "signal") if outputs == 2 else None


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len([name for name in state if re.fullmatch(pattern, name)])
