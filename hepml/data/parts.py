"""Parts of a data set: some of its jets as views, held out by shares or by folds. Jets of one event are
always in one part."""

from __future__ import annotations

from typing import Any

import numpy as np

from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.data.sampling.splitting import parts_by_share
from hepml.errors import DataError


class Part:
    """Some jets of a data set, or of a part of one, with the same interface; `whole` is the data set."""

    def __init__(self, whole: JetDataset | Part, indices: np.ndarray) -> None:
        at = np.asarray(indices, dtype=np.int64)
        if isinstance(whole, Part):
            at, whole = whole.indices[at], whole.whole
        self.whole: JetDataset = whole
        self.indices: np.ndarray = at
        self.classes, self.digest, self.report = whole.classes, whole.digest, whole.report
        events = getattr(whole, "events", None)
        self.events = None if events is None else events[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def counts(self) -> Any:
        return self.whole.counts[self.indices]

    @property
    def labels(self) -> Any:
        return None if self.whole.labels is None else self.whole.labels[self.indices]

    @property
    def weights(self) -> Any:
        return None if self.whole.weights is None else self.whole.weights[self.indices]

    def batch(self, indices: Any) -> JetBatch:
        return self.whole.batch(self.indices[np.asarray(indices)])


def fold_parts(whole: JetDataset, folds: int, seed: int) -> list[Part]:
    """The parts of a cross-validation: disjoint, as equal as whole events allow, every jet in one.

    Raises:
        DataError: fewer jets (or events) than parts.
    """
    shares = {str(k): 1.0 / folds for k in range(folds - 1)}
    rows = parts_by_share(len(whole), shares, seed, getattr(whole, "events", None))
    parts = [Part(whole, indices) for indices in rows.values()]
    if not all(map(len, parts)):
        raise DataError(f"{_count(whole)} leave some of {folds} folds empty", mend="ask for fewer folds")
    return parts


def _count(whole: JetDataset | Part) -> str:
    """How many jets, and of how many events where that is known, in words."""
    events = getattr(whole, "events", None)
    if events is None:
        return f"{len(whole)} jets"
    number = len(np.unique(events))
    return f"{len(whole)} jets of {'one event' if number == 1 else f'{number} events'}"


def places_of(part: Part) -> dict[str, np.ndarray]:
    """Where the jets of a part stand: `index` among the jets of the data set, and `entry` in their file."""
    entries = getattr(part.whole, "entries", None)
    places = {"index": part.indices}
    return places if entries is None else {**places, "entry": np.asarray(entries)[part.indices]}


def split(whole: JetDataset | Part, shares: dict[str, float], seed: int) -> dict[str, Part]:
    """Disjoint random parts of a data set: the named shares and `train`, which takes the rest. Jets of one
    event stay together.

    Raises:
        DataError: shares that leave nothing for one of the parts.
    """
    if sum(shares.values()) >= 1.0:
        raise DataError(
            f"the shares held out add up to {sum(shares.values()):g}", mend="leave some jets to train on"
        )
    rows = parts_by_share(len(whole), shares, seed, getattr(whole, "events", None))
    parts = {name or "train": Part(whole, indices) for name, indices in rows.items()}
    for name, part in parts.items():
        if not len(part):
            raise DataError(
                f"{_count(whole)} leave none for {name}", mend="give more jets, or a larger share"
            )
    return parts
