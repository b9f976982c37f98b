"""The `weights` section of a weaver YAML as a layout's `reweight` (`hepml.data.sampling.group_weights`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KNOWN = (
    "use_precomputed_weights", "weight_branches", "reweight_basewgt", "reweight_method", "reweight_vars",
    "reweight_classes", "class_weights", "reweight_threshold", "reweight_discard_under_overflow",
    "reweight_hists",
)  # fmt: skip


def reweighting(section: Mapping[str, Any], base: str | None) -> tuple[dict[str, Any] | None, list[str]]:
    """The layout's mapping (None where the section has no variables or classes), and keys without a
    counterpart.

    Args:
        section: of the YAML.
        base: name of the column of base weights, where there is one.
    """
    lost = [str(key) for key in section if key not in _KNOWN]
    columns, classes = section.get("reweight_vars"), section.get("reweight_classes")
    method = section.get("reweight_method", "flat")
    if method not in ("flat", "ref") or not columns or not classes:
        return None, [*lost, "reweight_method" if columns and classes else "reweight_vars"]
    shares = section.get("class_weights") or [1] * len(classes)
    if len(shares) != len(classes):
        return None, [*lost, "class_weights"]
    settings: dict[str, Any] = {
        "columns": {str(n): [float(e) for e in edges] for n, edges in columns.items()},
        "to": method,
        "groups": {str(n): float(share) for n, share in zip(classes, shares, strict=True)},
        "threshold": float(section.get("reweight_threshold", 10)),
    }
    if section.get("reweight_hists"):
        settings["histograms"] = section["reweight_hists"]
    if base is not None:
        settings["base"] = base
    if section.get("reweight_discard_under_overflow", True) is False:
        settings["outside"] = "keep"
    return settings, lost
