"""Scores of jets, in the order in which they stand in their files, one row a jet.

Jets stream through in chunks; inside a chunk they are scored in batches of similar length and put back in their order. The number of rows is
compared with the number of jets in the files, and a difference is an error, never a shorter answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepml import objectives
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.errors import DataError, ModelError
from hepml.objectives import Objective

CHUNK = 20_000  # jets read at a time


def predict(
    model: nn.Module, files_or_jets: Any, batch_size: int = 512, *, layout: Any = None, device: str | None = None
) -> np.ndarray:
    """Class probabilities (or mean and sigma of a regression), in file order.

    Args:
        model: from `hepml.load_model`, `hepml.pretrained.load` or `hepml.models.create`.
        files_or_jets: paths of ROOT or npz files (a path, a glob, a folder, a list of those), awkward jets from `hepml.read_jets`, or a `JetBatch`.
        batch_size: jets a step.
        layout: of the files; what the model was trained with, or recognised, where left out.
        device: where to compute; where the model is, by default.

    Returns:
        [N, C] float array: probabilities of the classes; [N, 2 T] (mean, sigma) in turn for a regression. A jet that cannot be scored
        (NaN momenta) has a row of NaN.

    Raises:
        FileError, LayoutError, DataError: see `hepml.data`.
    """
    rows = list(predict_chunks(model, files_or_jets, batch_size, layout=layout, device=device))
    return np.concatenate([r for _, r in rows]) if rows else np.zeros((0, head_of(model).outputs))


def predict_chunks(
    model: nn.Module, files_or_jets: Any, batch_size: int = 512, *, layout: Any = None, device: str | None = None
) -> Iterator[tuple[Any, np.ndarray]]:
    """The same chunk by chunk, in bounded memory: (jets of the chunk, their rows)."""
    inputs = getattr(model, "inputs", None)
    if not isinstance(inputs, Inputs):
        raise ModelError(f"a {type(model).__name__} does not say what it needs of the data", mend="give it an attribute `inputs`")
    where = torch.device(device) if device else next(model.parameters()).device
    training = model.training
    model.to(where).eval()
    try:
        for jets, batch in _chunks(files_or_jets, inputs, layout if layout is not None else getattr(model, "hepml_layout", None)):
            rows = score(model, batch, batch_size, where)
            if len(rows) != len(batch):
                raise DataError(f"{len(rows)} rows for {len(batch)} jets")
            yield jets, rows
    finally:
        model.train(training)


def score(model: nn.Module, batch: JetBatch, batch_size: int = 512, device: torch.device | None = None) -> np.ndarray:
    """Activated outputs of a packed batch of any size, [B, C], in its order; scored in batches of similar length."""
    head = head_of(model)
    device = device or next(model.parameters()).device
    order = torch.argsort(batch.counts, stable=True)
    parts = []
    for begin in range(0, len(batch), batch_size):
        with torch.inference_mode():
            parts.append(head.activation(_outputs(model, batch.take(order[begin : begin + batch_size]), device)).cpu())
    if not parts:
        return np.zeros((0, head.outputs))
    rows = torch.cat(parts)
    back = torch.empty_like(rows)
    back[order] = rows
    return back.numpy()


def score_dataset(
    model: nn.Module,
    dataset: Any,
    batches: Iterable[JetBatch],
    *,
    device: torch.device,
    bf16: bool = False,
    tell: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Activated outputs of a data set in its order, [N, C], from the batches of a loader that gives each jet once.

    Raises:
        DataError: a jet without a row.
    """
    head = head_of(model)
    rows: np.ndarray | None = None
    seen = np.zeros(len(dataset), dtype=bool)
    place = _positions(dataset)
    done = 0
    with torch.inference_mode():
        for batch in batches:
            autocast = torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()
            with autocast:
                outputs = _outputs(model, batch, device)
            values = head.activation(outputs.float() if bf16 else outputs).double().cpu().numpy()
            assert batch.index is not None
            at = place(batch.index.cpu().numpy())
            if rows is None:
                rows = np.full((len(dataset), values.shape[1]), np.nan)
            rows[at], seen[at] = values, True
            done += len(batch)
            tell(done)
    if not seen.all():
        raise DataError(f"{int((~seen).sum())} of {len(dataset)} jets were not scored")
    return rows if rows is not None else np.zeros((0, head.outputs))


def head_of(model: nn.Module) -> Objective:
    """The objective that a model was trained for; categorical over its outputs where it does not say."""
    named = getattr(model, "hepml_objective", None)
    if isinstance(named, Objective):
        return named
    outputs = int(getattr(model, "hepml_hyperparameters", {}).get("outputs", 2))
    name = named if isinstance(named, str) else "categorical"
    if name == "bernoulli" or (named is None and outputs == 1):
        return objectives.Bernoulli()
    return objectives.objective(name, classes=outputs) if name == "categorical" else objectives.objective(name)


def _outputs(model: nn.Module, batch: JetBatch, device: torch.device) -> Tensor:
    dtype = next(model.parameters()).dtype
    moved = batch.to(device, non_blocking=True)
    return model(moved if moved.dtype == dtype else moved.to(dtype))


def _positions(dataset: Any) -> Callable[[np.ndarray], np.ndarray]:
    """From the index that batches carry to the position in the data set (a part of one keeps the whole's index)."""
    indices = getattr(dataset, "indices", None)
    if indices is None:
        return lambda index: index
    return lambda index: np.searchsorted(indices, index)


def _chunks(source: Any, inputs: Inputs, layout: Any) -> Iterator[tuple[Any, JetBatch]]:
    if isinstance(source, JetBatch):
        yield source, source
        return
    from hepml.data.packing import pack

    def packed(jets: Any) -> JetBatch:
        return pack(
            jets, features=inputs.features, jet_features=inputs.jet_features, max_constituents=inputs.max_constituents
        )

    if isinstance(source, str | Path) or (isinstance(source, Sequence) and all(isinstance(s, str | Path) for s in source)):
        from hepml.data.reader import iterate_jets

        for jets in iterate_jets(source, layout, step_size=CHUNK):
            yield jets, packed(jets)
        return
    for begin in range(0, len(source), CHUNK):
        part = source[begin : begin + CHUNK]
        yield part, packed(part)
