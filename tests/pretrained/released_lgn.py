"""A file of weights as the released Lorentz Group Network saves it: its names and shapes, random numbers, and
jets for it. Shared by the test and by what made its golden numbers."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CHANNELS = (2, 4, 4, 2)
# Products of each irrep (k, n) at a level, after scalars and vectors, and after all five.
PRODUCTS = (
    {"(0, 0)": 5, "(0, 2)": 2, "(1, 1)": 5, "(2, 0)": 2, "(2, 2)": 2},
    {"(0, 0)": 8, "(0, 2)": 10, "(1, 1)": 14, "(2, 0)": 10, "(2, 2)": 13},
    {"(0, 0)": 8, "(0, 2)": 10, "(1, 1)": 14, "(2, 0)": 10, "(2, 2)": 13},
)
COUNTS = (1, 3, 17, 40)


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released configuration: 6,014 numbers."""
    out: dict[str, tuple[int, ...]] = {}
    for i, width in enumerate(CHANNELS[:-1]):
        start = f"rad_funcs.rad_funcs.{i}."
        out |= {start + name: (1, 1, 1, 20) for name in "abc"}
        for j in range(2):
            out |= {f"{start}linear.{j}.weight": (2 * width, 20), f"{start}linear.{j}.bias": (2 * width,)}
    out |= {"input_func_atom.weights.(0, 0)": (2, 2, 2), "input_func_atom.weights.(1, 1)": (2, 2, 1)}
    for i, products in enumerate(PRODUCTS):
        for key, count in products.items():
            name = f"lgn_cg.atom_levels.{i}.cat_mix.mix_reps.weights.{key}"
            out[name] = (2, CHANNELS[i + 1], CHANNELS[i] * count)
    for i, width in enumerate(CHANNELS[1:]):
        sizes = (2 * width, 4 * width, 4 * width, 4 * width, 2 * width)
        for j in range(4):
            start = f"lgn_cg.mlp_levels.{i}.linear.{j}."
            out |= {start + "weight": (sizes[j + 1], sizes[j]), start + "bias": (sizes[j + 1],)}
    return out | {"output_layer_atom.lin.weight": (2, 108), "output_layer_atom.lin.bias": (2,)}


def weights() -> OrderedDict[str, Tensor]:
    """Random numbers, float64, the same everywhere."""
    rng = np.random.default_rng(11)
    out: OrderedDict[str, Tensor] = OrderedDict()
    for name, shape in sorted(shapes().items()):
        drawn = rng.normal(size=shape)
        if "weights" in name:
            drawn = drawn / max(shape) / 3 ** int(name[-2])
        elif name.endswith("weight"):
            drawn = drawn / shape[-1] ** 0.5
        else:
            drawn = 0.3 * drawn
        out[name] = torch.tensor(drawn)
    return out


def write(path: Path, state: OrderedDict[str, Tensor], **arguments: object) -> Path:
    """The file that the authors' trainer writes: training arguments, weights, and the state of training."""
    known: dict[str, object] = {
        "nobj": 126,
        "scale": 0.005,
        "add_beams": True,
        "beam_mass": 1,
        "pmu_in": True,
    }
    content = {
        "args": argparse.Namespace(**(known | {"activation": "leakyrelu"} | arguments)),
        "model_state": state,
        "optimizer_state": {"state": {}, "param_groups": []},
        "scheduler_state": {"last_epoch": 3},
        "epoch": 53,
        "minibatch": 0,
        "best_loss": torch.tensor(0.17, dtype=torch.float64),
    }
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def jets() -> list[np.ndarray]:
    """Massive particles, [n, 4] float64 in GeV."""
    rng, out = np.random.default_rng(12), []
    for count in COUNTS:
        p, mass = rng.normal(size=(count, 3)) * [30, 30, 60], rng.uniform(0.5, 20, size=count)
        out.append(np.concatenate((np.sqrt((p**2).sum(1) + mass**2)[:, None], p), axis=1))
    return out
