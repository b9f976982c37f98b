"""The state of all random generators of a training: seeded, kept in checkpoints, and set again from one."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seeds Python, numpy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries that still draw from the global state
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of every random generator, as plain values and tensors that a safe load accepts."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = [torch.cuda.get_rng_state()]  # of this rank's own device: asking others wakes them
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Sets every random generator to a state from `random_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        states = state["cuda"]
        mine = torch.cuda.current_device() if len(states) > 1 else 0  # older checkpoints have all devices
        if mine < len(states):
            torch.cuda.set_rng_state(states[mine].cpu())
