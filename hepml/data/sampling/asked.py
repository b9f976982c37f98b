"""The reweighting that a config or a layout asks for, of whichever kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepml.data.layouts.event_layout import with_jets
from hepml.data.reading.layouts import Layout
from hepml.data.sampling.group_weights import GroupWeights
from hepml.data.sampling.reweighting import Reweighting


def parse_reweighting(value: Mapping[str, Any], key: str = "data.reweight") -> Reweighting | GroupWeights:
    """A reweighting by classes or by groups.

    Raises:
        ConfigError: see the two.
    """
    return GroupWeights.parse(value, key) if "groups" in value else Reweighting.parse(value, key)


def layout_in(layout: Any) -> Any:
    """The layout that a run's config has, with its jet collection, None where it has none; what is no config
    is given back as it is."""
    data = _data_of(layout)
    if data is None:
        return layout
    jets = data.get("jets")
    if data.get("layout") is None:
        return with_jets(None, None if jets is None else str(jets))
    return layout if jets is None else with_jets(layout, str(jets))


def reweighting_in(layout: Any) -> Reweighting | GroupWeights | None:
    """How the config or the layout that is given reweights training jets; None where it does not.

    Args:
        layout: a name, a mapping, a `Layout`, or a YAML file, which may be a run's config.
    """
    data = _data_of(layout) or {}
    value = data.get("reweight")
    if value is None and layout is not None and (not data or data.get("layout") is not None):
        value = Layout.parse(layout).reweight
    return parse_reweighting(dict(value)) if value else None


def _data_of(layout: Any) -> Mapping[str, Any] | None:
    """What a run's config says of its data; None where this is the name of no such file."""
    if not (isinstance(layout, str) and layout.endswith((".yaml", ".yml")) and Path(layout).is_file()):
        return None
    from hepml.config import read_yaml

    content = read_yaml(Path(layout))
    data = content.get("data") if isinstance(content, Mapping) else None
    return data if isinstance(data, Mapping) else None
