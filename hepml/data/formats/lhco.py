"""LHC Olympics (arXiv:2101.08320): 700 particles an event as (pT, eta, phi), zero-padded, perhaps a label.

These are events, not jets: the two leading anti-kT jets of R = 1 are found with FastJet, as the data set's
own features were made, and each jet carries its event's label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hepml.data.formats.flat import cartesian, chunk_of
from hepml.data.formats.hdf5_frame import frame_rows, rows_of
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.per_jet import class_indices
from hepml.errors import DataError, MissingExtraError

RADIUS = 1.0
LEADING = 2
LEAST_PT = 20.0  # GeV


class Lhco:
    """Events of particles as jets: `LEADING` an event.

    Args:
        labelled: whether the last column is the label (1 = signal).
    """

    name = "lhco"
    unit = "GeV"
    label: str | None = None

    def __init__(self, path: str, labelled: bool) -> None:
        self.path, self.labelled = path, labelled
        self.events = rows_of(path)
        self.jets = LEADING * self.events  # places: an event with fewer jets leaves one empty
        self.classes: tuple[str, ...] = ("background", "signal") if labelled else ()
        self.columns = ["event", "jet_index"]
        self.kinds = {f"{i}": "float" for i in range(2100 + labelled)}

    def chunks(
        self, start: int, stop: int, step: int, columns: Sequence[str] | None, jet_columns: Sequence[str]
    ) -> Iterator[Chunk]:
        """The jets at the places start:stop; a place without a jet is a jet without constituents."""
        first, last = start // LEADING, -(-stop // LEADING)
        for low in range(first, last, 2_000):
            high = min(low + 2_000, last)
            values = frame_rows(self.path, low, high)
            particles = values[:, :2100].reshape(high - low, -1, 3)
            self._check(particles, low)
            jets = [jet for own in particles for jet in _cluster(own)]
            counts = np.array([len(jet) for jet in jets], dtype=np.int64)
            rows = np.concatenate(jets) if jets else np.zeros((0, 4))
            momenta = {n: rows[:, i] for i, n in enumerate(("energy", "px", "py", "pz"))}
            event = np.repeat(np.arange(low, high), LEADING)
            own: dict[str, np.ndarray] = {
                "event": event,
                "jet_index": np.tile(np.arange(LEADING), high - low).astype(np.int32),
            }
            labels = np.repeat(class_indices(values[:, 2100], 2), LEADING) if self.labelled else None
            chunk = chunk_of(
                self,
                low * LEADING,
                np.concatenate([[0], np.cumsum(counts)]),
                momenta,
                own,
                columns,
                jet_columns,
                labels,
                events=event,
            )
            yield chunk.jets_between(max(start - low * LEADING, 0), min(stop - low * LEADING, len(chunk)))

    def _check(self, particles: np.ndarray, first: int) -> None:
        """Refuses what would be left out of the jets without a word: rows of zeros alone are padding."""
        pt = particles[:, :, 0]
        strange = ~np.isfinite(particles).all(axis=2) | (pt < 0)
        strange |= (pt == 0) & (particles[:, :, 1:] != 0).any(axis=2)
        if strange.any():
            event, place = (int(i) for i in np.argwhere(strange)[0])
            raise DataError(
                f"a particle of (pT, eta, phi) = {tuple(particles[event, place].tolist())}",
                where=f"{self.path}, event {first + event}, particle {place}",
                mend="repair the file",
            )


def _cluster(particles: np.ndarray) -> list[np.ndarray]:
    """The constituents (E, px, py, pz) of the `LEADING` anti-kT jets."""
    try:
        import fastjet
    except ImportError:
        raise MissingExtraError("fastjet", "generate") from None
    real = particles[particles[:, 0] > 0]
    p = cartesian(real[:, 0], real[:, 1], real[:, 2])
    rows = np.stack([p["energy"], p["px"], p["py"], p["pz"]], axis=1)
    inputs = []
    for i, (e, px, py, pz) in enumerate(rows.tolist()):
        jet = fastjet.PseudoJet(px, py, pz, e)
        jet.set_user_index(i)
        inputs.append(jet)
    sequence = fastjet.ClusterSequence(inputs, fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS))
    clustered = fastjet.sorted_by_pt(sequence.inclusive_jets(LEAST_PT))[:LEADING]
    out = [rows[[c.user_index() for c in jet.constituents()]] for jet in clustered]
    return out + [np.zeros((0, 4))] * (LEADING - len(out))
