"""The published LorentzNet weights: names and shapes to `hepml.models.lorentznet`.

The published network of arXiv:2201.08187 was trained with beam particles as references, averages over 202
nodes (200 constituents and two beams, padding counted), and bounds each component of its vector updates at
100 GeV.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

RENAMED = {"LGEBs.": "blocks.", "graph_dec.": "head."}
# With two scalars a particle, [psi(|m|) if constituent, psi(|m|) if beam], there are beams; with one there
# are none.
REFERENCES: dict[int, tuple[str, ...]] = {1: (), 2: ("beam",)}


def read(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor], tuple[str, ...] | None]:
    """Hyperparameters, renamed state and classes.

    Raises:
        ValueError: a number of scalars that the published recipe does not have.
        KeyError: a parameter that is not there.
    """
    width, scalars = state["embedding.weight"].shape
    if scalars not in REFERENCES:
        raise ValueError(f"{scalars} scalars a particle, where 1 (no beams) or 2 (beams) are known")
    outputs = state["graph_dec.3.weight"].shape[0]
    hyperparameters = {
        "outputs": outputs,
        "n_hidden": width,
        "n_blocks": 1 + max(int(name.split(".")[1]) for name in state if name.startswith("LGEBs.")),
        "references": REFERENCES[scalars],
        "c": 5e-3,
        "nodes": 200 + (2 if scalars == 2 else 0),
        "vectors": "components",
        "update_limit": 100.0,
    }
    renamed = {}
    for name, value in state.items():
        for theirs, ours in RENAMED.items():
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
        renamed[name] = value
    return hyperparameters, renamed, ("QCD", "top") if outputs == 2 else None
