"""A run directory is the truth, MLflow the window.

Everything a run reports goes first to `journal.jsonl` in its directory; a background sink sends it on to
MLflow, and `sync` replays what did not arrive. Importing this package does not import MLflow: the sink does
that in the background while training starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hepml.faces import Face

_FACE = Face(
    "hepml.tracking",
    {
        "Tracker": "hepml.tracking.tracker",
        "start": "hepml.tracking.tracker",
        "Run": "hepml.tracking.runs",
        "compare_runs": "hepml.tracking.runs",
        "list_runs": "hepml.tracking.runs",
        "open_run": "hepml.tracking.runs",
        "sync": "hepml.tracking.syncing",
        "Journal": "hepml.tracking.journal",
        "read_journal": "hepml.tracking.journal",
        "take_lock": "hepml.tracking.journal",
        "tracking_uri": "hepml.tracking.store",
        "capture_environment": "hepml.tracking.environment",
        "capture_git": "hepml.tracking.environment",
        "capture_source": "hepml.tracking.environment",
    },
)

__all__ = _FACE.all()
__getattr__ = _FACE.get
__dir__ = _FACE.show

if TYPE_CHECKING:
    from hepml.tracking.environment import capture_environment as capture_environment
    from hepml.tracking.environment import capture_git as capture_git
    from hepml.tracking.environment import capture_source as capture_source
    from hepml.tracking.journal import Journal as Journal
    from hepml.tracking.journal import read_journal as read_journal
    from hepml.tracking.journal import take_lock as take_lock
    from hepml.tracking.runs import Run as Run
    from hepml.tracking.runs import compare_runs as compare_runs
    from hepml.tracking.runs import list_runs as list_runs
    from hepml.tracking.runs import open_run as open_run
    from hepml.tracking.store import tracking_uri as tracking_uri
    from hepml.tracking.syncing import sync as sync
    from hepml.tracking.tracker import Tracker as Tracker
    from hepml.tracking.tracker import start as start
