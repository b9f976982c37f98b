"""What MLflow accepts as names and values, and how ours are brought into that form."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Mapping
from typing import Any

NAME_LIMIT = 250
PARAMETER_LIMIT = 6000
OLD_PARAMETER_LIMIT = 250  # of servers before MLflow 2.8
TAG_LIMIT = 5000
_OF_THE_PACE = ("epoch_seconds", "jets_per_second", "seconds")
METRICS_A_BATCH = 500
ITEMS_A_BATCH = 100


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as `key.sub: text`; lists as JSON. Empty mappings stay visible as `{}`."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = text(value)
    return flat


def text(value: Any) -> str:
    """A parameter value as text, the same for the same value."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, list, tuple, dict)):
        return json.dumps(value, default=str)
    return str(value)


def accepted(name: str) -> str:
    """The name in characters that MLflow accepts (`rejection@0.3` becomes `rejection_0.3`), at most 250 of
    them."""
    name = re.sub(r"[^\w.\- /:]", "_", name)
    name = posixpath.normpath(name).lstrip("/") if name else "_"
    if name.startswith("..") or name in (".", ""):
        name = f"_{name.lstrip('./')}"
    return name[:NAME_LIMIT]


def grouped(name: str) -> str:
    """The name of a metric in MLflow, whose pages have a tab of their own for what is called `system/…`: how
    fast a run is stands there, learning curves stand alone."""
    return accepted(f"system/{name}" if name in _OF_THE_PACE else name)


def cut(value: str, limit: int) -> str:
    """The text, ending in … where it was cut to `limit` characters."""
    return value if len(value) <= limit else value[: limit - 1] + "…"
