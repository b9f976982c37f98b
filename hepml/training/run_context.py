"""What the steps of a run share: its config, its folder, where messages go, and which rank this is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as L

from hepml.training.callbacks import Signals
from hepml.training.progress import Progress
from hepml.training.ranks import Ranks
from hepml.training.run_config import RunConfig
from hepml.training.run_directory import RunDirectory


@dataclass
class RunContext:
    """What every step of a run needs.

    Args:
        config: the run's.
        folder: where it leaves everything.
        progress: told what happens.
        signals: that arrived meanwhile.
        ranks: how many processes train, and which of them this is.
        tracker: once tracking has started, on the first rank.
        lock: of the run folder, on the first rank.
        callbacks: of the user.
    """

    config: RunConfig
    folder: RunDirectory
    progress: Progress
    signals: Signals
    ranks: Ranks
    tracker: Any = None
    lock: Any = None
    callbacks: tuple[L.Callback, ...] = ()

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and speaks for all."""
        return self.ranks.first
