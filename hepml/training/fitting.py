"""How a run fits its model: Lightning's trainer and the loaders of this rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import lightning.pytorch as L
import torch
from torch import nn

from hepml.data.batch import JetBatch
from hepml.data.loader import JetLoader
from hepml.data.stream_loader import StreamLoader, loader_of
from hepml.errors import ConfigError
from hepml.nn.across_ranks import synchronise
from hepml.objectives import Objective
from hepml.training import distillation
from hepml.training.allocator import keep_freed_memory
from hepml.training.building import Built, build_decorrelation, build_side, checkpoint_identity
from hepml.training.callbacks import Killed, RunKeeper
from hepml.training.checkpoints import AtomicCheckpointIO
from hepml.training.continuing import checkpoint_to_continue
from hepml.training.feeding import Stream, reading_processes
from hepml.training.jet_weights import class_scale, mean_weight
from hepml.training.jets import RunJets
from hepml.training.launch import environment_of, trainer_options
from hepml.training.module import TrainingModule
from hepml.training.norm_statistics import first_batches, learning_norms
from hepml.training.run_config import RunConfig
from hepml.training.run_context import RunContext
from hepml.training.training_config import TrainingConfig

FEW_STEPS = 10  # an epoch: what running averages of batch norms remember


def fit_model(
    context: RunContext,
    built: Built,
    objective: Objective,
    jets: RunJets,
    taught: distillation.Targets | None,
    resume: bool,
) -> tuple[RunKeeper, torch.device]:
    """Trains the model; what the keeper has seen, and the device that it was trained on.

    Raises:
        ConfigError: `norm_batches` without a batch norm that learns.
        Killed: a signal came before the last epoch was over.
    """
    config, settings = context.config, context.config.training
    keeper = RunKeeper(
        context.folder.checkpoints,
        settings,
        context.tracker,
        context.progress,
        context.signals,
        len(jets.train),
    )
    trainer = make_trainer(context, keeper, built.model)
    training, validation = make_loaders(config, jets, trainer)
    module = make_module(config, built, objective, jets, taught, training)
    learning = bool(learning_norms(module.model))
    if settings.norm_batches is not None and not learning:
        raise ConfigError(
            "there is no batch norm that learns",
            where="training.norm_batches",
            mend="leave it out: training.norm_batches=null",
        )
    if settings.norm_batches is None and learning and 0 < module.steps_per_epoch < FEW_STEPS:
        context.progress.message(
            f"{module.steps_per_epoch} steps an epoch: running averages of batch norms lag behind the "
            "weights; training.norm_batches=20 measures them before each validation"
        )
    for task in () if module.side is None else module.side.tasks:
        if task.remark:
            context.progress.message(task.remark)
    # dropout and augmentation differ between ranks
    torch.manual_seed(settings.seed * 1_000_003 + trainer.global_rank + 1)
    last = checkpoint_to_continue(context, resume)

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
    if context.signals.received is not None and stopped_early:
        raise Killed(context.signals.received, context.folder.path)
    return keeper, trainer.strategy.root_device


def make_module(
    config: RunConfig,
    built: Built,
    objective: Objective,
    jets: RunJets,
    taught: distillation.Targets | None,
    training: JetLoader | StreamLoader,
) -> TrainingModule:
    """What is trained: the model with all that the config adds to its loss.

    Args:
        training: loader of the training jets.
    """
    settings = config.training
    model = built.model.double() if str(settings.precision) == "64" else built.model
    scale = (
        class_scale(jets.train, jets.classes, config.data.class_weights)
        if objective.task == "classification" and not jets.own_balance
        else None
    )
    steps = -(-len(training) // settings.accumulate)
    return TrainingModule(
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
        step_jets=lambda: training.step_jets,
        norm_batches=norm_batches(settings, training),
    )


def norm_batches(
    settings: TrainingConfig, training: JetLoader | StreamLoader
) -> Callable[[], Iterable[JetBatch]] | None:
    """Gives the batches of the present epoch by which batch norms are measured, where the config asks for it.

    Raises:
        ConfigError: jets that are streamed.
    """
    number = settings.norm_batches
    if number is None:
        return None
    if isinstance(training, StreamLoader):
        raise ConfigError(
            "streamed jets are not read twice in an epoch",
            where="training.norm_batches",
            mend="leave it out, or pack the jets with data.cache",
        )
    return lambda: first_batches(training, number)


def make_trainer(context: RunContext, keeper: RunKeeper, model: nn.Module) -> L.Trainer:
    """Lightning's trainer, of whose own habits only the loop is wanted.

    Raises:
        ConfigError: a GPU is asked for where there is none.
    """
    settings = context.config.training
    if context.ranks.size > 1:
        together, apart = synchronise(model, settings.synchronise_norms)
        keeper.norms = {"all_ranks": together, "each_rank": apart}
        if apart:
            context.progress.message(
                f"{apart} batch norms measure the jets of each of {context.ranks.size} ranks, not of the "
                "whole batch; the statistics kept are those of the first rank"
            )
    return L.Trainer(
        **loop_options(settings),
        **trainer_options(context.ranks, settings),
        max_epochs=settings.epochs,
        callbacks=[keeper, *context.callbacks],
        plugins=[AtomicCheckpointIO(), environment_of(context.ranks)],
        default_root_dir=str(context.folder.path),
    )


def loop_options(settings: TrainingConfig) -> dict[str, Any]:
    """What Lightning's trainer is told about the steps, and to leave alone."""
    return {
        "accelerator": {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[settings.device],
        "precision": "bf16-mixed" if settings.precision == "bf16-mixed" else "32-true",
        "gradient_clip_val": settings.gradient_clip,
        "accumulate_grad_batches": settings.accumulate,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }


def make_loaders(
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
