"""What the result of a run depends on, of its config and its jet files: runs of which it differs are not to
be taken for one another."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import xxhash
from pydantic import ValidationError

from hepml import config as configs
from hepml.data.reading.sources import expand
from hepml.errors import ConfigError, FileError, HepmlError
from hepml.paths import RUN_CONFIG
from hepml.training.checkpoints import find_checkpoint
from hepml.training.held_out import training_files
from hepml.training.recipe_config import DistillConfig
from hepml.training.run_config import RunConfig

OPEN = ("model", "objective", "auxiliary")  # blocks whose keys the schema does not fix
SIZES, CONTENTS = "sizes", "contents"  # of the jet files; of others
_NAMES = {"output", "tracking", "name"}
# of a `training` block: how fast it goes, not where to
_HOW = ("threads", "device", "eval_batch_size", "checkpoint_every", "checkpoint_minutes")
# keys by which no result is another
_IDLE = {f"data.{key}" for key in ("cache", "stream", "workers", "obtain")}
_IDLE |= {f"training.{key}" for key in _HOW} | {f"distill.{key}" for key in ("cache", "batch_size")}
_IDLE |= _NAMES | {"plugins"}


def dependencies(config: RunConfig, *, results: bool = True) -> dict[str, Any]:
    """Everything in a config that can change its result, with the sizes of its jet files and the hashes of
    the other files that it names: other jets, another layout or plugin under the same name are another run.

    Args:
        config: checked.
        results: also test files and what is evaluated on them; without it what its training depends on.
    """
    data = config.data if results else config.data.without_test_files()
    # who decorrelates trains by the background that is evaluated
    exclude = _NAMES if results or config.decorrelate is not None else {*_NAMES, "evaluation"}
    values = config.model_copy(update={"data": data}).model_dump(mode="json", exclude=exclude)
    for key in _HOW:
        values["training"].pop(key)
    values["data"]["workers"] = None
    if config.distill is not None:
        idle = DistillConfig.model_fields
        values["distill"] |= {key: idle[key].default for key in ("cache", "batch_size")}
    for key in ("cache",) if results else ("cache", "obtain"):
        values["data"].pop(key)
    values[SIZES] = [_sizes(source) for source in (data.train, data.val, *data.tests().values())]
    if values["data"].get("samples"):
        values[SIZES].append(_sizes(sorted(training_files(values["data"]))))
    if config.distill is not None and config.distill.unlabelled is not None:
        values[SIZES].append(_sizes(config.distill.unlabelled))
    contents = _contents(config)
    return {**values, CONTENTS: contents} if contents else values


def digest(config: RunConfig, *, results: bool = True) -> str:
    """A hash of `dependencies`."""
    text = json.dumps(dependencies(config, results=results), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def changed_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The keys of a config that are others than those of another, and of consequence; of blocks those within
    them. Keys that only one has are of another version, or, in a block of the user's own words, left out."""
    keys = []
    for key in sorted(before.keys() & now.keys() - _IDLE):
        was, is_now = (_in_full(key, values[key]) for values in (before, now))
        if isinstance(was, Mapping) and isinstance(is_now, Mapping):
            below = was.keys() | is_now.keys() if key in OPEN else was.keys() & is_now.keys()
            keys += [f"{key}.{name}" for name in sorted(below) if was.get(name) != is_now.get(name)]
        elif was != is_now:
            keys.append(key)
    return [key for key in keys if key not in _IDLE]


def stored_config(folder: Path) -> dict[str, Any]:
    """The config of a run with what it leaves to defaults; as it is written where that is of another version,
    empty where there is none."""
    try:
        values = configs.read_yaml(folder / RUN_CONFIG)
    except ConfigError:
        return {}
    try:
        return RunConfig.model_validate(values).model_dump(mode="json")
    except ValidationError:
        return values if isinstance(values, dict) else {}


def _in_full(key: str, value: Any) -> Any:
    """`model: pfn` as `{name: pfn}`."""
    return {"name": value} if key in OPEN and isinstance(value, str) else value


def _contents(config: RunConfig) -> dict[str, str]:
    """Hashes of the files that a config names beside jets, by key: a layout, plugins, given weights and
    teachers."""
    named: dict[str, Any] = {"data.layout": config.data.layout, "model.pretrained": config.pretrained}
    named |= {f"plugins.{i}": _plugin_file(name) for i, name in enumerate(config.plugins)}
    teachers = [] if config.distill is None else config.distill.teachers
    named |= {f"distill.teacher.{i}": one.source for i, one in enumerate(teachers)}
    hashes = {}
    for key, name in named.items():
        if not isinstance(name, str):
            continue
        with suppress(HepmlError, OSError):  # the run itself says what is missing; others are no files
            path = Path(name) if Path(name).suffix in (".py", ".yaml", ".yml") else find_checkpoint(name)
            hashes[key] = xxhash.xxh3_64(path.read_bytes()).hexdigest()
    return hashes


def _plugin_file(name: str) -> str | None:
    """The file of a plugin, which may be named as a module."""
    if name.endswith(".py"):
        return name
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
        return None if spec is None else spec.origin
    return None


def _sizes(source: Any) -> Any:
    """Sizes of the files that a source names, where they are files."""
    if source is None or isinstance(source, float):
        return source
    try:
        sources = expand(source)
    except FileError:
        return None  # the run itself says what is missing
    return [Path(s.path).stat().st_size if Path(s.path).is_file() else None for s in sources]
