"""Further views of a jet that are computed once, at loading, and travel in the batch: clustering trees,
energy-flow polynomials.

A model names them in `Inputs.extras`. An extra has one row a constituent or one row a jet, so that it is
gathered, cached and moved like any other column; a batch without it makes it when a model asks
(`JetBatch.extra`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from torch import Tensor

from hepml.errors import LayoutError, did_you_mean

# Modules of this room that register extras; those of higher rooms are imported by the models that name them.
_HOME = ("hepml.data.trees",)


@dataclass(frozen=True)
class Extra:
    """One further view.

    Args:
        name: the name in `Inputs.extras` and `JetBatch.extras`.
        per: one row a "constituent" or a "jet".
        build: from four-momenta [ΣN, 4] (GeV) and offsets [B + 1] to the rows, each jet for itself.
        version: counts changes of what `build` makes; part of a cache's key.
        in_graph: models make it themselves where a batch comes without it, by operations that an exported
            file can hold.
    """

    name: str
    per: Literal["constituent", "jet"]
    build: Callable[[Tensor, Tensor], Tensor]
    version: int = 1
    in_graph: bool = False


_EXTRAS: dict[str, Extra] = {}


def register(extra: Extra) -> Extra:
    """Enters an extra in the register; the same name again replaces it."""
    _EXTRAS[extra.name] = extra
    return extra


def find(name: str) -> Extra | None:
    """The extra of that name, or None where nothing is known of it."""
    if name not in _EXTRAS:
        for module in _HOME:
            import_module(module)
    return _EXTRAS.get(name)


def lookup(name: str) -> Extra:
    """The extra of that name.

    Raises:
        LayoutError: no such extra; names the nearest.
    """
    extra = find(name)
    if extra is None:
        raise LayoutError(f"unknown extra '{name}'", mend=did_you_mean(name, _EXTRAS, noun="extras at hand"))
    return extra


def is_in_graph(name: str) -> bool:
    """Whether models make this view themselves where a batch comes without it."""
    extra = find(name)
    return extra is not None and extra.in_graph
