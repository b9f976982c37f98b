"""A training run from its config to its summary.

`train` opens the jets, builds the model, fits it with Lightning, scores the test jets with the best
checkpoint, and leaves everything in the run folder; what is reported goes to the journal there first and to
MLflow behind it.
"""

from __future__ import annotations

import os
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn

import hepml
from hepml import models, objectives, tracking
from hepml.data.loader import JetLoader
from hepml.errors import ConfigError, DataError
from hepml.inference.prediction import score_dataset
from hepml.models import catalogue
from hepml.objectives import Objective
from hepml.training import metrics
from hepml.training.callbacks import Killed, RunKeeper, Signals
from hepml.training.checkpoints import BEST, AtomicCheckpointIO, epochs_of, initialise_from, load_model
from hepml.training.jets import RunJets, Stream, class_scale, open_jets
from hepml.training.module import TrainingModule, freeze, seed_everything
from hepml.training.progress import Progress
from hepml.training.quiet import quiet
from hepml.training.run_config import RunConfig
from hepml.training.run_directory import STATE, SUMMARY, RunDirectory, default_output


def train(
    config: RunConfig,
    output: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Trains a model as the config says and reports on its test jets.

    Args:
        config: from `load_run_config`.
        output: run folder; `config.output`, else `runs/NAME-TIME`.
        resume: go on with the run in that folder from its last checkpoint; the metrics are those of a run
            that was never interrupted.
        progress: told what happens.

    Returns:
        what is left in `summary.json`: `test` (and `tests`) with accuracy, auc and rejection or rmse and
        bias, `parameters`, `seconds`, `epochs`, …

    Raises:
        HepmlError: what the user can mend: files, config, jets, a full disk.
        Killed: a signal ended the run; it can be resumed.
    """
    progress = progress or Progress()
    place = os.environ.get("HEPML_RUN_FOLDER") if int(os.environ.get("LOCAL_RANK", 0)) else None
    folder = RunDirectory(place or output or config.output or default_output(config))
    os.environ["HEPML_RUN_FOLDER"] = str(folder.path)  # ranks that Lightning starts write to the same run
    first = (
        int(os.environ.get("LOCAL_RANK", 0)) == 0
        and int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0
    )
    if not first:
        progress = Progress()  # one rank speaks for all
    signals = Signals()
    try:
        with signals.watching(), quiet():
            return _Run(config, folder, progress, signals, first).carry_out(resume)
    finally:
        os.environ.pop("HEPML_RUN_FOLDER", None)
        progress.end()


class _Run:
    """The stations of one run, in order."""

    def __init__(
        self, config: RunConfig, folder: RunDirectory, progress: Progress, signals: Signals, first: bool
    ) -> None:
        self.config, self.folder, self.progress, self.signals, self.first = (
            config,
            folder,
            progress,
            signals,
            first,
        )
        self.settings = config.training
        self.tracker: Any = None
        self.fresh: frozenset[str] | None = None  # tensors that given weights did not bring

    def carry_out(self, resume: bool) -> dict[str, Any]:
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        seed_everything(self.settings.seed)
        resume = resume and self.folder.path.exists()
        # what can go wrong with the user's files goes wrong before a folder is made
        jets = open_jets(self.config.data, self._inputs(), self.progress.message)
        for note in jets.notes:
            self.progress.message(note)
        objective = self._objective(jets)
        seed_everything(self.settings.seed)
        model = self._model(objective)
        if self.first:
            self.folder.prepare(resume=resume)
            self._describe_run()
        status = "FAILED"
        try:
            if self.first:
                self._start_tracking(model, jets)
            keeper = self._fit(model, objective, jets, resume)
            summary = self._report(objective, jets, keeper) if self.first else {}
            status = "FINISHED"
            return summary
        except (Killed, KeyboardInterrupt, SIGTERMException) as stop:
            status = "KILLED"
            if isinstance(stop, SIGTERMException):
                raise Killed(15, self.folder.path) from None
            raise
        finally:
            if self.first:
                self._finish(status)

    # ------------------------------------------------------------------ stations

    @cached_property
    def given(self) -> nn.Module | None:
        """The model whose weights this run starts from."""
        return load_model(self.config.pretrained) if self.config.pretrained else None

    def _inputs(self) -> Any:
        return self._build(outputs=2).inputs

    def _build(self, outputs: int) -> nn.Module:
        name, hyperparameters = self.config.model_name, self.config.hyperparameters
        if self.given is not None and name in (None, self.given.hepml_name):
            # the weights say how they were trained; what the config says goes before
            name = str(self.given.hepml_name)
            hyperparameters = {**self.given.hepml_hyperparameters, **hyperparameters}  # type: ignore[dict-item]
            hyperparameters.pop("outputs", None)
        assert name is not None
        return models.create(name, outputs=outputs, **hyperparameters)

    def _objective(self, jets: RunJets) -> Objective:
        arguments = dict(self.config.objective_arguments)
        name = self.config.objective_name
        if objectives.OBJECTIVES[name].task == "classification":
            return objectives.objective(name, classes=len(jets.classes), **arguments)
        targets = np.asarray(jets.train.labels, dtype=np.float64).reshape(len(jets.train), -1)
        if not np.isfinite(targets).all():
            raise DataError(
                f"target '{self.config.data.target}' has NaN or infinite values",
                mend="drop those jets with data.selection",
            )
        # in units of its own spread the target suits any learning rate
        arguments.setdefault("centre", float(targets.mean()))
        arguments.setdefault("width", float(targets.std()) or 1.0)
        return objectives.objective(name, targets=targets.shape[1], **arguments)

    def _model(self, objective: Objective) -> nn.Module:
        model = self._build(objective.outputs)
        if self.config.pretrained:
            fresh = initialise_from(model, self.config.pretrained)
            self.fresh = frozenset(fresh)
            told = ", ".join(sorted({name.rpartition(".")[0] or name for name in fresh})) or "none"
            self.progress.message(f"weights from {self.config.pretrained}; new layers: {told}")
        if self.settings.freeze:
            frozen = freeze(model, self.settings.freeze)
            self.progress.message(
                f"{frozen} tensors frozen, {catalogue.count_parameters(model):,} parameters left to train"
            )
            if not catalogue.count_parameters(model):
                raise ConfigError(
                    "everything is frozen", where="training.freeze", mend="leave some layers to train"
                )
        return model

    def _identity(self, model: nn.Module, objective: Objective, jets: RunJets) -> dict[str, Any]:
        head = dict(self.config.objective_arguments)
        for key in ("classes", "targets", "centre", "width"):
            if hasattr(objective, key):
                head[key] = getattr(objective, key)
        layout = self.config.data.layout
        return {
            "version": hepml.__version__,
            "name": model.hepml_name,
            "hyperparameters": _plain(model.hepml_hyperparameters),
            "objective": {"name": objective.name, "arguments": head},
            "classes": list(jets.classes) if objective.task == "classification" else [],
            "target": self.config.data.target,
            "layout": _plain(layout) if isinstance(layout, dict) else layout,
            "config": self.config.model_dump(mode="json"),
        }

    def _describe_run(self) -> None:
        self.folder.write_config(self.config)
        self.folder.write_json("environment.json", tracking.capture_environment())
        self.folder.write_json("git.json", tracking.capture_git(Path(hepml.__file__).parent))

    def _start_tracking(self, model: nn.Module, jets: RunJets) -> None:
        settings = self.config.tracking
        parameters = self.config.model_dump(
            mode="json", include={"data", "model", "objective", "training"}, exclude_none=True
        )
        parameters["parameters"] = catalogue.count_parameters(model)
        self.tracker = tracking.start(
            self.folder.path,
            experiment=settings.experiment or "hepml",
            name=settings.name or self.folder.path.resolve().name,
            uri=settings.uri,
            enabled=settings.enabled,
            parameters=parameters,
            tags={"model": str(model.hepml_name), "config": self.config.name or ""},
        )
        sources = {"train": self.config.data.train, "val": self.config.data.val, **self.config.data.tests()}
        for name, dataset in {"train": jets.train, "val": jets.val, **jets.tests}.items():
            source = sources.get(name)
            files = self.config.data.train if source is None or isinstance(source, float) else source
            self.tracker.dataset(name, dataset.digest, files, len(dataset))

    def _fit(self, model: nn.Module, objective: Objective, jets: RunJets, resume: bool) -> RunKeeper:
        settings = self.settings
        accelerator = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[settings.device]
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("no CUDA device here", where="training.device", mend="training.device=auto")
        if str(settings.precision) == "64":
            model = model.double()
        keeper = RunKeeper(
            self.folder.checkpoints, settings, self.tracker, self.progress, self.signals, len(jets.train)
        )
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=settings.devices,
            strategy="ddp" if settings.devices > 1 else "auto",
            max_epochs=settings.epochs,
            precision="bf16-mixed" if settings.precision == "bf16-mixed" else "32-true",
            gradient_clip_val=settings.gradient_clip,
            callbacks=[keeper],
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=str(self.folder.path),
        )
        rank, world = trainer.global_rank, trainer.world_size
        pin = trainer.strategy.root_device.type == "cuda"
        per_rank = max(1, settings.batch_size // world)
        training = JetLoader(
            jets.train,
            per_rank,
            shuffle=True,
            seed=settings.seed,
            buckets=settings.buckets,
            rank=rank,
            world_size=world,
        )
        validation = JetLoader(
            jets.val, settings.eval_batch_size or 2 * per_rank, buckets=True, rank=rank, world_size=world
        )

        def position() -> tuple[int, int]:
            # batches of this epoch that a resumed run has behind it
            return trainer.current_epoch, int(trainer.fit_loop.epoch_loop.batch_progress.current.ready)

        module = TrainingModule(
            model,
            objective,
            settings,
            total_steps=settings.epochs * len(training),
            steps_per_epoch=len(training),
            classes=jets.classes,
            class_scale=class_scale(jets.train, len(jets.classes))
            if objective.task == "classification"
            else None,
            identity=self._identity(model, objective, jets),
            fresh=self.fresh,
        )
        torch.manual_seed(
            settings.seed * 1_000_003 + rank + 1
        )  # dropout and augmentation differ between ranks
        last = self.folder.last if resume and self.folder.last.is_file() else None
        if last is not None:
            behind = epochs_of(last)
            if behind > settings.epochs:
                raise ConfigError(
                    f"the run has {behind} epochs behind it, training.epochs asks for {settings.epochs}",
                    where=str(last),
                    mend=f"training.epochs={behind} reports it as it stands, more goes on; a shorter run "
                    "needs a folder of its own",
                )
        if resume:
            self.progress.message(
                f"going on from {last}" if last else "no checkpoint yet: starting from the beginning"
            )
        trainer.fit(
            module,
            train_dataloaders=Stream(training, position, pin=pin),
            val_dataloaders=Stream(validation, pin=pin),
            ckpt_path=None if last is None else str(last),
            weights_only=True,
        )
        if (
            self.signals.received is not None
            and not keeper.stopped
            and trainer.current_epoch < settings.epochs
        ):
            raise Killed(self.signals.received, self.folder.path)
        self.device = trainer.strategy.root_device
        return keeper

    def _report(self, objective: Objective, jets: RunJets, keeper: RunKeeper) -> dict[str, Any]:
        model = load_model(self.folder.checkpoints / BEST, device=str(self.device))
        tests: dict[str, dict[str, Any]] = {}
        curves: dict[str, tuple[Any, Any, Any]] = {}
        for name, dataset in jets.tests.items():
            loader = JetLoader(
                dataset, self.settings.eval_batch_size or 2 * self.settings.batch_size, buckets=True
            )
            rows = score_dataset(
                model,
                dataset,
                loader,
                device=self.device,
                bf16=self.settings.precision == "bf16-mixed",
                tell=lambda done, name=name, dataset=dataset: self.progress.scoring(name, done, len(dataset)),  # type: ignore[misc]
            )
            labels = np.asarray(dataset.labels)
            weights = None if dataset.weights is None else np.asarray(dataset.weights, dtype=np.float64)
            tests[name] = metrics.report(
                objective, labels, rows, weights, classes=jets.classes, target=self.config.data.target
            )
            self.folder.write_scores(name, self._score_arrays(model, labels, rows, weights))
            curves[name] = (labels, rows, weights)
            self.tracker.metrics(_flat(tests[name], f"{name}/"), keeper.best_epoch)
            self.tracker.artifact(self.folder.path / "scores" / f"{name}.npz", "scores")
        self._figures(objective, curves, keeper, jets)
        speeds = sorted(values["jets_per_second"] for values in keeper.history)
        summary: dict[str, Any] = {
            "test": next(iter(tests.values()), None),
            "tests": {name: report for i, (name, report) in enumerate(tests.items()) if i},
            "validation": next((v for v in keeper.history if v["epoch"] == keeper.best_epoch), None),
            "parameters": catalogue.count_parameters(model),
            "seconds": round(keeper.trained, 3),
            "epochs": len(keeper.history),
            "best_epoch": keeper.best_epoch,
            "jets_per_second": speeds[len(speeds) // 2] if speeds else None,
            "jets": {
                "train": len(jets.train),
                "val": len(jets.val),
                **{n: len(d) for n, d in jets.tests.items()},
            },
            "classes": list(jets.classes) if objective.task == "classification" else [],
            "model": model.hepml_name,
            "objective": objective.name,
            "config": self.config.name,
            "digest": {
                "train": jets.train.digest,
                "val": jets.val.digest,
                **{n: d.digest for n, d in jets.tests.items()},
            },
            "device": str(self.device),
            "version": hepml.__version__,
            "run": str(self.folder.path),
        }
        self.folder.write_json(SUMMARY, summary)
        self.tracker.artifact(self.folder.path / SUMMARY)
        self.tracker.artifact(self.folder.checkpoints / BEST, "checkpoints")
        example = jets.val.batch(np.arange(min(8, len(jets.val))))
        self.tracker.model(model.cpu(), example, objective=objective, classes=jets.classes or None)
        return summary

    def _score_arrays(
        self, model: nn.Module, labels: Any, rows: np.ndarray, weights: Any
    ) -> dict[str, np.ndarray]:
        signal = rows[:, 1] if rows.shape[1] == 2 and self.config.data.target is None else rows
        arrays = {"labels": labels, str(model.hepml_name): signal.astype(np.float32)}
        if weights is not None:
            arrays["weights"] = weights
        return arrays

    def _figures(
        self, objective: Objective, curves: dict[str, Any], keeper: RunKeeper, jets: RunJets
    ) -> None:
        from hepml.evaluation.plots import scores as plots

        if objective.task == "classification" and len(jets.classes) == 2:
            binary = {name: (y, rows[:, 1], w) for name, (y, rows, w) in curves.items()}
            if binary:
                self._figure("roc", plots.plot_roc(binary))
            for name, (y, s, w) in binary.items():
                self._figure(f"scores_{name}", plots.plot_scores(y, s, w))
        if keeper.history:
            self._figure("history", plots.plot_history(keeper.history))

    def _figure(self, name: str, figure: Any) -> None:
        import matplotlib.pyplot as plt

        self.tracker.figure(name, figure)
        plt.close(figure)

    def _finish(self, status: str) -> None:
        self.folder.write_json(STATE, {"status": status, "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
        if self.tracker is not None:
            warning = self.tracker.finish(status)
            if warning:
                self.progress.message(str(warning))


# ------------------------------------------------------------------------------------------------------------
# helpers


def _flat(report: Any, prefix: str = "") -> dict[str, float]:
    out: dict[str, float] = {}
    for key, value in report.items():
        if isinstance(value, dict):
            out.update(_flat(value, f"{prefix}{key}/"))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            out[f"{prefix}{key}"] = float(value)
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
