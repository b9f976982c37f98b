"""Whether weights that a run starts from, or learns from, have seen jets that it holds out.

A teacher that was trained on a fold hands its labels on, and scores that are called out of fold are not. Runs
say in their checkpoints which jets they were trained on; of published weights nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepml.data.reading.sources import expand
from hepml.errors import HepmlError
from hepml.training.checkpoints import EXPORTED, find_checkpoint, read_checkpoint
from hepml.training.jets import HELD_OUT
from hepml.training.run_config import RunConfig

MEMBERS = "trained_on"  # in the identity of an ensemble: the `data` blocks of its members
# of a `data` block: beside the shares, what says which of the training files' jets are held out
_SAME = ("folds", "fold", "split_seed", "selection", "classes", "max_jets")


def leaks(config: RunConfig) -> list[str]:
    """One line for each run among the teachers and the given weights that was trained on jets which this run
    scores."""
    sources = [("model.pretrained", config.pretrained)] if config.pretrained else []
    if config.distill is not None:
        sources += [("distill.teacher", one.run) for one in config.distill.teachers if one.run]
        sources += [("distill.teacher", one.pretrained) for one in config.distill.teachers if one.pretrained]
    return [line for what, source in sources for line in _lines(config, what, source, data_of(str(source)))]


def leaks_of_members(config: RunConfig, trained_on: Mapping[Path, Sequence[Mapping[str, Any]]]) -> list[str]:
    """The same for the members of an ensemble, whose test jets are those of this config; `trained_on` has
    each with what `data_of` says of it."""
    return [line for run, blocks in trained_on.items() for line in _lines(config, "member", run, blocks)]


def splits(config: RunConfig) -> bool:
    """Whether a run holds out jets of its training files, as shares or as a fold."""
    return bool(_draw(config.data.model_dump(mode="json"))[0]) or config.data.folds is not None


def holds_out_others(config: RunConfig, before: Mapping[str, Any]) -> bool:
    """Whether a run that goes on holds out jets of its training files that it has been trained on.

    Args:
        config: of the run that goes on.
        before: the `data` block that it was trained by so far.
    """
    if not splits(config):
        return False
    ours = config.data.model_dump(mode="json")
    here, there = training_files(ours), training_files(before)
    return bool(here & there) and (here != there or _draw(ours) != _draw(before))


def data_of(source: Path | str) -> list[Mapping[str, Any]]:
    """The `data` blocks that a run's weights were trained by, one for each member of an ensemble; none where
    they do not say."""
    try:
        path = find_checkpoint(Path(source))
        if path.suffix in EXPORTED:
            return []
        identity = read_checkpoint(path).get("hepml")
    except (HepmlError, OSError):
        return []  # whoever opens it says what is wrong with it
    if not isinstance(identity, Mapping):
        return []
    config = identity.get("config")
    if not isinstance(config, Mapping) or config.get("pretraining"):
        return []  # a pretraining has seen no labels
    blocks = [config.get("data"), *(identity.get(MEMBERS) or ())]
    return [data for data in blocks if isinstance(data, Mapping)]


def _lines(
    config: RunConfig, what: str, source: Path | str, trained_on: Sequence[Mapping[str, Any]]
) -> list[str]:
    seen = dict.fromkeys(name for data in trained_on for name in _scored_jets_seen(config, data))
    if not seen:
        return []
    return [
        f"{what} {source} was trained on jets that this run holds out ({', '.join(seen)}): their scores are "
        "not independent of their labels"
    ]


def _scored_jets_seen(config: RunConfig, theirs: Mapping[str, Any]) -> list[str]:
    """Names of this run's test sets with jets that others were trained on."""
    ours = config.data.model_dump(mode="json")
    trained = training_files(theirs)
    names = []
    if trained & training_files(ours):
        same = _draw(theirs) == _draw(ours)
        parts = [name for name, source in config.data.tests().items() if isinstance(source, float)]
        if config.data.folds is not None:
            parts.append("fold")
        names += [] if same else parts
    for name, source in config.data.tests().items():
        if not isinstance(source, float) and trained & set(_expanded(source)):
            names.append(name)
    return names


def _draw(data: Mapping[str, Any]) -> tuple[Any, ...]:
    """What says which of the training files' jets a run does not train on."""
    test = data.get("test")
    tests = test if isinstance(test, Mapping) else {"test": test}
    val = data.get("val")
    shares = {"val": HELD_OUT if val is None else val, **tests}
    drawn = {name: share for name, share in shares.items() if isinstance(share, float)}
    return (drawn, *(data.get(key) for key in _SAME))


def training_files(data: Mapping[str, Any]) -> set[str]:
    """The training files of a `data` block, those of its samples among them."""
    samples = data.get("samples") or {}
    named = (about.get("files") if isinstance(about, Mapping) else None for about in samples.values())
    listed = [files or name for files, name in zip(named, samples, strict=True)]
    return {path for source in (data.get("train") or [], *listed) for path in _expanded(source)}


def _expanded(source: Any) -> list[str]:
    """The files of a path, glob or folder, or of a list of these; as they are named where they are gone."""
    words = [source] if isinstance(source, str) else [word for word in source or () if isinstance(word, str)]
    files = []
    for word in words:
        try:
            files += [file.path for file in expand(word)]
        except HepmlError:
            files.append(word)
    return files
