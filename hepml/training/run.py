"""A training run from its config to its summary.

`train` opens the jets, builds the model, fits it with Lightning, scores the test jets with the best
checkpoint, and leaves everything in the run folder; what is reported goes to the journal there first and to
MLflow behind it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn

from hepml import outputs, tracking
from hepml.data.loader import JetLoader
from hepml.data.stream_loader import StreamLoader, loader_of
from hepml.errors import ConfigError
from hepml.models import catalogue
from hepml.models.identity import identity_of
from hepml.nn.across_ranks import synchronise
from hepml.objectives import Objective
from hepml.tracking import page
from hepml.training import distillation
from hepml.training.allocator import keep_freed_memory
from hepml.training.building import (
    Built,
    build_decorrelation,
    build_model,
    build_objective,
    build_side,
    checkpoint_identity,
    given_model,
    model_inputs,
)
from hepml.training.callbacks import Killed, RunKeeper, Signals
from hepml.training.checkpoints import AtomicCheckpointIO, epochs_of
from hepml.training.feeding import Stream, reading_processes
from hepml.training.jet_weights import class_scale, mean_weight
from hepml.training.jets import RunJets, open_jets
from hepml.training.launch import (
    environment_of,
    first_decides,
    meeting,
    trainer_options,
    unannounced,
)
from hepml.training.module import TrainingModule, seed_everything
from hepml.training.progress import Progress
from hepml.training.quiet import quiet
from hepml.training.ranks import CHILD, Ranks, decide
from hepml.training.reporting import report_run
from hepml.training.run_config import RunConfig
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
            desk = _Desk(config, folder, progress, signals, ranks, callbacks=tuple(callbacks))
            return _carry_out(desk, resume)
    finally:
        os.environ.pop(CHILD, None)
        progress.end()


@dataclass
class _Desk:
    """What every station of a run needs at hand.

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


def _carry_out(desk: _Desk, resume: bool) -> dict[str, Any]:
    """The stations of a run, in order; {} on all ranks but the first."""
    config, settings = desk.config, desk.config.training
    if settings.threads:
        torch.set_num_threads(settings.threads)
    seed_everything(settings.seed)
    resume = resume and desk.folder.path.exists()
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device here", where="training.device", mend="training.device=auto")
    # what can go wrong with the user's files goes wrong before a folder is made
    if config.data.stream and config.distill is not None:
        raise ConfigError(
            "distill and data.stream do not go together",
            where="data.stream",
            mend="pack the jets with data.cache instead of streaming them",
        )
    given = given_model(config)
    inputs = model_inputs(config, given)
    jets = open_jets(config.data, inputs, desk.progress.message)
    for note in jets.notes:
        desk.progress.message(note)
    if config.pretraining is not None:
        jets.tests = {}  # nothing is scored: the outputs have learnt nothing
    objective = build_objective(config, jets)
    taught = distillation.prepare(config, jets, inputs, objective, desk.progress)
    seed_everything(settings.seed)
    built = build_model(config, given, objective, desk.progress, jets)
    if desk.ranks.note:
        desk.progress.message(desk.ranks.note)
    with meeting(desk.ranks, settings):
        first_decides(desk.ranks, lambda: _open_folder(desk, resume))
        return _train_and_report(desk, built, objective, jets, taught, resume)


def _train_and_report(
    desk: _Desk,
    built: Built,
    objective: Objective,
    jets: RunJets,
    taught: distillation.Targets | None,
    resume: bool,
) -> dict[str, Any]:
    status = "FAILED"
    try:
        if desk.first:
            desk.tracker = _start_tracking(desk, built.model, jets)
        keeper, device = _fit(desk, built, objective, jets, taught, resume)
        desk.signals.at_once = True  # what follows is done anew from the last checkpoint
        summary = (
            report_run(desk.config, desk.folder, objective, jets, keeper, device, desk.tracker, desk.progress)
            if desk.first
            else {}
        )
        status = "FINISHED"
        return summary
    except (Killed, KeyboardInterrupt, SIGTERMException) as stop:
        status = "KILLED"
        if isinstance(stop, SIGTERMException):
            raise Killed(15, desk.folder.path) from None
        raise
    finally:
        desk.signals.at_once = False
        if desk.first:
            _finish(desk, status)


# ------------------------------------------------------------------------------------------------------------
# the record of a run


def _open_folder(desk: _Desk, resume: bool) -> None:
    """Makes the run folder this process's own: nothing is written in one that another process trains in."""
    if not resume:
        data = desk.config.data
        outputs.refuse_inputs(desk.folder.path, [data.train, data.val, *data.tests().values(), data.cache])
        outputs.refuse_inputs(desk.folder.path, _words(data.samples))
    desk.folder.prepare(resume=resume)
    desk.lock = tracking.take_lock(desk.folder.path)
    try:
        if not resume:
            desk.folder.prepare(resume=False)  # nobody was faster
        _describe_run(desk)
    except BaseException:
        desk.lock.release()
        raise


def _words(value: Any) -> list[str]:
    """All text in nested mappings and lists: paths among it."""
    if isinstance(value, dict | list):
        return [w for v in (value.values() if isinstance(value, dict) else value) for w in _words(v)]
    return [value] if isinstance(value, str) else []


def _describe_run(desk: _Desk) -> None:
    desk.folder.write_config(desk.config)
    desk.folder.write_json("environment.json", tracking.capture_environment())
    desk.folder.write_json("git.json", tracking.capture_source())


def _start_tracking(desk: _Desk, model: nn.Module, jets: RunJets) -> Any:
    config, settings = desk.config, desk.config.tracking
    parameters = config.model_dump(mode="json", include=PARAMETERS, exclude_none=True)
    parameters["parameters"] = catalogue.count_parameters(model)
    tracker = tracking.start(
        desk.folder.path,
        experiment=settings.experiment or "hepml",
        name=settings.name or desk.folder.path.resolve().name,
        uri=settings.uri,
        enabled=settings.enabled,
        parameters=parameters,
        tags={**_names(config, model), **settings.tags},
        lock=desk.lock,
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


def _finish(desk: _Desk, status: str) -> None:
    desk.folder.write_json(STATE, {"status": status, "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
    if desk.tracker is not None:
        warning = desk.tracker.finish(status)
        if warning:
            desk.progress.message(str(warning))


# ------------------------------------------------------------------------------------------------------------
# fitting


def _fit(
    desk: _Desk,
    built: Built,
    objective: Objective,
    jets: RunJets,
    taught: distillation.Targets | None,
    resume: bool,
) -> tuple[RunKeeper, torch.device]:
    """Trains the model; what the keeper has seen, and the device that it was trained on.

    Raises:
        Killed: a signal came before the last epoch was over.
    """
    config, settings = desk.config, desk.config.training
    keeper = RunKeeper(
        desk.folder.checkpoints, settings, desk.tracker, desk.progress, desk.signals, len(jets.train)
    )
    trainer = _make_trainer(desk, keeper, built.model)
    training, validation = _make_loaders(config, jets, trainer)
    model = built.model.double() if str(settings.precision) == "64" else built.model
    scale = (
        class_scale(jets.train, jets.classes, config.data.class_weights)
        if objective.task == "classification" and not jets.own_balance
        else None
    )
    steps = -(-len(training) // settings.accumulate)
    module = TrainingModule(
        model,
        objective,
        settings,
        total_steps=settings.epochs * steps,
        steps_per_epoch=steps,
        classes=jets.classes,
        class_scale=scale,
        mean_weight=mean_weight(jets.train, scale),
        identity=checkpoint_identity(config, model, objective, jets),
        fresh=built.fresh,
        taught=taught,
        side=build_side(config, model, objective, jets),
        apart=build_decorrelation(config, jets),
    )
    # dropout and augmentation differ between ranks
    torch.manual_seed(settings.seed * 1_000_003 + trainer.global_rank + 1)
    last = _checkpoint_to_go_on_from(desk, resume)

    def position() -> tuple[int, int]:
        # batches of this epoch that a resumed run has behind it
        return trainer.current_epoch, int(trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    kind = trainer.strategy.root_device.type
    if kind == "cpu":
        keep_freed_memory()
    pin = kind == "cuda"
    fed = Stream(training, position, pin=pin)
    keeper.loader_seconds = lambda: fed.waited
    trainer.fit(
        module,
        train_dataloaders=fed,
        val_dataloaders=Stream(validation, pin=pin),
        ckpt_path=None if last is None else str(last),
        weights_only=True,
    )
    stopped_early = not keeper.stopped and trainer.current_epoch < settings.epochs
    if desk.signals.received is not None and stopped_early:
        raise Killed(desk.signals.received, desk.folder.path)
    return keeper, trainer.strategy.root_device


def _make_trainer(desk: _Desk, keeper: RunKeeper, model: nn.Module) -> L.Trainer:
    """Lightning's trainer, of whose own habits only the loop is wanted.

    Raises:
        ConfigError: a GPU is asked for where there is none.
    """
    settings = desk.config.training
    if desk.ranks.size > 1:
        together, apart = synchronise(model, settings.synchronise_norms)
        keeper.norms = {"all_ranks": together, "each_rank": apart}
        if apart:
            desk.progress.message(
                f"{apart} batch norms measure the jets of each of {desk.ranks.size} ranks, not of the whole "
                "batch; the statistics kept are those of the first rank"
            )
    return L.Trainer(
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[settings.device],
        **trainer_options(desk.ranks, settings),
        max_epochs=settings.epochs,
        precision="bf16-mixed" if settings.precision == "bf16-mixed" else "32-true",
        gradient_clip_val=settings.gradient_clip,
        accumulate_grad_batches=settings.accumulate,
        callbacks=[keeper, *desk.callbacks],
        plugins=[AtomicCheckpointIO(), environment_of(desk.ranks)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=str(desk.folder.path),
    )


def _make_loaders(
    config: RunConfig, jets: RunJets, trainer: L.Trainer
) -> tuple[JetLoader | StreamLoader, JetLoader | StreamLoader]:
    """This rank's loaders of training and validation jets; `batch_size` is the sum over ranks."""
    settings = config.training
    rank, world = trainer.global_rank, trainer.world_size
    per_rank = -(-settings.batch_size // world)
    workers = reading_processes(config.data.workers, trainer.num_devices)
    training = loader_of(
        jets.train,
        per_rank,
        shuffle=True,
        seed=settings.seed,
        buckets=settings.buckets,
        rank=rank,
        world_size=world,
        step_size=settings.batch_size,
        workers=workers,
    )
    validation = loader_of(
        jets.val,
        settings.eval_batch_size or 2 * per_rank,
        buckets=True,
        rank=rank,
        world_size=world,
        workers=workers,
    )
    return training, validation


def _checkpoint_to_go_on_from(desk: _Desk, resume: bool) -> Path | None:
    """The last checkpoint of a resumed run, where it left one.

    Raises:
        ConfigError: the run has more epochs behind it than the config asks for.
    """
    if not resume:
        return None
    last = desk.folder.last
    if not last.is_file():
        desk.progress.message("no checkpoint yet: starting from the beginning")
        return None
    behind, asked = epochs_of(last), desk.config.training.epochs
    if behind > asked:
        raise ConfigError(
            f"the run has {behind} epochs behind it, training.epochs asks for {asked}",
            where=str(last),
            mend=f"training.epochs={behind} reports it as it stands, more goes on; a shorter run "
            "needs a folder of its own",
        )
    if behind == asked:
        desk.progress.message(
            f"this run was finished: all {asked} epochs are behind it; its test jets are scored again "
            f"(training.epochs={2 * asked} would go on)"
        )
    else:
        desk.progress.message(f"going on from {last}, {behind} of {asked} epochs behind it")
    return last
