"""Which runs of a leaderboard are seeds of one tagger: those of one label that were trained by one config but
for the seed. Folders from several places may hold runs of other configs, or copies, under one label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hepml import config as configs
from hepml.errors import ConfigError
from hepml.training.config_digest import HOW, changed_keys
from hepml.training.run_config import RunConfig
from hepml.training.run_directory import CONFIG

# what may differ between seeds: where jets are, how they are read, what is measured; the jets' own digests
# say whether they are the same
_FREE = {"name", "output", "tracking", "plugins", "evaluation"}
_FREE |= {f"data.{key}" for key in ("train", "val", "test", "further_tests", "samples", "cache", "obtain")}
_FREE |= {f"data.{key}" for key in ("stream", "workers", "fold", "folds", "train_share")}
_FREE |= {f"training.{key}" for key in (*HOW, "seed", "devices", "strategy")}


def taggers_of(
    label: str, runs: Sequence[dict[str, Any]], taken: Iterable[str], remarks: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """{label: runs} of the runs of one label; those of another config than the first are `LABEL-2`, and so
    on.

    Args:
        label: what they are all called.
        runs: with `folder`, `seed`, `fold` and `summary`.
        taken: labels that others have.
        remarks: told of other configs, and of copies, which are left out.
    """
    groups: list[list[dict[str, Any]]] = []
    others: list[str] = []
    for run in runs:
        why = ""
        for group in groups:
            other = _others(group[0], run)
            twin = next((r for r in group if (r["seed"], r["fold"]) == (run["seed"], run["fold"])), None)
            if not other and twin is None:
                group.append(run)
                break
            if not other and twin is not None and _jets(twin) == _jets(run):
                remarks.append(f"{label}: {run['folder']} is seed {run['seed']} again, and left out")
                break
            why = why or f"another {', '.join(other[:3])}" if other else "other jets"
        else:
            groups.append([run])
            others.append(why)
    names, used = [label], {label, *taken}
    for why in others[1:]:
        name = next(n for i in range(2, len(used) + 3) if (n := f"{label}-{i}") not in used)
        names.append(name)
        used.add(name)
        remarks.append(f"{name} was trained with {why} than {label}")
    return dict(zip(names, groups, strict=True))


def _others(first: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    """The keys that the config of one run has otherwise than that of another."""
    return [
        key
        for key in changed_keys(_config(first), _config(run))
        if key not in _FREE and key.partition(".")[0] not in _FREE
    ]


def _config(run: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run with what it leaves to defaults; as it is written where that is of another
    version."""
    try:
        values = configs.read_yaml(Path(run["folder"]) / CONFIG)
    except ConfigError:
        return {}  # of somebody else's making
    try:
        return RunConfig.model_validate(values).model_dump(mode="json")
    except ValidationError:
        return values if isinstance(values, dict) else {}


def _jets(run: Mapping[str, Any]) -> Any:
    return run["summary"].get("digest")
