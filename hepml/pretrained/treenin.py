"""The published TreeNiN weights (doi:10.5281/zenodo.2582216): names and shapes to `hepml.models.treenin`.

The network was trained on kT trees of momenta as they are, with one output. Its file holds layers twice;
those of the embedding that is used stand below `transform.`, among them some that no published result goes
through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

# Layers on top of a node, by who reads it: leaves, merges, and the left and right child of the root.
RENAMED = {
    "transform.fc_u_outer": "u_leaf",
    "transform.fc_u_inner": "u_merge",
    "transform.fc_h": "w_h",
    "transform.fc_N5": "on_leaf.0",
    "transform.fc_N9": "on_leaf.2",
    "transform.fc_N2": "on_merge.0",
    "transform.fc_N6": "on_merge.2",
    "transform.fc_N3": "on_left.0",
    "transform.fc_N7": "on_left.2",
    "transform.fc_N4": "on_right.0",
    "transform.fc_N8": "on_right.2",
    "fc1": "head.0",
    "fc2": "head.2",
    "fc3": "head.4",
}


def read(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor], tuple[str, ...] | None]:
    """Hyperparameters, renamed state and classes.

    Raises:
        KeyError: a parameter that is not there.
    """
    outputs = state["fc3.weight"].shape[0]
    hyperparameters = {
        "outputs": outputs,
        "tree": "kt",
        "hidden": state["transform.fc_u_outer.weight"].shape[0],
        "head": (state["fc1.weight"].shape[0], state["fc2.weight"].shape[0]),
        "frame": "lab",
    }
    renamed = {
        f"{ours}.{kind}": state[f"{theirs}.{kind}"]
        for theirs, ours in RENAMED.items()
        for kind in ("weight", "bias")
    }
    return hyperparameters, renamed, ("QCD", "top") if outputs == 1 else None
