"""How a run goes on: the checkpoint that it continues from, and whether its config still fits that."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from hepml.errors import ConfigError
from hepml.tracking.journal import read_journal
from hepml.training.checkpoints import BEST, epochs_in, epochs_of, read_checkpoint
from hepml.training.config_digest import changed_keys, stored_config
from hepml.training.held_out import holds_out_others, splits
from hepml.training.jets import RunJets
from hepml.training.run_config import RunConfig
from hepml.training.run_context import RunContext
from hepml.training.run_directory import STATE, RunDirectory
from hepml.training.side_tasks import module_name

# settings that an optimizer, or the average of weights, keeps: a checkpoint goes on with those it has
KEPT = ("optimizer", "learning_rate", "pretrained_rate", "weight_decay", "betas", "average", "freeze")
# keys by which neither the number of jets nor their order is another
_SAME_JETS = (
    *("model", "training", "evaluation", "objective", "auxiliary", "decorrelate", "data.class_weights"),
    *("data.test", "data.further_tests"),
    *("distill.teacher", "distill.temperature", "distill.hard_labels", "distill.weights"),
)


def refuse_another(
    folder: RunDirectory,
    model: nn.Module,
    jets: RunJets,
    config: RunConfig,
    message: Callable[[str], None],
) -> None:
    """Refuses to go on with a run by a config that asks for something else than its checkpoint has, before
    anything in its folder is changed.

    Args:
        folder: of the run to go on with.
        model: that the config builds.
        jets: that the config opens.
        config: of the resumption.
        message: told which keys, and which jets, are others.

    Raises:
        ConfigError: a finished run without a checkpoint to go on from, as an ensemble is; other layers or
            heads; another optimizer; jets held out that it was trained on, by other keys or since files that
            are split have changed; fewer epochs than are behind it.
    """
    last, place = folder.last, shlex.quote(str(folder.path))
    if not last.is_file():
        finished = (
            folder.read_json(STATE).get("status") == "FINISHED" and (folder.checkpoints / BEST).exists()
        )
        if finished:
            raise ConfigError(
                "this run is finished and has no checkpoint to go on from, as an ensemble of runs",
                where=str(folder.path),
                mend=f"a run of its own begins with its weights: model.pretrained={place}",
            )
        return
    stored, mend = read_checkpoint(last), f"hepml train {place} --resume goes on as it was"
    earlier = (stored.get("hepml") or {}).get("config") or {}
    _refuse_layers(stored, model, config, last, mend)
    asked, was = config.training.model_dump(mode="json"), earlier.get("training") or {}
    for key in KEPT:
        if key in was and was[key] != asked[key]:
            raise ConfigError(
                f"the run to go on with has training.{key}={was[key]}, {asked[key]} is asked for",
                where=str(last),
                mend=f"{mend}; a run of its own begins with its weights: model.pretrained={place}",
            )
    for line in _changes(folder, earlier, jets, config, mend):
        message(line)
    behind = epochs_in(stored, last)
    if behind > config.training.epochs:
        raise ConfigError(
            f"the run has {behind} epochs behind it, training.epochs asks for {config.training.epochs}",
            where=str(last),
            mend=f"training.epochs={behind} reports it as it stands, more goes on; a shorter run "
            "needs a folder of its own",
        )


def checkpoint_to_continue(context: RunContext, resume: bool) -> Path | None:
    """The last checkpoint of a resumed run, where it left one; told is how far it had come."""
    if not resume:
        return None
    last = context.folder.last
    if not last.is_file():
        context.progress.message("no checkpoint yet: starting from the beginning")
        return None
    behind, asked = epochs_of(last), context.config.training.epochs
    if behind == asked:
        context.progress.message(
            f"this run was finished: all {asked} epochs are behind it; its test jets are scored again "
            f"(training.epochs={2 * asked} would go on)"
        )
    else:
        context.progress.message(f"going on from {last}, {behind} of {asked} epochs behind it")
    return last


# ------------------------------------------------------------------------------------------------------------
# helpers


def _refuse_layers(
    stored: Mapping[str, Any], model: nn.Module, config: RunConfig, last: Path, mend: str
) -> None:
    tensors = stored.get("state_dict", {})
    before = {name: tensor.shape for name, tensor in tensors.items() if name.startswith("model.")}
    before |= {f"side.heads.{name.split('.')[2]}.": () for name in tensors if name.startswith("side.heads.")}
    heads = ["masked"] if config.pretraining is not None else list(config.auxiliary)
    now = {f"model.{name}": tensor.shape for name, tensor in model.state_dict().items()}
    now |= {f"side.heads.{module_name(name)}.": () for name in heads}
    other = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if other:
        listed = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in other[:4]))
        raise ConfigError(
            f"the run to go on with has other layers than this config: {listed}",
            where=str(last),
            mend=f"{mend}; other layers need a folder of their own",
        )


def _changes(
    folder: RunDirectory, earlier: Mapping[str, Any], jets: RunJets, config: RunConfig, mend: str
) -> list[str]:
    """Lines on the keys and the jets that are others than before.

    Raises:
        ConfigError: jets would be held out that the run was trained on.
    """
    changed = changed_keys(earlier, config.model_dump(mode="json"))
    changed = [key for key in changed if key != "training.epochs"]  # told elsewhere
    of_data = ", ".join(key for key in changed if key.startswith("data."))
    if of_data and holds_out_others(config, earlier["data"]):
        raise ConfigError(
            f"the run to go on with was trained on jets that this config holds out (other before: {of_data})",
            where=str(folder.last),
            mend=f"{mend}; other jets need a folder of their own",
        )
    number, contents = _other_jets(folder, jets, config, changed)
    if number and splits(config) and (config.distill is None or not config.distill.unlabelled):
        raise ConfigError(
            "the run to go on with was trained on jets that would be held out: its training files had "
            f"another number of jets ({number} to train on, {len(jets.train):,} now)",
            where=str(folder.last),
            mend="bring them back, or train anew in a folder of its own",
        )
    lines = [f"this run goes on with another {', '.join(changed)} than before"] if changed else []
    if contents:
        lines.append(
            f"the {', '.join(contents)} jets are not bit for bit those of before, though the config names "
            "the same: their files, their layout or the libraries that read them have changed"
        )
    return lines


def _other_jets(
    folder: RunDirectory, jets: RunJets, config: RunConfig, changed: Sequence[str]
) -> tuple[str, list[str]]:
    """What the journal of a run says of its data sets, where they are others now: the number of training
    jets that it had, empty if it is the same, and the names of those of other content (the hash of what the
    model sees). None where other keys explain it."""
    explained = [key for key in changed if not key.startswith(_SAME_JETS)]
    had = [] if explained else read_journal(folder.path).of("dataset")
    streamed = (stored_config(folder.path).get("data") or {}).get("stream", False)
    same_hashes = streamed == config.data.stream and not any(map(_of_inputs, changed))
    now = {"train": jets.train, "val": jets.val, **({} if _tests(changed) else jets.tests)}
    number, contents = "", list[str]()
    for name, dataset in now.items():
        known = [entry for entry in had if entry["name"] == name]  # of a resumption that saved nothing too
        if not known:
            continue
        if name == "train" and len(dataset) not in {entry["jets"] for entry in known}:
            number = f"{known[-1]['jets']:,}"
        if same_hashes and str(dataset.digest) not in {entry["digest"] for entry in known}:
            contents.append(name)
    return number, contents


def _tests(changed: Sequence[str]) -> bool:
    return "data.test" in changed or "data.further_tests" in changed


def _of_inputs(key: str) -> bool:
    """Whether a key may change what the model sees of the same jets."""
    return key.startswith(("model", "auxiliary", "decorrelate"))
