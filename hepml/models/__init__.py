"""Taggers, one file a published system; the register itself is `hepml.models.catalogue`."""

from hepml.models.catalogue import (
    SYMMETRIES,
    Entry,
    count_parameters,
    create,
    entry,
    load_plugin,
    register,
    registry,
)
from hepml.models.identity import Tagger

__all__ = [
    "SYMMETRIES",
    "Entry",
    "Tagger",
    "count_parameters",
    "create",
    "entry",
    "load_plugin",
    "register",
    "registry",
]


def __dir__() -> list[str]:
    return sorted(__all__)
