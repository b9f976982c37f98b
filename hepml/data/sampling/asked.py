"""The reweighting that a config or a layout asks for, of whichever kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepml.data.reading.layouts import Layout
from hepml.data.sampling.group_weights import GroupWeights
from hepml.data.sampling.reweighting import Reweighting


def parse_reweighting(value: Mapping[str, Any], key: str = "data.reweight") -> Reweighting | GroupWeights:
    """A reweighting by classes or by groups.

    Raises:
        ConfigError: see the two.
    """
    return GroupWeights.parse(value, key) if "groups" in value else Reweighting.parse(value, key)


def reweighting_in(layout: Any) -> Reweighting | GroupWeights | None:
    """How the config or the layout that is given reweights training jets; None where it does not.

    Args:
        layout: a name, a mapping, a `Layout`, or a YAML file, which may be a run's config.
    """
    value: Any = None
    if isinstance(layout, str) and layout.endswith((".yaml", ".yml")) and Path(layout).is_file():
        from hepml.config import read_yaml

        content = read_yaml(Path(layout))
        data = content.get("data") if isinstance(content, Mapping) else None
        value = data.get("reweight") if isinstance(data, Mapping) else None
    if value is None and layout is not None:
        value = Layout.parse(layout).reweight
    return parse_reweighting(dict(value)) if value else None
