"""A training run from its config to its summary.

`train` opens the jets, builds the model, fits it with Lightning, scores the test jets with the best
checkpoint, and leaves everything in the run folder; what is reported goes to the journal there first and to
MLflow behind it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn

from hepml import outputs, tracking
from hepml.errors import ConfigError
from hepml.models import catalogue
from hepml.models.identity import identity_of
from hepml.tracking import page
from hepml.training.callbacks import Killed, Signals
from hepml.training.config_digest import changed_keys, stored_config
from hepml.training.continuing import refuse_another
from hepml.training.fitting import fit_model
from hepml.training.jets import RunJets
from hepml.training.launch import (
    first_decides,
    meeting,
    unannounced,
)
from hepml.training.preparing import Prepared, prepare
from hepml.training.progress import Progress
from hepml.training.quiet import quiet
from hepml.training.ranks import CHILD, decide
from hepml.training.reporting import report_run
from hepml.training.run_config import RunConfig
from hepml.training.run_context import RunContext
from hepml.training.run_directory import STATE, RunDirectory, default_output

# Seconds before MLflow is imported (1 to 2 of the processor): the run takes its first steps meanwhile.
MLFLOW_WAITS = 4.0
# blocks of the config that are parameters of the MLflow run
PARAMETERS = {"data", "model", "objective", "training", "distill", "decorrelate", "auxiliary", "pretraining"}


def train(
    config: RunConfig,
    output: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    callbacks: Sequence[L.Callback] = (),
) -> dict[str, Any]:
    """Trains a model as the config says and reports on its test jets.

    Args:
        config: from `load_run_config`.
        output: run folder; `config.output`, else `runs/NAME-TIME`.
        resume: go on with the run in that folder from its last checkpoint; the metrics are those of a run
            that was never interrupted.
        progress: told what happens.
        callbacks: Lightning callbacks, called behind the run's own, which has saved its checkpoint by then.

    Returns:
        what is left in `summary.json`: `test` (and `tests`) with accuracy, auc and rejection or rmse and
        bias, `parameters`, `seconds`, `epochs`, …

    Raises:
        HepmlError: what the user can mend: files, config, jets, a full disk.
        Killed: a signal ended the run; it can be resumed.
    """
    progress = progress or Progress()
    for callback in callbacks:
        if not isinstance(callback, L.Callback):
            raise ConfigError(
                f"{type(callback).__name__} is no Lightning callback",
                where="callbacks",
                mend="give instances of lightning.pytorch.Callback",
            )
    ranks = decide(os.environ, config.training.devices)
    place = os.environ.get(CHILD) if not ranks.first and not ranks.outside else None
    folder = RunDirectory(place or output or config.output or default_output(config))
    os.environ[CHILD] = str(folder.path)  # ranks that Lightning starts write to the same run
    if not ranks.first:
        progress = Progress()  # one rank speaks for all
    signals = Signals(folder.path)
    try:
        with signals.watching(), quiet(), unannounced(ranks):
            context = RunContext(config, folder, progress, signals, ranks, callbacks=tuple(callbacks))
            return _carry_out(context, resume)
    finally:
        os.environ.pop(CHILD, None)
        progress.end()


def _carry_out(context: RunContext, resume: bool) -> dict[str, Any]:
    """The steps of a run, in order; {} on all ranks but the first."""
    resume = resume and context.folder.path.exists()
    ready = prepare(context.config, context.progress)
    if context.ranks.note:
        context.progress.message(context.ranks.note)
    with meeting(context.ranks, context.config.training):
        first_decides(context.ranks, lambda: _open_folder(context, ready, resume))
        return _train_and_report(context, ready, resume)


def _train_and_report(context: RunContext, ready: Prepared, resume: bool) -> dict[str, Any]:
    built, objective, jets = ready.built, ready.objective, ready.jets
    status = "FAILED"
    try:
        if context.first:
            context.tracker = _start_tracking(context, built.model, jets)
        keeper, device = fit_model(context, built, objective, jets, ready.taught, resume)
        context.signals.at_once = True  # what follows is repeated from the last checkpoint
        summary = (
            report_run(
                context.config,
                context.folder,
                objective,
                jets,
                keeper,
                device,
                context.tracker,
                context.progress,
            )
            if context.first
            else {}
        )
        status = "FINISHED"
        return summary
    except (Killed, KeyboardInterrupt, SIGTERMException) as stop:
        status = "KILLED"
        if isinstance(stop, SIGTERMException):
            raise Killed(15, context.folder.path) from None
        raise
    finally:
        context.signals.at_once = False
        if context.first:
            _finish(context, status)


# ------------------------------------------------------------------------------------------------------------
# the record of a run


def _open_folder(context: RunContext, ready: Prepared, resume: bool) -> None:
    """Makes the run folder this process's own: nothing is written in one that another process trains in."""
    if not resume:
        data = context.config.data
        outputs.refuse_inputs(context.folder.path, [data.train, data.val, *data.tests().values(), data.cache])
        outputs.refuse_inputs(context.folder.path, _words(data.samples))
    context.folder.prepare(resume=resume)
    context.lock = tracking.take_lock(context.folder.path)
    try:
        if resume:
            refuse_another(
                context.folder, ready.built.model, ready.jets, context.config, context.progress.message
            )
        else:
            context.folder.prepare(resume=False)  # nobody was faster
        _describe_run(context)
    except BaseException:
        context.lock.release()
        raise


def _words(value: Any) -> list[str]:
    """All text in nested mappings and lists: paths among it."""
    if isinstance(value, dict | list):
        return [w for v in (value.values() if isinstance(value, dict) else value) for w in _words(v)]
    return [value] if isinstance(value, str) else []


def _describe_run(context: RunContext) -> None:
    if changed_keys(stored_config(context.folder.path), context.config.model_dump(mode="json")):
        aside = context.folder.put_results_aside()
        if aside is not None:
            context.progress.message(f"the results that it had are in {aside}")
    context.folder.write_config(context.config)
    context.folder.write_json("environment.json", tracking.capture_environment())
    context.folder.write_json("git.json", tracking.capture_source())


def _start_tracking(context: RunContext, model: nn.Module, jets: RunJets) -> Any:
    config, settings = context.config, context.config.tracking
    parameters = config.model_dump(mode="json", include=PARAMETERS, exclude_none=True)
    parameters["parameters"] = catalogue.count_parameters(model)
    tracker = tracking.start(
        context.folder.path,
        experiment=settings.experiment or "hepml",
        name=settings.name or context.folder.path.resolve().name,
        uri=settings.uri,
        enabled=settings.enabled,
        parameters=parameters,
        tags={**_names(config, model), **settings.tags},
        lock=context.lock,
        grace=MLFLOW_WAITS,
    )
    sources = {"train": config.data.train, "val": config.data.val, **config.data.tests()}
    for name, dataset in {"train": jets.train, "val": jets.val, **jets.tests}.items():
        source = sources.get(name)
        files = config.data.train if source is None or isinstance(source, float) else source
        tracker.dataset(name, dataset.digest, files, len(dataset))
    return tracker


def _names(config: RunConfig, model: nn.Module) -> dict[str, str]:
    """What a run is called by in MLflow: its tagger, its config and its jets."""
    name = str(identity_of(model).name)
    files = config.data.train or list(config.data.samples or ())
    listed = [files] if isinstance(files, str) else [str(file) for file in files]
    return {"model": name, "tagger": name, "config": config.name or "", "data": page.dataset_title(listed)}


def _finish(context: RunContext, status: str) -> None:
    context.folder.write_json(STATE, {"status": status, "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
    if context.tracker is not None:
        warning = context.tracker.finish(status)
        if warning:
            context.progress.message(str(warning))
