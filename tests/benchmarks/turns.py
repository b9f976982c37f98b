"""Steps of two networks taken in turns in one process, in processor time: what the benchmarks of the
equivariant taggers share."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Steps = Mapping[str, Callable[[], Any]]


def training_step(model: nn.Module, forward: Callable[[], Tensor], target: Tensor) -> Callable[[], None]:
    """Forward, cross-entropy, backward and one step of Adam."""
    optimizer = torch.optim.Adam((q for q in model.parameters() if q.requires_grad), lr=1e-4)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(forward(), target).backward()
        optimizer.step()

    return run


def steps_of(
    models: Mapping[str, nn.Module], batch: Any, target: Tensor
) -> dict[str, dict[str, Callable[[], Any]]]:
    """Steps in training and in evaluation of each model, by name, on the same batch."""

    def evaluation(model: nn.Module) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad():
                model.eval()(batch)

        return run

    def training(model: nn.Module) -> Callable[[], None]:
        return training_step(model, lambda: model.train()(batch), target)

    return {
        "training": {name: training(model) for name, model in models.items()},
        "evaluation": {name: evaluation(model) for name, model in models.items()},
    }


def timed(steps: Steps, number: int, repeats: int) -> dict[str, Any]:
    """Jets a second of each of two steps on so many jets, and the ratio of the second's time to the first's,
    by turn and as a median."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):  # the first is not counted
        for name, step in steps.items():
            gc.collect()
            start = time.process_time()
            step()
            if repeat:
                seconds[name].append(time.process_time() - start)
    ratios = sorted(b / a for a, b in zip(*seconds.values(), strict=True))
    rate = {name: number / statistics.median(times) for name, times in seconds.items()}
    return {**rate, "ratio": statistics.median(ratios), "ratios": ratios}


def rates(models: Mapping[str, nn.Module], batch: Any, repeats: int) -> dict[str, Any]:
    """Jets a second of processor time of each model on one thread, and their ratio, in training and in
    evaluation; labels alternate."""
    torch.set_num_threads(1)
    number = len(batch)
    steps = steps_of(models, batch, torch.arange(number) % 2)
    return {
        "jets": number,
        "constituents": len(batch.four_momenta) / number,
        **{kind: timed(both, number, repeats) for kind, both in steps.items()},
    }
