"""The published LorentzNet weights: names and shapes to `hepml.models.lorentznet`.

The published network of arXiv:2201.08187 was trained with beam particles as references, averages over 202
nodes (200 constituents and two beams, padding counted), and bounds each component of its vector updates at
100 GeV.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hepml.data.features import IDENTITY

# Jets of the published quark-gluon data set are padded to its longest; padding counts in the mean. Shapes do
# not tell it: `load(path, nodes=…)` where the jets were padded to another length.
QUARK_GLUON_NODES = 139
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
    outputs = state["graph_dec.3.weight"].shape[0]
    if scalars == len(IDENTITY):
        classes = ("gluon", "quark") if outputs == 2 else None
        return _quark_gluon(state, width, outputs), _renamed(state), classes
    if scalars not in REFERENCES:
        raise ValueError(
            f"{scalars} scalars a particle, where 1 (no beams), 2 (beams) or 8 (one-hot identities) are known"
        )
    hyperparameters = {
        "outputs": outputs,
        "n_hidden": width,
        "n_blocks": _blocks(state),
        "references": REFERENCES[scalars],
        "c": 5e-3,
        "nodes": 200 + (2 if scalars == 2 else 0),
        "vectors": "components",
        "update_limit": 100.0,
    }
    return hyperparameters, _renamed(state), ("QCD", "top") if outputs == 2 else None


def _blocks(state: Mapping[str, Tensor]) -> int:
    return 1 + max(int(name.split(".")[1]) for name in state if name.startswith("LGEBs."))


def _quark_gluon(state: Mapping[str, Tensor], width: int, outputs: int) -> dict[str, Any]:
    """The published quark-gluon network: one-hot identities, no beams, a mean over the padded length."""
    return {
        "outputs": outputs,
        "n_hidden": width,
        "n_blocks": _blocks(state),
        "references": (),
        "features": "identity",
        "c": 1e-3,
        "nodes": QUARK_GLUON_NODES,
        "vectors": "components",
        "update_limit": 100.0,
    }


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        for theirs, ours in RENAMED.items():
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
        renamed[name] = value
    return renamed
