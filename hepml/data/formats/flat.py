"""Files of jets that are no ROOT trees, as chunks: what every such format is (`FlatFile`, one small class
each), and what all of them need to build a chunk. Which format a file has is found in `opening.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from hepml.data.collider import momentum_of
from hepml.data.jet_columns import DERIVED, derived_array
from hepml.data.reading.chunk import Chunk
from hepml.errors import LayoutError, did_you_mean

NAMES = ("salt", "toptagging", "jetnet", "lhco", "energyflow")


class FlatFile(Protocol):
    """One file of jets.

    Args:
        name: of the layout.
        path: the file.
        jets: how many.
        classes: names of the labels 0, 1, …; empty without labels.
        kinds: what the file holds, name -> type.
        columns: names of the jet columns.
        unit: of its momenta.
        label: the jet column that the labels are, where it is one.
    """

    name: str
    path: str
    jets: int
    classes: tuple[str, ...]
    kinds: dict[str, str]
    columns: list[str]
    unit: str
    label: str | None

    def chunks(
        self, start: int, stop: int, step: int, columns: Sequence[str] | None, jet_columns: Sequence[str]
    ) -> Iterator[Chunk]:
        """The jets start:stop.

        Args:
            columns: constituent columns besides the momentum; None for all.
            jet_columns: jet columns wanted.
        """
        ...


def chunk_of(
    file: FlatFile,
    start: int,
    offsets: np.ndarray,
    constituents: dict[str, np.ndarray],
    jets: Mapping[str, np.ndarray],
    wanted: Sequence[str] | None,
    jet_columns: Sequence[str],
    labels: np.ndarray | None = None,
    momenta: np.ndarray | None = None,
    events: np.ndarray | None = None,
) -> Chunk:
    """A chunk of these columns, with those that were asked for.

    Raises:
        LayoutError: a column that is not there; names the nearest.
    """
    for name in wanted or ():
        if name not in constituents and name not in _IMPLIED:
            raise LayoutError(
                f"no constituent column '{name}'",
                where=file.path,
                mend=did_you_mean(name, constituents, noun="columns at hand"),
            )
    momentum = ("px", "py", "pz", "energy")
    chosen = [n for n in constituents if n in momentum or wanted is None or n in wanted]
    count = len(offsets) - 1
    chunk = Chunk(
        offsets=offsets.astype(np.int64),
        constituents={n: constituents[n].astype(np.float32, copy=False) for n in (*momentum, *(
            n for n in chosen if n not in momentum))},
        jets={},
        entries=np.arange(start, start + count, dtype=np.int64),
        file=file.path,
        momenta=None if momenta is None else momenta.astype(np.float32),
        labels=labels,
        classes=file.classes,
        events=events,
    )  # fmt: skip
    for name in dict.fromkeys(jet_columns):
        if name in jets:
            chunk.jets[name] = jets[name]
        elif name in DERIVED:
            own = chunk.summed() if chunk.momenta is None else chunk.momenta
            chunk.jets[name] = derived_array(name, own, chunk.counts)
        else:
            raise LayoutError(
                f"jet column '{name}' not found",
                where=file.path,
                mend=did_you_mean(name, [*jets, *DERIVED], noun="columns at hand"),
            )
    return chunk


_IMPLIED = ("px", "py", "pz", "energy", "pt", "delta_eta", "delta_phi", "jet_pt", "jet_energy")


def cartesian(
    pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, mass: np.ndarray | float = 0.0
) -> dict[str, np.ndarray]:
    """px, py, pz and energy, float64."""
    pt, eta, phi = (np.asarray(v, dtype=np.float64) for v in (pt, eta, phi))
    px, py, pz = momentum_of(pt, eta, phi)
    with np.errstate(over="ignore", invalid="ignore"):
        energy = np.sqrt(px**2 + py**2 + pz**2 + np.asarray(mass, dtype=np.float64) ** 2)
    return {"px": px, "py": py, "pz": pz, "energy": energy}


def stacked(p: Mapping[str, np.ndarray]) -> np.ndarray:
    """[N, 4] (E, px, py, pz)."""
    return np.stack([p["energy"], p["px"], p["py"], p["pz"]], axis=1)


def kind_of(array: Any) -> str:
    """Type and shape of an array in a file, in words."""
    shape = "".join(f"[{n}]" for n in array.shape[1:])
    return f"{array.dtype}{shape}"
