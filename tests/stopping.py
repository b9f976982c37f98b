"""A run that is asked to end in the middle of an epoch, and what it must be once it is resumed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hepml.training.callbacks import Killed
from hepml.training.checkpoints import read_checkpoint
from hepml.training.progress import Progress
from hepml.training.run import train
from hepml.training.run_description import RunConfig


class StopAt(Progress):
    """Sends this process a signal behind a step.

    Args:
        epoch, step: which; epochs count from 0, steps from 1.
        signum: the signal.
    """

    def __init__(self, epoch: int, step: int, signum: signal.Signals = signal.SIGTERM) -> None:
        super().__init__()
        self.at, self.signum = (epoch, step), signum

    def step(self, epoch: int, step: int, loss: float | None, jets: int) -> None:
        if (epoch, step) == self.at:
            os.kill(os.getpid(), self.signum)


def resumed_as_uninterrupted(
    config: RunConfig, folder: Path, at: tuple[int, int] = (1, 3)
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trains a run in `folder/whole`, and the same again in `folder/broken`, which is stopped and resumed;
    every tensor of their last checkpoints must be equal.

    Args:
        config: the run.
        folder: for both.
        at: the epoch and the step after which the second one is stopped; see `StopAt`.

    Returns:
        the summaries of both.
    """
    whole, broken = folder / "whole", folder / "broken"
    first = train(config, whole)
    with pytest.raises(Killed):
        train(config, broken, progress=StopAt(*at))
    assert json.loads((broken / "run.json").read_text())["status"] == "KILLED"
    assert not (broken / "summary.json").exists()
    second = train(config, broken, resume=True)
    one, two = (dict(_tensors(read_checkpoint(run / "checkpoints/last.ckpt"), "")) for run in (whole, broken))
    assert one
    assert one.keys() == two.keys()
    assert not [name for name in one if not torch.equal(one[name], two[name])]
    return first, second


def _tensors(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a checkpoint, by where they are in it."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(below, f"{name}/{key}")
