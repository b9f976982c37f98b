"""What a model reads of the data.

A model carries an `Inputs` as its attribute `inputs`; the reader and the loader are built from it, so that a
user never lists the same feature twice.
"""

from __future__ import annotations

import html
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
        targets: those of `jet_features` that no model reads but side tasks learn: a jet without one (NaN) is
            as good as any.

    Examples:
        >>> hepml.models.create('pfn').inputs.four_momenta, hepml.data.Inputs(features=('log_pt',)).features
        (False, ('log_pt',))
    """

    features: tuple[str, ...] = ()
    jet_features: tuple[str, ...] = ()
    four_momenta: bool = True
    max_constituents: int | None = None
    extras: tuple[str, ...] = ()
    collections: tuple[tuple[str, tuple[str, ...]], ...] = ()
    targets: tuple[str, ...] = ()

    def told(self) -> dict[str, str]:
        """What is asked for, by name, without what is not."""
        rows = {
            "four-momenta": "yes" if self.four_momenta else "",
            "features": ", ".join(self.features),
            "jet features": ", ".join(self.jet_features),
            "constituents": f"the leading {self.max_constituents}" if self.max_constituents else "all",
            "further views": ", ".join(self.extras),
            **{f"of each of {name}": ", ".join(features) for name, features in self.collections},
        }
        return {name: text for name, text in rows.items() if text}

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in self.told().items()
        )
        return f"<div><b>Inputs</b> of a model<table>{rows}</table></div>"
