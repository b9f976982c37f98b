"""How far a run's journal has come in each MLflow store: `run_dir/tracking.json`, replaced atomically
after every accepted request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hepml import outputs

STATE_NAME = "tracking.json"


class State:
    """`tracking.json`: for each store, the MLflow run and how many bytes of the journal it has."""

    def __init__(self, path: Path, uri: str) -> None:
        self._path, self._uri = path, uri
        self.run_id: str | None = None
        self.experiment = ""
        self.sent = 0
        self.models: dict[str, str | None] = {}
        mine = read_state(path).get(uri)
        if mine:
            self.run_id, self.experiment = mine["run_id"], mine["experiment_id"]
            self.sent, self.models = int(mine["sent"]), dict(mine.get("models", {}))

    def begin(self, run_id: str, experiment: str) -> None:
        self.run_id, self.experiment = run_id, experiment
        self._save()

    def advance(self, end: int) -> None:
        if end > self.sent:
            self.sent = end
            self._save()

    def remember_model(self, name: str, model_id: str | None) -> None:
        self.models[name] = model_id
        self._save()

    def forget(self) -> None:
        self.run_id, self.sent, self.models = None, 0, {}

    def _save(self) -> None:
        stores = read_state(self._path)
        stores.pop(self._uri, None)  # the last one is the present one
        stores[self._uri] = {
            "run_id": self.run_id,
            "experiment_id": self.experiment,
            "sent": self.sent,
            "models": self.models,
        }
        write_state(self._path, stores)


def read_state(path: Path) -> dict[str, dict[str, Any]]:
    """The stores of `tracking.json`, by uri; empty where there is none or it is torn."""
    try:
        stores = json.loads(path.read_text())["stores"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(stores, dict):
        return {}
    needed = {"run_id", "experiment_id", "sent"}
    return {u: s for u, s in stores.items() if isinstance(s, dict) and needed <= s.keys()}


def write_state(path: Path, stores: dict[str, dict[str, Any]]) -> None:
    """Replaces `tracking.json` whole."""
    with outputs.writing(path, wait=True, durable=False) as partial:
        partial.write_text(json.dumps({"format": 1, "stores": stores}, indent=1))
