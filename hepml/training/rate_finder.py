"""The learning-rate finder: one short training whose rate rises from step to step (arXiv:1506.01186).

The loss falls fastest at a rate that still learns well, and blows up a decade or so above it. Suggested is
the rate at which the smoothed loss was least, divided by ten. The steps are those of the run itself: its loss
with weights, teacher, side tasks and penalties, its augmentations, accumulation and clipping.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from hepml.data.stream_loader import loader_of
from hepml.errors import DataError
from hepml.training.feeding import Stream, reading_processes
from hepml.training.fitting import loop_options, make_module
from hepml.training.module import TrainingModule
from hepml.training.preparing import prepare
from hepml.training.progress import Progress
from hepml.training.quiet import quiet
from hepml.training.run_config import RunConfig

_BLOWN_UP = 3.0  # times the least smoothed loss, where the search ends
_SMOOTH = 0.8  # share of the running mean of losses that a step keeps
_FIRST = 5  # steps before which the least loss is not looked for


def find_rate(
    config: RunConfig,
    *,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Trains for some steps with rates from `low` to `high`, in one process, and keeps nothing of it.

    Args:
        config: the run's; of its `learning_rate` only `pretrained_rate`, a fraction of it, counts.
        low, high: rates of the first and the last step.
        steps: at most; fewer where the loss blows up.
        progress: told what happens.

    Returns:
        {"suggested", "least", "rates", "losses", "smoothed"}: `least` is the rate of the least smoothed loss.

    Raises:
        HepmlError: as `train`.
    """
    settings = config.training
    ready = prepare(config, progress or Progress())
    training = loader_of(
        ready.jets.train, settings.batch_size, shuffle=True, seed=settings.seed, buckets=settings.buckets,
        workers=reading_processes(config.data.workers),
    )  # fmt: skip
    module = make_module(config, ready.built, ready.objective, ready.jets, ready.taught, training)
    search = _Search(low, high, steps, settings.learning_rate)
    with quiet():
        trainer = L.Trainer(
            **loop_options(settings),
            devices=1,
            max_epochs=-1,
            max_steps=steps,
            callbacks=[search],
            plugins=[LightningEnvironment()],
        )
        fed = Stream(training, lambda: (trainer.current_epoch, 0))
        trainer.fit(module, train_dataloaders=fed)
    rates, smoothed = search.rates, search.smoothed
    finite = [i for i, value in enumerate(smoothed) if value == value]
    if not finite:
        raise DataError(
            "the loss is not a number from the start", mend="look at the jets with `hepml inspect`"
        )
    least = rates[min(finite[_FIRST:] or finite, key=lambda i: smoothed[i])]
    curve = {"rates": rates, "losses": search.losses, "smoothed": smoothed}
    return {"suggested": least / 10, "least": least, **curve}


class _Search(L.Callback):
    """Gives each step its rate, and keeps its loss.

    Args:
        low, high, steps: of `find_rate`.
        usual: the run's learning rate, of which some groups have a fraction.
    """

    def __init__(self, low: float, high: float, steps: int, usual: float) -> None:
        self.low, self.high, self.steps, self.usual = low, high, steps, usual
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self._mean = 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        rate = self.low * (self.high / self.low) ** (trainer.global_step / max(1, self.steps - 1))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate * group["initial_lr"] / self.usual

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        made = len(self.rates)
        if trainer.global_step == made:
            return  # gradients wait for further batches
        self.rates.append(self.low * (self.high / self.low) ** (made / max(1, self.steps - 1)))
        self.losses.append(pl_module.running_loss())
        pl_module.loss_sum.zero_()
        self._mean = _SMOOTH * self._mean + (1 - _SMOOTH) * self.losses[-1]
        self.smoothed.append(self._mean / (1 - _SMOOTH ** len(self.rates)))
        blown_up = not self.smoothed[-1] < _BLOWN_UP * min(self.smoothed)
        if len(self.rates) > _FIRST and blown_up:
            trainer.should_stop = True


def draw(curve: dict[str, Any], path: Path) -> Path:
    """The loss against the rate, with the suggestion."""
    from hepml.evaluation.plots.style import COLOURS, HouseFigure, save, style

    with style():
        figure = HouseFigure(8, 6)
        axes = figure.subplots()
        axes.plot(curve["rates"], curve["losses"], color=COLOURS[4], linewidth=1, label="loss of a step")
        axes.plot(curve["rates"], curve["smoothed"], color=COLOURS[0], label="smoothed")
        axes.axvline(curve["suggested"], color=COLOURS[1], linestyle="--", label=f"{curve['suggested']:.1e}")
        axes.set_xscale("log")
        axes.set_xlabel("Learning rate")
        axes.set_ylabel("Training loss")
        axes.legend()
    return save(figure, path)
