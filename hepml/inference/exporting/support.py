"""Which taggers can be exported, and why others cannot: one table for `hepml export --table`, the docs and
the tests."""

from __future__ import annotations

from typing import Any

from hepml.models import registry

_TREES = "its clustering tree is made by FastJet, outside of any graph: run it with `hepml predict`"
_POLYNOMIALS = "its polynomials are made when a file is read: run it with `hepml predict`"
_COMPLEX = "it computes with complex numbers, which ONNX has not: run it with `hepml predict`"
_FLOW = "its pairs are packed by the lengths of the jets: run it with `hepml predict`"
REASONS: dict[str, str] = {
    "recnn": _TREES,
    "recnn_gated": _TREES,
    "treenin": _TREES,
    "lundnet": _TREES,
    "efp": _POLYNOMIALS,
    "efp_mlp": _POLYNOMIALS,
    "efp_mlp_safe": _POLYNOMIALS,
    "lgatr": _COMPLEX,
    "lgn": _COMPLEX,
    "hamiltonian_cloud": _FLOW,
    "residual_cloud": _FLOW,
}
_NEIGHBOURS = (
    "to 1e-3 where constituents stand on a calorimeter's grid, at distances that are equal to the last bit"
)
_FRAMES = "to 1e-3 for jets of three constituents and more; fewer have no frame"
# Where float32 does not settle a probability to 1e-5.
ROUNDING: dict[str, str] = {
    "ensemble": "where all of its members export, as well as the worst of them",
    "gcn": _NEIGHBOURS,
    "gat": _NEIGHBOURS,
    "dgcnn": _NEIGHBOURS,
    "graph_network": _NEIGHBOURS,
    "particlenet": "to 1e-4 where constituents stand on a calorimeter's grid (neighbours at equal distances)",
    "particlenet_lite": "to 1e-4 where constituents stand on a calorimeter's grid, as particlenet",
    "lorentznet": "to 3e-4, which is torch's own rounding: the file agrees with float64 to 1e-7",
    "topodnn": "to 2e-5",
    "perceptron": "to 2e-4 without statistics of its standardisation, which training gives it",
    "mlp": "to 1e-4 without statistics of its standardisation, which training gives it",
    "lloca": _FRAMES,
    "lloca_transformer": _FRAMES,
}


def support() -> list[dict[str, Any]]:
    """One entry a registered model: `name`, `exports`, `note`."""
    return [
        {
            "name": name,
            "exports": name not in REASONS,
            "note": REASONS.get(name) or ROUNDING.get(name, "probabilities to 1e-5"),
        }
        for name in registry()
    ]
