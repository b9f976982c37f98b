"""How a batch of jets is displayed: a few lines of text, and a small table with a picture for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from hepml import kinematics
from hepml.data.packed_jets import PackedJets

WIDTH = 100
ROWS = 5  # jets in the table
PICTURES = 3
_RADIUS = 0.8  # half a picture's side in (delta eta, delta phi)
_SIDE = 110  # pixels


def headline(batch: PackedJets) -> str:
    jets, total = len(batch), len(batch.four_momenta)
    spread = ""
    if jets and total:
        counts = batch.counts
        spread = f" ({int(counts.min())} to {int(counts.max())} a jet)"
    kind = str(batch.dtype).removeprefix("torch.")
    return f"{_number(jets, 'jet')}, {_number(total, 'constituent')}{spread}, {kind} on {batch.device}"


def contents(batch: PackedJets) -> list[tuple[str, str]]:
    """What a batch holds: name and description."""
    lines = [("four_momenta", f"{_shape(batch.four_momenta)} (E, px, py, pz) in GeV{_reach(batch)}")]
    if batch.features is not None:
        lines.append(("features", f"{_shape(batch.features)} {_names(batch.feature_names)}"))
    if batch.raw:
        lines.append(("raw columns", _names(batch.raw)))
    if batch.jet_features is not None:
        lines.append(("jet_features", f"{_shape(batch.jet_features)} {_names(batch.jet_feature_names)}"))
    if batch.labels is not None:
        lines.append(("labels", _labels(batch.labels)))
    if batch.weights is not None:
        lines.append(("weights", f"sum {float(batch.weights.sum()):.6g}"))
    if batch.extras:
        lines.append(("extras", _names(batch.extras)))
    lines += [(name, headline(other)) for name, other in batch.collections.items()]
    return lines


def text(batch: PackedJets) -> str:
    """At most eight lines."""
    return "\n".join(
        [f"JetBatch of {headline(batch)}", *(f"  {name:<13} {value}" for name, value in contents(batch))]
    )


def as_html(batch: PackedJets) -> str:
    """What the batch holds, its first jets as a table, and pictures of the first of them."""
    few = batch.slice(0, min(ROWS, len(batch))).to("cpu")
    p = few.jets.double()
    columns: dict[str, Sequence[str]] = {
        "jet": [str(i) for i in range(len(few))],
        "p<sub>T</sub> [GeV]": _numbers(kinematics.pt(p), ".1f"),
        "η": _numbers(kinematics.eta(p), ".2f"),
        "φ": _numbers(kinematics.phi(p), ".2f"),
        "mass [GeV]": _numbers(kinematics.mass(p), ".1f"),
        "constituents": [str(n) for n in few.counts.tolist()],
    }
    if few.labels is not None and few.labels.ndim == 1:
        columns["label"] = [f"{v:g}" for v in few.labels.tolist()]
    lines = "".join(f"<br><i>{html.escape(name)}</i> {html.escape(what)}" for name, what in contents(batch))
    pictures = "".join(picture(few, i) for i in range(min(PICTURES, len(few))))
    return f"<div><b>JetBatch</b> of {html.escape(headline(batch))}{lines}{table(columns)}{pictures}</div>"


def table(columns: dict[str, Sequence[str]]) -> str:
    """An HTML table; titles may hold markup, cells are escaped."""
    head = "".join(f"<th>{title}</th>" for title in columns)
    rows = zip(*columns.values(), strict=True)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture(batch: PackedJets, jet: int) -> str:
    """One jet as discs in (delta eta, delta phi), their areas the shares of pT; an SVG drawing."""
    one = batch.slice(jet, jet + 1)
    columns = one.columns
    share = columns["pt"] / columns["pt"].sum().clamp_min(1e-20)
    order = torch.argsort(share, descending=True).tolist()
    x = (0.5 + columns["delta_eta"] / (2 * _RADIUS)) * _SIDE
    y = (0.5 - columns["delta_phi"] / (2 * _RADIUS)) * _SIDE
    radius = 0.35 * _SIDE * share.sqrt()
    discs = "".join(
        f'<circle cx="{x[i]:.1f}" cy="{y[i]:.1f}" r="{max(float(radius[i]), 0.7):.1f}"/>' for i in order
    )
    return (
        f'<svg width="{_SIDE}" height="{_SIDE}" viewBox="0 0 {_SIDE} {_SIDE}" '
        f'style="border:1px solid #999;margin:2px" fill="#3f90da" fill-opacity="0.5" role="img">'
        f"<title>jet {jet}, constituents in Δη and Δφ, areas by pT</title>{discs}</svg>"
    )


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _shape(t: Tensor) -> str:
    return "[" + ", ".join(str(n) for n in t.shape) + "]"


def _reach(batch: PackedJets) -> str:
    if not len(batch):
        return ""
    pt = kinematics.pt(batch.jets)
    return f"; jets of pT {float(pt.min()):.4g} to {float(pt.max()):.4g}"


def _labels(labels: Tensor) -> str:
    if labels.is_floating_point():
        if not labels.numel():
            return "none"
        return f"{_shape(labels)} from {float(labels.min()):.4g} to {float(labels.max()):.4g}"
    values, counts = labels.unique(return_counts=True)
    return _names([f"{v}: {n:,}" for v, n in zip(values.tolist(), counts.tolist(), strict=True)])


def _numbers(values: Tensor, form: str) -> list[str]:
    return [format(v, form) for v in values.tolist()]


def _names(names: Iterable[str]) -> str:
    given = list(names)
    if not given:
        return "without names"
    joined = ", ".join(given)
    room = WIDTH - 20
    if len(joined) <= room:
        return joined
    while len(given) > 1 and len(", ".join(given)) > room - 14:
        given.pop()
    return ", ".join(given)[: room - 14] + f", … ({joined.count(', ') + 1})"
