"""The learning-rate finder: one short training whose rate rises from step to step (arXiv:1506.01186).

The loss falls fastest at a rate that still learns well, and blows up a decade or so above it. Suggested is
the rate at which the smoothed loss was least, divided by ten.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hepml.data.stream_loader import loader_of
from hepml.errors import DataError
from hepml.objectives import weighted_mean
from hepml.training import distillation
from hepml.training.building import build_model, build_objective, given_model, model_inputs
from hepml.training.jets import open_jets
from hepml.training.module import seed_everything
from hepml.training.optimizers import build_optimizer
from hepml.training.progress import Progress
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
    """Trains for `steps` batches with rates from `low` to `high`, on the CPU, and keeps nothing of it.

    Args:
        config: the run's; its `learning_rate` is not used.
        low, high: rates of the first and the last step.
        steps: at most; fewer where the loss blows up.
        progress: told what happens.

    Returns:
        {"suggested", "least", "rates", "losses", "smoothed"}: `least` is the rate of the least smoothed loss.

    Raises:
        HepmlError: as `train`.
    """
    progress = progress or Progress()
    seed_everything(config.training.seed)
    given = given_model(config)
    inputs = model_inputs(config, given)
    jets = open_jets(config.data, inputs, progress.message)
    objective = build_objective(config, jets)
    taught = distillation.prepare(config, jets, inputs, objective, progress)
    model = build_model(config, given, objective, progress, jets).model.train()
    optimizer = build_optimizer(model, config.training)
    loader = loader_of(jets.train, config.training.batch_size, shuffle=True, seed=config.training.seed)
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    while len(rates) < steps:
        for batch in loader:
            rate = low * (high / low) ** (len(rates) / max(1, steps - 1))
            for group in optimizer.param_groups:
                group["lr"] = rate
            assert batch.labels is not None
            parameters = model(batch)
            if taught is not None:
                values = taught.loss(objective, parameters, batch)
            else:
                values = objective.negative_log_likelihood(parameters, batch.labels)
            loss = weighted_mean(values, None if taught is not None else batch.weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.append(rate)
            losses.append(float(loss.detach()))
            mean = _SMOOTH * mean + (1 - _SMOOTH) * losses[-1]
            smoothed.append(mean / (1 - _SMOOTH ** len(rates)))
            blown_up = not smoothed[-1] < _BLOWN_UP * min(smoothed[: len(smoothed)])
            if len(rates) >= steps or (len(rates) > _FIRST and blown_up):
                break
        else:
            loader.set_epoch(loader.epoch + 1)
            continue
        break
    finite = [i for i, value in enumerate(smoothed) if value == value]
    if len(finite) <= _FIRST:
        raise DataError(
            "the loss is not a number from the start", mend="look at the jets with `hepml inspect`"
        )
    least = rates[min(finite[_FIRST:], key=lambda i: smoothed[i])]
    return {"suggested": least / 10, "least": least, "rates": rates, "losses": losses, "smoothed": smoothed}


def draw(curve: dict[str, Any], path: Path) -> Path:
    """The loss against the rate, with the suggestion."""
    from hepml.evaluation.plots.style import COLOURS, HouseFigure, save, style

    with style():
        figure = HouseFigure(8, 6)
        axes = figure.subplots()
        axes.plot(curve["rates"], curve["losses"], color=COLOURS[4], linewidth=1, label="loss of a batch")
        axes.plot(curve["rates"], curve["smoothed"], color=COLOURS[0], label="smoothed")
        axes.axvline(curve["suggested"], color=COLOURS[1], linestyle="--", label=f"{curve['suggested']:.1e}")
        axes.set_xscale("log")
        axes.set_xlabel("Learning rate")
        axes.set_ylabel("Training loss")
        axes.legend()
    return save(figure, path)
