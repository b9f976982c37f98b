"""Measurements on trained runs, in a process of their own: what a forward pass costs, and how the score bears
a boost of the jets.

`python -m hepml.training.benchmark.measure RUN… --cost` leaves `cost.json` in each run folder, `--betas
0,0.5,0.9` leaves `boost.json`. A run that cannot be measured gets a file that says why, and the next one is
taken.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hepml import kinematics
from hepml.data import features as feature_table
from hepml.data import jet_columns
from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.data.loader import JetLoader
from hepml.data.parts import Part
from hepml.errors import DataError
from hepml.inference.prediction import head_of, inputs_of, score_dataset
from hepml.models.identity import identity_of
from hepml.training import metrics
from hepml.training.benchmark.cost import count_flops, inference_speed, matmul_rate, training_speed
from hepml.training.checkpoints import load_model
from hepml.training.jets import FOLD, open_jets
from hepml.training.run_config import RunConfig, load_run_config
from hepml.training.run_directory import BOOST, CONFIG, COST, RunDirectory

BETAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
COUNTED = 64  # jets on which operations are counted


def boosted(batch: JetBatch, beta: float) -> JetBatch:
    """The jets seen from a frame that moves along x: every four-momentum boosted, constituents again in the
    order of their pT.

    Stored features that follow from four-momenta are left out, so that a model recomputes them; identities
    and charges stay.

    Args:
        batch: on any device.
        beta: velocity in [0, 1).

    Raises:
        DataError: the jets carry columns that a boost changes and that do not follow from the constituents
            (soft-drop mass, d0).
    """
    kept = [
        n
        for n in batch.feature_names
        if not set(feature_table.lookup(n).needs) & set(feature_table.MOMENTUM_COLUMNS)
    ]
    fixed = [n for n in kept if set(feature_table.lookup(n).needs) & set(feature_table.TRACK_COLUMNS)]
    fixed += jet_columns.needed_from_file(batch.jet_feature_names)
    if fixed:
        raise DataError(
            f"{', '.join(fixed)} cannot be boosted", mend="such a tagger has no place in a boost test"
        )
    if batch.features is not None and not batch.feature_names:
        raise DataError("the features have no names, so that they cannot be recomputed", mend="name them")
    axis = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64, device=batch.device)
    matrix = kinematics.boost(axis, 1 / np.sqrt((1 - beta) * (1 + beta)))

    def moved(p: torch.Tensor) -> torch.Tensor:
        return kinematics.transform(p.double(), matrix).to(p.dtype)

    at = [batch.feature_names.index(n) for n in kept]
    out = replace(
        batch,
        four_momenta=moved(batch.four_momenta),
        features=None if not at or batch.features is None else batch.features[:, at],
        feature_names=tuple(kept),
        jet_features=None,
        jet_feature_names=(),
        jet_momenta=None if batch.jet_momenta is None else moved(batch.jet_momenta),
        extras={},
        raw=feature_table.not_from_momenta(batch.raw),
    )
    if beta == 0:
        return out
    order = torch.argsort(kinematics.pt(out.four_momenta), descending=True, stable=True)
    return out.permute(order[torch.argsort(out.jet_of[order], stable=True)])


def cost(model: nn.Module, dataset: Any, config: RunConfig, *, seconds: float = 3.0) -> dict[str, Any]:
    """Operations a jet and jets a second of a trained model on real jets (see
    `hepml.training.benchmark.cost`), and what the same device makes of matrix products alone. Batches are
    those of a run: of similar lengths in inference, as the config says in training.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    gpu = device.type == "cuda"
    chosen = np.linspace(0, len(dataset) - 1, min(COUNTED, len(dataset))).astype(np.int64)
    counting = dataset.batch(chosen)
    bf16 = config.training.precision == "bf16-mixed"
    size = config.training.batch_size if gpu else min(config.training.batch_size, 128)
    rng = np.random.default_rng(0)
    sample = rng.permutation(len(dataset))[: (8 if gpu else 4) * size]
    pieces = max(1, len(sample) // size)
    by_length = sample[np.argsort(np.asarray(dataset.counts)[sample], kind="stable")]
    sorted_batches = [dataset.batch(part) for part in np.array_split(by_length, pieces)]
    trained = sorted_batches
    if not config.training.buckets:
        trained = [dataset.batch(np.sort(part)) for part in np.array_split(sample, pieces)]
    first = next(model.parameters(), None)
    dtype = torch.bfloat16 if bf16 else torch.float32 if first is None else first.dtype
    flops = count_flops(model, counting)
    return {
        "flops": flops,
        # what the rates below are rates of: views come with the batches
        "step_flops": count_flops(model, counting, ready=True) if counting.extras else flops,
        "constituents": float(counting.counts.double().mean()),
        "inference_jets_per_second": inference_speed(model, sorted_batches, seconds=seconds, bf16=bf16),
        "training_jets_per_second": training_speed(model, trained, seconds=seconds, bf16=bf16),
        "matmul_flop_per_second": matmul_rate(device, dtype, seconds=min(seconds, 0.5)),
        "matmul_dtype": str(dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(device) if gpu else f"one CPU thread ({platform.machine()})",
        "batch": size,
        "precision": str(config.training.precision),
        "torch": torch.__version__,
    }


def boost_scan(
    model: nn.Module, dataset: Any, config: RunConfig, betas: Sequence[float], most: int | None
) -> dict[str, Any]:
    """Accuracy and AUC on the test jets boosted along x with each velocity."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if most is not None and len(dataset) > most:
        dataset = Part(dataset, np.sort(np.random.default_rng(0).permutation(len(dataset))[:most]))
    size = config.training.eval_batch_size or 2 * config.training.batch_size
    labels = np.asarray(dataset.labels)
    reports = []
    for beta in betas:
        loader = JetLoader(dataset, size, buckets=True)
        moved = (boosted(batch, beta) for batch in loader)
        rows = score_dataset(
            model, dataset, moved, device=device, bf16=config.training.precision == "bf16-mixed"
        )
        reports.append(metrics.report(head_of(model), labels, rows, classes=identity_of(model).classes))
    return {
        "betas": list(betas),
        "accuracy": [r["accuracy"] for r in reports],
        "accuracy_error": [r["accuracy_error"] for r in reports],
        "auc": [r["auc"] for r in reports],
        "jets": len(dataset),
    }


def first_test(config: RunConfig, model: nn.Module) -> Any:
    """The first test set of a run, as the run itself opened it; where it has none but the fold that it left
    out, that."""
    tests = config.data.tests()
    name = next(iter(tests), FOLD)
    source, inputs = tests.get(name), inputs_of(model)
    if source is None or isinstance(source, float):
        return open_jets(config.data, inputs).tests[name]
    data = config.data
    return JetDataset.open(
        source,
        inputs,
        layout=data.layout,
        classes=data.classes if data.classes is not None else (identity_of(model).classes or None),
        weights=data.weights,
        selection=data.selection,
        max_jets=data.max_jets,
        cache=data.cache,
        missing_columns=data.missing_columns,
    )


def measure_run(
    folder: Path,
    *,
    costs: bool,
    betas: Sequence[float],
    boost_jets: int | None,
    device: str,
    seconds: float = 3.0,
) -> None:
    """Takes the measurements of one run and writes them beside it; what fails is written as `problem`."""
    place = RunDirectory(folder)
    wanted = ([COST] if costs else []) + ([BOOST] if betas else [])
    try:
        config = load_run_config(folder / CONFIG)
        model = load_model(folder, device=device)
        dataset = first_test(config, model)
    except Exception as problem:  # whatever it is, the other runs are measured
        for name in wanted:
            place.write_json(name, {"problem": f"{type(problem).__name__}: {problem}"})
        return
    for name in wanted:
        try:
            figures = (
                cost(model, dataset, config, seconds=seconds)
                if name == COST
                else boost_scan(model, dataset, config, betas, boost_jets)
            )
        except Exception as problem:
            figures = {"problem": f"{type(problem).__name__}: {problem}"}
        place.write_json(name, figures)


def main(words: Sequence[str] | None = None) -> None:
    """Measures the runs that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--betas", default="")
    parser.add_argument("--boost-jets", type=int)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each speed is measured")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args(words)
    betas = [float(word) for word in asked.betas.split(",") if word]
    for run in asked.runs:
        print(run, flush=True)
        measure_run(
            run,
            costs=asked.cost,
            betas=betas,
            boost_jets=asked.boost_jets,
            device=asked.device,
            seconds=asked.seconds,
        )


if __name__ == "__main__":
    main()
