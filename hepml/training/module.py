"""The Lightning module: one model, one objective, one optimizer; what happens in a training step and what
validation measures.

Losses are summed on the device and read once an epoch; validation outputs are gathered over all ranks before
anything is computed from them, so that a metric never describes one rank's share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.errors import DataError
from hepml.nn.across_ranks import ties
from hepml.objectives import Objective, weighted_mean
from hepml.training import augmentation, metrics, schedules
from hepml.training.averages import WeightAverage
from hepml.training.decorrelation import Decorrelation
from hepml.training.distillation import Targets
from hepml.training.norm_statistics import measure_norms
from hepml.training.optimizers import build_optimizer
from hepml.training.pretraining import MaskedParticles, mask
from hepml.training.random_state import random_state, restore_random_state
from hepml.training.sharding import put_back, shard
from hepml.training.side_tasks import SideTasks
from hepml.training.training_config import TrainingConfig


class TrainingModule(L.LightningModule):
    """A model under training.

    Args:
        model: any registered model.
        objective: its head.
        settings: the `training` block of the run.
        total_steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps of an epoch.
        classes: class names, empty for a regression.
        class_scale: [C] factors on event weights, or None.
        mean_weight: mean weight of a training jet, class factors included; the loss is normalised by it.
        identity: what `load_model` needs to build the model again; kept in every checkpoint under `hepml`.
        fresh: names of tensors that given weights did not bring, which learn at the full rate; None where
            none were given.
        taught: a teacher's scores to learn from, or None.
        side: further heads on the model, or the pretext task that takes the place of the labels.
        apart: what the score is decorrelated from, or None.
        step_jets: gives the jets of each batch of the epoch, over all ranks; batches that are added up to one
            step count by their jets then, also where few are left for the last one.
        norm_batches: gives the training batches by which batch norms are measured before a validation, or
            None where their running averages are kept.

    Examples:
        >>> model, head = hepml.models.create('mlp'), hepml.objectives.Categorical(2)
        >>> settings = hepml.training.load_run_config('quickstart').training
        >>> module = hepml.training.TrainingModule(model, head, settings, total_steps=10, steps_per_epoch=5)
        >>> module.total_steps
        10
    """

    class_scale: Tensor | None
    _run: Callable[[JetBatch], Tensor]

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        settings: TrainingConfig,
        *,
        total_steps: int,
        steps_per_epoch: int,
        classes: tuple[str, ...] = (),
        class_scale: Tensor | None = None,
        mean_weight: float = 1.0,
        identity: dict[str, Any] | None = None,
        fresh: frozenset[str] | None = None,
        taught: Targets | None = None,
        side: SideTasks | None = None,
        apart: Decorrelation | None = None,
        step_jets: Callable[[], np.ndarray] | None = None,
        norm_batches: Callable[[], Iterable[JetBatch]] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.settings = settings
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.classes = classes
        self.mean_weight = mean_weight
        self.identity = identity or {}
        self.fresh = fresh
        self.taught = taught
        self.side, self.apart, self.step_jets, self.norm_batches = side, apart, step_jets, norm_batches
        self.register_buffer("class_scale", class_scale, persistent=False)
        # Σ w·nll / mean weight, jets. No buffer: DDP gives buffers of the first rank to all
        self.loss_sum = torch.zeros(2, dtype=torch.float64)
        self.average = WeightAverage(settings.average) if settings.average else None
        self.average_of_heads = WeightAverage(settings.average) if settings.average and side else None
        self._own: list[dict[str, Tensor]] = []  # own weights while the averages are measured
        self._sharded = False
        self._outputs: list[tuple[Tensor, ...]] = []
        self._random: dict[str, Any] | None = None
        self.ranks_before: int | None = None  # of the process that wrote the checkpoint gone on from
        self.jets_seen: int | None = None  # of the last epoch, over all ranks
        self.epoch_metrics: dict[str, float] = {}
        # Kept out of the module tree: a compiled twin would enter the state dict a second time.
        run = torch.compile(model, dynamic=True) if settings.compile else model
        object.__setattr__(self, "_run", run)
        self.train()

    def train(self, mode: bool = True) -> TrainingModule:
        """Training mode, in which frozen batch norms stay in evaluation: they use their statistics and keep
        them."""
        super().train(mode)
        if mode:
            for name, module in self.model.named_modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
                    self.settings.freeze_norms or name.startswith(tuple(self.settings.freeze))
                ):
                    module.eval()
        return self

    def configure_model(self) -> None:
        """Shares out the weights over the ranks where Lightning's strategy has a mesh of them."""
        if self._device_mesh is not None and not self._sharded:
            mesh = self.device_mesh
            assert mesh is not None
            shard(self.model, mesh["data_parallel"])
            self._sharded = True

    # ------------------------------------------------------------------ steps

    def transfer_batch_to_device(
        self, batch: JetBatch, device: torch.device, dataloader_idx: int
    ) -> JetBatch:
        batch = batch.to(device, non_blocking=True)
        dtype = next(self.model.parameters()).dtype
        return batch if batch.dtype == dtype else batch.to(dtype)

    def forward(self, batch: JetBatch) -> Tensor:
        out: Tensor = self.model(batch)
        return out

    def training_step(self, batch: JetBatch, batch_idx: int) -> Tensor:
        if self.settings.augment:
            batch = augmentation.apply(self.settings.augment, batch)
        if isinstance(self.side, MaskedParticles):
            loss = self.side.loss_of(self._run, batch)
        else:
            outputs = self._run(batch)
            parameters = outputs.float() if self.settings.precision == "bf16-mixed" else outputs
            nll, weights = self._likelihood(parameters, batch)
            loss = weighted_mean(nll, weights, self.mean_weight)
            if self.apart is not None:
                penalty = self.apart.of_batch(self.objective, parameters, batch, self._weights(batch))
                loss = loss + self.apart.strength * penalty
            if self.side is not None:
                loss = loss + self.side.loss(batch)
        size = torch.full_like(loss.detach(), len(batch))
        self.loss_sum += torch.stack([loss.detach() * size, size]).to(torch.float64)
        loss = loss * self._part_of_step(batch_idx)
        if self.trainer.world_size == 1:
            return loss
        return loss * self._share(len(batch)) + ties(self.model)

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        for module, average, *_ in self._averages():
            average.update(module)

    def on_validation_epoch_start(self) -> None:
        if self.side is not None:
            self.side.figures()  # those of the training
        self._own = [average.exchange(m, average.values) for m, average, *_ in self._averages()]
        if self.norm_batches is not None:
            self._measure_norms(self.norm_batches())

    def validation_step(self, batch: JetBatch, batch_idx: int) -> None:
        if isinstance(self.side, MaskedParticles):  # the same constituents are hidden in every epoch
            generator = torch.Generator().manual_seed(batch_idx)
            self.side.loss_of(self.model, batch, generator)
            return
        parameters = (
            self.model(batch).float() if self.settings.precision == "bf16-mixed" else self.model(batch)
        )
        weights = self._weights(batch)
        assert batch.labels is not None
        ones = (
            weights if weights is not None else torch.ones(len(batch), device=batch.device, dtype=batch.dtype)
        )
        if self.side is not None:
            self.side.measure(batch)
        beside = () if self.apart is None else (batch.select_jets([self.apart.column])[:, 0],)
        self._outputs.append((parameters, batch.labels, ones, *beside))

    def on_validation_epoch_end(self) -> None:
        if self._sharded:
            put_back(self.model)
        for (module, average, *_), own in zip(self._averages(), self._own, strict=True):
            average.values = average.exchange(module, own)  # its norms may have been measured
        parts, self._outputs = self._outputs, []
        aside = {} if self.side is None else self.side.figures(self._summed)
        if not parts:
            self.epoch_metrics = {f"val_{key}": v for figures in aside.values() for key, v in figures.items()}
            self.log_dict(dict(self.epoch_metrics))
            return
        gathered = [self._gather(torch.cat(column)) for column in zip(*parts, strict=True)]
        parameters, labels, weights = gathered[:3]
        self.epoch_metrics = {
            f"val_{name}": value
            for name, value in metrics.validation(self.objective, parameters, labels, weights).items()
        }
        for task, figures in aside.items():
            self.epoch_metrics |= {f"val_{task}_{key}": value for key, value in figures.items()}
        if self.apart is not None:  # the best checkpoint is the one with the smallest sum, as in training
            score = self.apart.score(self.objective, parameters.float())
            correlation = float(self.apart.of_jets(score, gathered[3], labels, weights))
            self.epoch_metrics["val_likelihood"] = self.epoch_metrics["val_loss"]
            self.epoch_metrics["val_distance_correlation"] = correlation
            self.epoch_metrics["val_loss"] += self.apart.strength * correlation
        # for callbacks of the user that monitor one of them, as Lightning's EarlyStopping
        self.log_dict(dict(self.epoch_metrics))

    def on_epoch_measured(self) -> None:
        """Adds the epoch's training loss to `epoch_metrics`; the run's callback asks for it after validation.

        Raises:
            DataError: a loss that is not a number.
        """
        total = (
            self.trainer.strategy.reduce(self.loss_sum, reduce_op="sum")
            if self.trainer.world_size > 1
            else self.loss_sum
        )
        self.epoch_metrics["train_loss"] = float(total[0] / total[1].clamp_min(1e-300))
        self.jets_seen = round(float(total[1]))
        self.loss_sum.zero_()
        for name in ("train_loss", "val_loss"):
            if not math.isfinite(self.epoch_metrics.get(name, 0.0)):
                raise DataError(
                    f"{name} is {self.epoch_metrics[name]} after epoch {self.current_epoch + 1}",
                    mend="lower training.learning_rate, set training.gradient_clip=1, or look at the "
                    "jets with `hepml inspect`",
                )

    def running_loss(self) -> float:
        """Mean training loss of the epoch so far (waits for the device)."""
        total = self.loss_sum
        return float(total[0] / total[1].clamp_min(1e-300))

    # ------------------------------------------------------------------ optimizer

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.model, self.settings, self.fresh, self.side)
        rate = schedules.learning_rate(
            self.settings.schedule,
            self.total_steps,
            warmup_steps=self.settings.warmup * self.steps_per_epoch,
            final=self.settings.final_learning_rate,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["hepml"] = self.identity
        mine = {"random": random_state(), "loss_sum": self.loss_sum.detach().clone().cpu()}
        states = [mine]
        if self.trainer.world_size > 1:  # every rank takes part in a checkpoint, the first one writes it
            states = [mine] * self.trainer.world_size
            torch.distributed.all_gather_object(states, mine)
        checkpoint["hepml_random"], checkpoint["hepml_loss_sum"] = mine["random"], mine["loss_sum"]
        checkpoint["hepml_ranks"] = states
        for module, average, prefix, key in self._averages():  # what is saved as the model is the average
            sharded = self._sharded and module is self.model
            checkpoint[key] = average.put_into(checkpoint["state_dict"], prefix, sharded)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for module, average, prefix, key in self._averages():
            own = checkpoint.get(key)
            if own is not None:
                checkpoint["state_dict"] = average.take_from(checkpoint["state_dict"], prefix, own, module)
        rank, world = self.trainer.global_rank, self.trainer.world_size
        one = {"random": checkpoint.get("hepml_random"), "loss_sum": checkpoint.get("hepml_loss_sum")}
        states = checkpoint.get("hepml_ranks") or [one]
        self.ranks_before = len(states)
        if len(states) == world:
            self._random, loss_sum = states[rank]["random"], states[rank]["loss_sum"]
        else:  # another number of ranks: new random numbers on each, and the sums go on on the first
            sums = [state["loss_sum"] for state in states if state["loss_sum"] is not None]
            loss_sum = torch.stack(sums).sum(0) if sums and rank == 0 else None
        self.loss_sum.zero_()
        if loss_sum is not None:
            self.loss_sum.copy_(loss_sum)

    def on_train_start(self) -> None:
        self.loss_sum = self.loss_sum.to(self.device)
        if self._random is not None:
            restore_random_state(self._random)
            self._random = None

    # ------------------------------------------------------------------ helpers

    def _averages(self) -> list[tuple[nn.Module, WeightAverage, str, str]]:
        """The model and its heads with the average of their weights, the prefix of these in a state dict, and
        where a checkpoint has their own weights."""
        both: list[tuple[nn.Module | None, WeightAverage | None, str, str]] = [
            (self.model, self.average, "model.", "hepml_own_weights"),
            (self.side, self.average_of_heads, "side.", "hepml_own_heads"),
        ]
        return [(m, a, prefix, key) for m, a, prefix, key in both if m is not None and a is not None]

    def _measure_norms(self, batches: Iterable[JetBatch]) -> None:
        """Measures the batch norms by these batches, with the weights that are about to be validated."""

        def forward(batch: JetBatch) -> object:
            if isinstance(self.side, MaskedParticles):
                batch, *_ = mask(batch, self.side.share)
            return self.model(batch)

        self.train()
        with self.trainer.precision_plugin.forward_context():
            moved = (self.transfer_batch_to_device(batch, self.device, 0) for batch in batches)
            measure_norms(self.model, moved, forward)
        self.eval()

    def _weights(self, batch: JetBatch) -> Tensor | None:
        if self.class_scale is None or batch.labels is None:
            return batch.weights
        scale = self.class_scale.to(batch.dtype)[batch.labels.clamp_min(0)]
        scale = torch.where(batch.labels < 0, 1.0, scale)  # jets without a label: as they are
        return scale if batch.weights is None else batch.weights * scale

    def _likelihood(self, parameters: Tensor, batch: JetBatch) -> tuple[Tensor, Tensor | None]:
        if batch.labels is None:
            raise DataError(
                "the training jets have no labels", mend="use a file with label branches, or give data.target"
            )
        if self.taught is not None:
            weights = self._weights(batch) if self.taught.weighted else None
            return self.taught.loss(self.objective, parameters, batch), weights
        return self.objective.negative_log_likelihood(parameters, batch.labels), self._weights(batch)

    def _summed(self, values: Tensor) -> Tensor:
        """A tensor added up over ranks."""
        if self.trainer.world_size == 1:
            return values
        return torch.as_tensor(self.trainer.strategy.reduce(values, reduce_op="sum"))

    def _share(self, jets: int) -> Tensor:
        """What this rank's mean loss counts for: DDP averages over ranks, the loss of a step is a mean over
        its jets, and ranks may differ by a jet."""
        mine = torch.tensor(float(jets), device=self.device)
        everybody = mine.clone()
        torch.distributed.all_reduce(everybody)
        return mine * self.trainer.world_size / everybody

    def _part_of_step(self, batch: int) -> float:
        """What the mean loss of a batch counts for in a step of several. Lightning divides each by their full
        number, which is one too many where the last step of an epoch has fewer."""
        many = self.settings.accumulate
        if many == 1 or self.step_jets is None:
            return 1.0
        sizes, first = self.step_jets(), batch - batch % many
        return float(many * sizes[batch] / sizes[first : first + many].sum())

    def _gather(self, values: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return values
        # ranks may differ by a few jets: gather at the longest, then cut each to its own
        lengths = torch.as_tensor(self.all_gather(torch.tensor(len(values), device=values.device))).tolist()
        padded = values.new_zeros((max(lengths), *values.shape[1:]))
        padded[: len(values)] = values
        return torch.cat([part[:n] for part, n in zip(self.all_gather(padded), lengths, strict=True)])


def freeze(model: nn.Module, prefixes: Iterable[str]) -> int:
    """Stops the training of parameters whose names begin with one of the prefixes; returns how many tensors
    that were."""
    frozen = 0
    prefixes = tuple(prefixes)
    for name, parameter in model.named_parameters():
        if prefixes and name.startswith(prefixes):
            parameter.requires_grad_(False)
            frozen += 1
    return frozen
