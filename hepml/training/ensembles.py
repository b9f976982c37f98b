"""Ensembles of trained runs: one run folder whose model is the mean of several runs' logits.

It is saved, scored, predicted with and exported like any other run. Members trained with several seeds on the
same jets differ by chance, so that their spread is the uncertainty of a score (`hepml predict --spread`).
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import hepml
from hepml import models
from hepml.config import plain
from hepml.data.features import resolve
from hepml.data.stream_loader import loader_of
from hepml.errors import ConfigError, FileError
from hepml.inference.prediction import head_of, inputs_of, score_dataset
from hepml.inference.spread import WithSpread
from hepml.models.identity import identity_of
from hepml.models.standardised import standardise, standards_of
from hepml.training.checkpoints import (
    BEST,
    EXPORTED,
    describe,
    find_checkpoint,
    load_model,
    read_checkpoint,
    write_atomically,
)
from hepml.training.held_out import MEMBERS, data_of, leaks_of_members
from hepml.training.jets import RunJets, open_dataset
from hepml.training.progress import Progress
from hepml.training.reporting import score_arrays, score_tests
from hepml.training.run_config import RunConfig, load_run_config
from hepml.training.run_directory import CONFIG, STATE, SUMMARY, RunDirectory, find_run


def join_runs(
    runs: Sequence[Path | str], output: Path | str, progress: Progress | None = None
) -> dict[str, Any]:
    """Puts the best checkpoints of several runs together and scores the first run's test jets with the
    result.

    Args:
        runs: run folders or checkpoints; at least two.
        output: the new run folder.
        progress: told what happens.

    Returns:
        its `summary.json`: of each test set the report with `spread`, the mean over jets of the members'
        standard deviation, and `members`, the runs that were joined.

    Raises:
        ConfigError: one run, or runs that tell other classes apart or have other objectives.
        FileError: no such run, or an output that holds a run.
    """
    progress = progress or Progress()
    if len(runs) < 2:
        raise ConfigError(
            "an ensemble has at least two members", where="command line", mend="hepml ensemble RUN RUN -o RUN"
        )
    paths = [find_checkpoint(run) for run in runs]
    if len(set(paths)) < len(paths):
        raise ConfigError("a run twice", where="command line", mend="name each member once")
    if paths[0].suffix in EXPORTED or "hepml" not in read_checkpoint(paths[0]):
        raise ConfigError(
            f"{runs[0]} is no run of hepml's, from which the ensemble has its config and its test jets",
            where="command line",
            mend="name a run first",
        )
    members = [load_model(path) for path in paths]
    ensemble = assemble(members, [str(run) for run in runs])
    folder = RunDirectory(output)
    folder.prepare(resume=False)
    config = _config(find_run(runs[0]), ensemble)
    identity = {**read_checkpoint(paths[0])["hepml"], **_described(ensemble), "version": hepml.__version__}
    trained_on = {path: data_of(path) for path in paths}
    identity[MEMBERS] = [plain(dict(data)) for blocks in trained_on.values() for data in blocks]
    state = {f"model.{name}": tensor for name, tensor in ensemble.state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "hepml": identity}, buffer)
    write_atomically(folder.checkpoints / BEST, buffer.getvalue())
    folder.write_config(config)
    describe(ensemble, identity)
    summary = _report(config, folder, ensemble.eval(), members, runs, progress)
    summary["remarks"] = leaks_of_members(config, trained_on)
    for line in summary["remarks"]:
        progress.message(line)
    folder.write_json(SUMMARY, summary)
    folder.write_json(STATE, {"status": "FINISHED", "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
    return summary


def assemble(members: Sequence[nn.Module], names: Sequence[str] = ()) -> nn.Module:
    """The mean of the logits of trained models, as one model.

    Args:
        members: from `load_model`.
        names: for messages.

    Raises:
        ConfigError: members that tell other classes apart, or have other objectives.
    """
    names = names or [f"member {i}" for i in range(len(members))]
    identities = [identity_of(member) for member in members]
    first = identities[0]
    for name, member, one in zip(names, members, identities, strict=True):
        if one.name is None:
            raise ConfigError(
                f"{name} is no registered model, of which an ensemble could be built again",
                mend="join runs or checkpoints",
            )
        if not isinstance(head_of(member), type(head_of(members[0]))):
            raise ConfigError(
                f"{name} has the objective {head_of(member).name}, {names[0]} has {head_of(members[0]).name}",
                mend="join runs of one objective",
            )
        if one.classes != first.classes or one.target != first.target:
            raise ConfigError(
                f"{name} tells {_what(one)} apart, {names[0]} {_what(first)}",
                mend="join runs of the same classes",
            )
        if head_of(member).task == "regression" and vars(head_of(member)) != vars(head_of(members[0])):
            raise ConfigError(
                f"{name} and {names[0]} standardise their target by other numbers",
                mend="give both the same objective: {name: gaussian, centre: …, width: …}",
            )
    blocks = []
    for one in identities:
        own = {key: plain(value) for key, value in one.hyperparameters.items() if key != "outputs"}
        blocks.append({"name": one.name, **own})
    ensemble = models.create("ensemble", outputs=head_of(members[0]).outputs, members=blocks)
    for name, place, member in zip(names, ensemble.members, members, strict=True):  # type: ignore[arg-type]
        _take_over(place, member, name)
    standards = _common_standards(members, names)
    return standardise(ensemble, standards) if standards else ensemble


# ------------------------------------------------------------------------------------------------------------
# helpers


def _take_over(place: nn.Module, member: nn.Module, name: str) -> None:
    """Gives a member's place in an ensemble its weights.

    Raises:
        ConfigError: it has none, as an exported tagger.
    """
    given, own = member.state_dict(), place.state_dict()
    if {key: tensor.shape for key, tensor in given.items()} != {k: tensor.shape for k, tensor in own.items()}:
        raise ConfigError(
            f"{name} does not hold the weights of a {identity_of(member).name}",
            mend="join runs or checkpoints, not what was exported from them",
        )
    place.load_state_dict(given)


def _common_standards(members: Sequence[nn.Module], names: Sequence[str]) -> dict[str, Any]:
    """What all members standardise their inputs by.

    Raises:
        ConfigError: two members read a column with different standardisations.
    """
    standards: dict[str, dict[str, Any]] = {}
    for member in members:
        for place, columns in standards_of(member).items():
            standards.setdefault(place, {}).update(columns)
    for name, member in zip(names, members, strict=True):
        own, inputs = standards_of(member), inputs_of(member)
        read = {"": resolve(inputs.features), "jet": inputs.jet_features, **dict(inputs.collections)}
        for place, columns in standards.items():
            for column in set(columns) & set(read.get(place, ())):
                if own.get(place, {}).get(column) != columns[column]:
                    raise ConfigError(
                        f"{name} standardises {column} by other numbers than another member",
                        mend="join runs that were trained on the same jets",
                    )
    return standards


def _what(one: Any) -> str:
    return ", ".join(one.classes) or str(one.target)


def _described(ensemble: nn.Module) -> dict[str, Any]:
    identity = identity_of(ensemble)
    return {
        "name": identity.name,
        "hyperparameters": plain(dict(identity.hyperparameters)),
        "standards": plain(dict(identity.standards)),
    }


def _config(run: Path, ensemble: nn.Module) -> RunConfig:
    """The first member's config with the ensemble as its model: `hepml train` with it trains the members
    together."""
    config = load_run_config(run / CONFIG)
    blocks = plain(dict(identity_of(ensemble).hyperparameters))["members"]
    training = config.training.model_copy(update={"init_from": None, "freeze": []})
    update = {"model": {"name": "ensemble", "members": blocks}, "training": training, "name": "ensemble"}
    return config.model_copy(update=update)


def _report(
    config: RunConfig,
    folder: RunDirectory,
    ensemble: nn.Module,
    members: Sequence[nn.Module],
    runs: Sequence[Path | str],
    progress: Progress,
) -> dict[str, Any]:
    head, device = head_of(ensemble), torch.device("cpu")
    jets = RunJets(None, None, _tests(config, ensemble, progress))
    jets.train = next(iter(jets.tests.values()), None)  # of which only the classes are asked
    tests = score_tests(config, ensemble, head, jets, device, progress) if jets.tests else {}
    reports: dict[str, Any] = {}
    size = config.training.eval_batch_size or 2 * config.training.batch_size
    for name, scored in tests.items():
        folder.write_scores(name, score_arrays(config, ensemble, scored))
        loader = loader_of(jets.tests[name], size, buckets=True)
        rows = score_dataset(WithSpread(ensemble), jets.tests[name], loader, device=device)
        spread = float(rows[:, rows.shape[1] // 2 :][:, -1].mean())
        reports[name] = {**scored.report, "spread": spread}
    first = next(iter(reports), None)
    return {
        "test": None if first is None else reports[first],
        "tests": {name: report for name, report in reports.items() if name != first},
        "parameters": sum(p.numel() for p in ensemble.parameters()),
        "seconds": 0.0,
        "epochs": 0,
        "ranks": 1,
        "jets": {name: len(dataset) for name, dataset in jets.tests.items()},
        "classes": list(identity_of(ensemble).classes),
        "model": "ensemble",
        "members": [str(run) for run in runs],
        "objective": head.name,
        "config": config.name,
        "digest": {name: dataset.digest for name, dataset in jets.tests.items()},
        "device": "cpu",
        "version": hepml.__version__,
        "run": str(folder.path),
    }


def _tests(config: RunConfig, ensemble: nn.Module, progress: Progress) -> dict[str, Any]:
    """The test sets that are files and are here; shares of the training jets are left out, and said so."""
    tests: dict[str, Any] = {}
    classes = identity_of(ensemble).classes or None
    for name, source in config.data.tests().items():
        if isinstance(source, float):
            progress.message(f"{name}: not scored, it is a share of the training jets")
            continue
        try:
            tests[name] = open_dataset(config.data, source, ensemble.inputs, classes)  # type: ignore[arg-type]
        except FileError as problem:
            progress.message(f"{name}: not scored, {problem.what}")
    return tests
