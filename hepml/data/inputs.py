"""What a model asks of the data.

A model carries an `Inputs` as its attribute `inputs`; the reader and the loader are built from it, so that a
user never lists the same feature twice.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Inputs:
    """The declaration of a model's inputs.

    Args:
        features: names of constituent features (see `hepml.data.features`); empty where four-momenta are
            enough.
        jet_features: names of jet-level columns, such as `jet_sdmass`.
        four_momenta: whether the model reads `batch.four_momenta` itself.
        max_constituents: keep only the leading so many constituents a jet, by pT; None keeps all.
        extras: names of further views that travel in the batch (clustering trees, say).
        collections: further collections that are inputs of their own (secondary vertices, say), each with the
            names of its features.
    """

    features: tuple[str, ...] = ()
    jet_features: tuple[str, ...] = ()
    four_momenta: bool = True
    max_constituents: int | None = None
    extras: tuple[str, ...] = ()
    collections: tuple[tuple[str, tuple[str, ...]], ...] = ()
