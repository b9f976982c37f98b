"""Which taggers can be exported, and why others cannot: one table for `hepml export --table`, the docs and
the tests."""

from __future__ import annotations

from typing import Any

from hepml.models import registry

_TREES = "its clustering tree is made by FastJet, outside of any graph: run it with `hepml predict`"
_COMPLEX = "it computes with complex numbers, which ONNX has not: run it with `hepml predict`"
REASONS: dict[str, str] = {
    "recnn": _TREES,
    "recnn_gated": _TREES,
    "treenin": _TREES,
    "lundnet": _TREES,
    "lgn": _COMPLEX,
}
# Where float32 does not settle a probability to 1e-5.
ROUNDING: dict[str, str] = {
    "ensemble": "where all of its members export, as well as the worst of them",
    "topodnn": "to 2e-5",
    "perceptron": "to 2e-4 without statistics of its standardisation, which training gives it",
    "mlp": "to 1e-4 without statistics of its standardisation, which training gives it",
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
