"""Which runs of a leaderboard are seeds of one tagger: those of one label that were trained by one config but
for the seed. Folders from several places may hold runs of other configs, or copies, under one label.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hepml.training.config_digest import changed_keys, stored_config

# what may differ between seeds: where jets are, what is measured; the jets' own digests say whether they are
# the same
_FREE = {f"data.{key}" for key in ("train", "val", "test", "further_tests", "samples", "layout")}
_FREE |= {f"data.{key}" for key in ("fold", "folds", "train_share")}
_FREE |= {f"training.{key}" for key in ("seed", "devices", "strategy")}
# where others may have been, under whatever name: each seed may have its own
_TOLD = ("model.pretrained", "training.init_from", "distill.teacher", "distill.unlabelled")


def taggers_of(
    label: str, runs: Sequence[dict[str, Any]], taken: Iterable[str], remarks: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """{label: runs} of the runs of one label; those of another config than the first are `LABEL-2`, and so
    on.

    Args:
        label: what they are all called.
        runs: with `folder`, `seed`, `share`, `fold` and `summary`.
        taken: labels that others have.
        remarks: told of other configs, and of copies, which are left out.
    """
    config = cache(stored_config)  # several runs are compared with the same one
    groups: list[list[dict[str, Any]]] = []
    others: list[str] = []
    for run in sorted(runs, key=lambda run: -run["share"]):
        why = ""
        for group in sorted(groups, key=lambda group: -_nearness(group, run)):
            beside = next((r for r in group if r["share"] == run["share"]), group[0])
            other, told = _others(beside, run, config)
            same = [r for r in group if all(r[k] == run[k] for k in ("seed", "fold", "share"))]
            if not other and not same:
                group.append(run)
                remarks += [f"{label}: the seeds have another {', '.join(told)}"] if told else []
                break
            if not other and _made(same[0]) == _made(run):
                kept = max(same[0], run, key=lambda one: len(one["summary"].get("tests") or {}))
                group[group.index(same[0])] = kept
                left = run if kept is same[0] else same[0]
                remarks.append(f"{label}: {left['folder']} is seed {run['seed']} again, and left out")
                break
            why = why or (f"another {', '.join(other[:3])}" if other else "other jets")
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


def _nearness(group: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> int:
    """How much of their paths is the same: a share of the jets belongs to the runs beside it."""
    here = Path(run["folder"]).absolute()
    return max(len(os.path.commonpath([here, Path(one["folder"]).absolute()])) for one in group)


def _others(
    first: Mapping[str, Any], run: Mapping[str, Any], config: Callable[[Path], dict[str, Any]]
) -> tuple[list[str], list[str]]:
    """The keys that the config of one run has otherwise than that of another: those that make it another
    tagger, and those that are only told."""
    before, now = (config(Path(one["folder"])) for one in (first, run))
    free = {*_FREE, *({"training.epochs"} if first["share"] != run["share"] else ())}
    if before.get("decorrelate") is None:  # else the background that is evaluated is trained by
        before, now = ({**values, "evaluation": None} for values in (before, now))
    changed = [key for key in changed_keys(before, now) if key not in free]
    return [key for key in changed if key not in _TOLD], [key for key in changed if key in _TOLD]


def _made(run: Mapping[str, Any]) -> Any:
    """What two runs of one config and seed are the same run by: their training jets, or the members of an
    ensemble, which has none."""
    digests = run["summary"].get("digest") or {}
    return {key: digests.get(key) for key in ("train", "val")}, run["summary"].get("members")
