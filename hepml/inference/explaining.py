"""Explains a trained model on jets of files: saliency, edges, attention and first filters, as figures and one
summary.

What is computed is in `hepml.evaluation.saliency`, how it is drawn in `hepml.evaluation.plots.jets`; here
jets are chosen (as many of each class), the number to explain is named, and everything is written to one
folder.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepml import kinematics, outputs
from hepml.data.batch import JetBatch
from hepml.errors import DataError, FileError, ModelError, did_you_mean
from hepml.evaluation import saliency as explain
from hepml.evaluation.multiclass import bare_name
from hepml.evaluation.plots import jets as plot_jets
from hepml.evaluation.plots.style import save
from hepml.inference import prediction
from hepml.models.identity import identity_of
from hepml.nn.modes import evaluation_mode

KINDS = {"gradient_x_input": "Gradient x input", "integrated": "Integrated gradients"}
_BINS = 25
_STEP = 2_000  # jets read at a time


@dataclass(frozen=True)
class Jets:
    """The jets that are explained.

    Args:
        batch: packed, as for a prediction.
        entries: [B] where they stand in their files.
        names: [B] class of each, `jets` where the file has none.
        classes: those that there are, in the file's order.
        scores: [B, C] what the model says.
        dropped: jets read on the way that cannot be scored, and were left out.
    """

    batch: JetBatch
    entries: np.ndarray
    names: list[str]
    classes: list[str]
    scores: np.ndarray
    dropped: int = 0


def explain_files(
    model: nn.Module,
    files: Any,
    folder: Path | str,
    *,
    jets: int = 100,
    draw: int = 4,
    toward: str | None = None,
    steps: int = 16,
    layout: Any = None,
) -> dict[str, Any]:
    """Writes figures and `summary.json` to a folder; returns the summary.

    Args:
        model: from `hepml.load_model`.
        files: ROOT or npz files.
        folder: where to write; made where it does not exist.
        jets: how many are averaged over, as many of each class.
        draw: how many of those are drawn.
        toward: the class whose log-odds are explained; the last where left out. A regression explains its
            mean.
        steps: of the integrated gradients.
        layout: of the files.

    Raises:
        FileError, LayoutError, DataError: files that cannot be used, or a folder that cannot be written.
        ModelError: an unknown class, or a model without gradients.
    """
    folder = Path(folder)
    target, aim = target_of(model, toward)
    chosen = choose(model, files, jets, layout)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise FileError(f"cannot make the folder ({problem.strerror})", where=str(folder)) from None
    saliency = explain.saliency(
        model, chosen.batch, target, features=prediction.inputs_of(model).features, steps=steps
    )
    missed = saliency.incompleteness(chosen.batch)
    summary: dict[str, Any] = {
        "model": identity_of(model).name or type(model).__name__,
        "explains": aim,
        "jets": {name: chosen.names.count(name) for name in chosen.classes},
        "dropped": chosen.dropped,
        "entries": chosen.entries.tolist(),
        "steps": steps,
        "incompleteness": None if math.isnan(missed) else missed,
        "undefined_gradients": saliency.undefined,
        "mean_saliency": mean_by_feature(chosen, saliency),
        "figures": [],
    }
    drawn = _drawn(chosen, draw)
    score = chosen.scores[:, _column(model, aim)]
    discs = [_disc(chosen, i, float(score[i])) for i in drawn]
    radius = _radius(chosen.batch)
    figures = _saliency_figures(chosen, saliency, drawn, discs, aim, radius)
    figures |= _structure_figures(model, chosen, drawn, discs, radius)
    filters = explain.filters(model, prediction.inputs_of(model).features)
    if filters is not None:
        figures["filters"] = plot_jets.plot_filters(filters)
        summary["filters"] = {"layer": filters.layer, "shape": list(filters.kernels.shape)}
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")
        summary["figures"].append(f"{name}.png")
    outputs.write_bytes(folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def target_of(model: nn.Module, toward: str | None = None) -> tuple[Callable[[Tensor], Tensor], str]:
    """The number to explain, from outputs [B, C] to [B], and its name: the log-odds of a class, or the mean
    of a regression.

    Raises:
        ModelError: an unknown class; names the nearest.
    """
    head = prediction.head_of(model)
    if head.task == "regression":
        if toward is not None:
            raise ModelError("a regression has no classes", mend="leave --class out")
        return (lambda outputs: head.activation(outputs)[:, 0]), str(identity_of(model).target or "target")
    count = prediction.width_of(model)
    names = [bare_name(str(n)) for n in identity_of(model).classes or range(count)]
    if toward is None:
        k = count - 1
    elif bare_name(toward) in names:
        k = names.index(bare_name(toward))
    else:
        raise ModelError(f"the model has no class '{toward}'", mend=did_you_mean(bare_name(toward), names))
    if head.name == "bernoulli":
        sign = 1.0 if k == 1 else -1.0
        return (lambda outputs: sign * outputs[:, 0]), names[k]
    others = [j for j in range(count) if j != k]
    return (lambda outputs: outputs[:, k] - outputs[:, others].logsumexp(1)), names[k]


def _column(model: nn.Module, aim: str) -> int:
    """The column of the scores that belongs to what is explained."""
    if prediction.head_of(model).task == "regression":
        return 0
    names = [bare_name(n) for n in identity_of(model).classes]
    return names.index(aim) if aim in names else int(aim)


def choose(model: nn.Module, files: Any, jets: int, layout: Any = None) -> Jets:
    """The first jets of files with at least one constituent, as many of each class as there is room for.

    Raises:
        DataError: there are none.
    """
    from hepml.data import features as feature_table
    from hepml.data.reading.reader import iterate_chunks, scan
    from hepml.data.reading.report import DataReport

    inputs, report = prediction.inputs_of(model), DataReport()
    layout = layout if layout is not None else identity_of(model).layout
    scanned = scan(files, layout).raise_first()
    classes = [bare_name(c) for c in scanned.classes]
    raw = feature_table.file_columns_for(inputs.features)
    known = {bare_name(c) for c in identity_of(model).classes}
    wanted = [k for k, name in enumerate(classes) if name in known] or list(range(len(classes)))
    room = {k: -(-jets // len(wanted)) for k in wanted} if classes else {-1: jets}
    parts, entries, names = [], [], []
    for chunk in iterate_chunks(
        files,
        layout,
        columns=raw,
        jet_columns=list(inputs.jet_features),
        bad="drop",
        step_size=_STEP,
        scanned=scanned,
        report=report,
        finite=list(inputs.jet_features),
        weights=False,
        collections={n: feature_table.file_columns_for(f) for n, f in inputs.collections},
    ):
        labels = chunk.labels if chunk.labels is not None and classes else np.full(len(chunk), -1)
        keep = np.zeros(len(chunk), dtype=bool)
        for k, left in room.items():
            of_class = np.flatnonzero((labels == k) & (chunk.counts > 0))[:left]
            keep[of_class] = True
            room[k] -= len(of_class)
        if keep.any():
            taken = chunk.take(keep)
            parts.append(prediction.pack_chunk(taken, inputs))
            entries.append(taken.entries)
            names += [classes[k] if k >= 0 else "jets" for k in labels[keep]]
        if not any(room.values()):
            break
    if not parts:
        raise DataError(
            "no jet with constituents and a class was found", where=str(files), mend="give other files"
        )
    batch = JetBatch.concatenate(parts)
    parameter = next(model.parameters(), None)
    batch = batch if parameter is None else batch.to(parameter.dtype)
    # not inference mode: what a model keeps for later must allow gradients
    with torch.no_grad(), evaluation_mode(model):
        scores = prediction.head_of(model).activation(model(batch)).double().numpy()
    present = [name for name in classes if name in names] or ["jets"]
    for doubt in report.doubts():
        warnings.warn(doubt, stacklevel=2)
    return Jets(batch, np.concatenate(entries), names, present, scores, report.dropped_bad)


def mean_by_feature(jets: Jets, saliency: explain.Saliency) -> dict[str, dict[str, dict[str, float]]]:
    """For each kind of saliency, class and input: the mean over jets of the sum over constituents of its
    absolute value."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for kind in KINDS:
        values = getattr(saliency, kind).abs().double()
        by_jet = values.new_zeros((len(jets.batch), values.shape[1])).index_add_(0, jets.batch.jet_of, values)
        out[kind] = {}
        for name in jets.classes:
            mean = by_jet[torch.tensor([n == name for n in jets.names])].mean(dim=0)
            out[kind][name] = dict(zip(saliency.names, mean.tolist(), strict=True))
    return out


def _saliency_figures(
    jets: Jets,
    saliency: explain.Saliency,
    drawn: list[int],
    discs: list[plot_jets.Disc],
    aim: str,
    radius: float,
) -> dict[str, Any]:
    rows = {}
    for kind, title in KINDS.items():
        values = saliency.of_constituents(kind).double().numpy()
        rows[title] = [values[_rows(jets.batch, i)] for i in drawn]
    figures: dict[str, Any] = {"saliency": plot_jets.plot_saliency(discs, rows, toward=aim, radius=radius)}
    values, place = saliency.of_constituents().double().numpy(), _positions(jets.batch)
    jet_of, edges = jets.batch.jet_of.numpy(), np.linspace(-radius, radius, _BINS + 1)
    maps, counts = {}, {}
    for name in jets.classes:
        own = np.array([n == name for n in jets.names])
        inside = own[jet_of]
        counts[name] = int(own.sum())
        x, y = place[inside].T
        total, _, _ = np.histogram2d(x, y, bins=[edges, edges], weights=values[inside])
        maps[name] = total / counts[name]
    figures["average_saliency"] = plot_jets.plot_average(maps, radius, toward=aim, radius=radius, jets=counts)
    means = mean_by_feature(jets, saliency)["integrated"]
    figures["features"] = plot_jets.plot_features(means, kind="integrated gradients")
    return figures


def _structure_figures(
    model: nn.Module, jets: Jets, drawn: list[int], discs: list[plot_jets.Disc], radius: float
) -> dict[str, Any]:
    """Edges of graph layers and maps of attention, for models that have them; of two jets, each at most four
    layers."""
    figures: dict[str, Any] = {}
    few = list(dict.fromkeys((0, len(drawn) - 1)))
    own = [discs[k] for k in few]
    edges = [explain.edge_maps(model, jets.batch.take(torch.tensor([drawn[k]]))) for k in few]
    if edges[0]:
        fixed = all(torch.equal(m.edges, e[0].edges) and m.weights is None for e in edges for m in e)
        at = [0] if fixed else _spread(len(edges[0]))
        shown = [
            [
                (m.edges.numpy(), None if m.weights is None else m.weights.double().numpy())
                for m in (e[i] for i in at)
            ]
            for e in edges
        ]
        weighted = edges[0][0].weights is not None
        figures["edges"] = plot_jets.plot_edges(
            own,
            ["every layer"] if fixed and len(edges[0]) > 1 else [f"layer {i + 1}" for i in at],
            shown,
            weight="attention received" if weighted else "times a neighbour",
            radius=radius,
        )
    if callable(getattr(model, "attention_maps", None)):
        with torch.no_grad(), evaluation_mode(model):
            maps = model.attention_maps(jets.batch.take(torch.tensor([drawn[k] for k in few])))  # type: ignore[operator]
        figures["attention"] = _attention_figure(maps, own, radius)
    return figures


def _attention_figure(maps: Any, discs: list[plot_jets.Disc], radius: float) -> Any:
    """The strongest weights of each block, averaged over heads, and last the class token's; an equal share is
    one."""
    mean = maps.blocks.double().mean(dim=2).numpy()  # [L, jets, P, P]
    token = None if maps.pooling is None else maps.pooling[-1].double().mean(dim=1).numpy()  # [jets, 1 + P]
    at = _spread(len(mean), 3 if token is not None else 4)
    names = [f"block {i + 1}" for i in at] + (["class token"] if token is not None else [])
    shown: list[list[Any]] = []
    received: list[list[Any]] = []
    for b, disc in enumerate(discs):
        n = len(disc.pt_share)
        own = [mean[i, b, :n, :n] for i in at]
        shown.append([plot_jets.strongest(a) for a in own])
        received.append([a.sum(axis=0) for a in own])
        if token is not None:
            share = token[b, 1 : n + 1]
            shown[-1].append((np.zeros((2, 0), dtype=np.int64), None))
            received[-1].append(n * share / max(share.sum(), 1e-9))
    return plot_jets.plot_edges(
        discs, names, shown, weight="attention received", radius=radius, received=received
    )


def _spread(count: int, most: int = 4) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def _drawn(jets: Jets, draw: int) -> list[int]:
    """The first jets of each class in turn."""
    each = max(1, draw // len(jets.classes))
    return [i for name in jets.classes for i in [k for k, own in enumerate(jets.names) if own == name][:each]]


def _disc(jets: Jets, i: int, score: float) -> plot_jets.Disc:
    rows = _rows(jets.batch, i)
    pt = kinematics.pt(jets.batch.four_momenta[rows]).double().numpy()
    return plot_jets.Disc(
        _positions(jets.batch)[rows], pt / max(pt.sum(), 1e-9), f"{jets.names[i]}, score {score:.3g}"
    )


def _rows(batch: JetBatch, i: int) -> slice:
    return slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))


def _positions(batch: JetBatch) -> np.ndarray:
    return batch.select(("delta_eta", "delta_phi")).double().numpy()


def _radius(batch: JetBatch) -> float:
    """A round radius that holds nearly all constituents."""
    reach = float(np.quantile(np.hypot(*_positions(batch).T), 0.995))
    return float(np.clip(np.ceil(reach * 10) / 10, 0.2, 2.0))
