"""Batches of jets as the inputs of an exported file, in each of its forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.inference.exporting.preprocess import Preprocess
from hepml.inference.exporting.tagger import GIVEN, Form
from hepml.packed.rectangle import Rectangle, widest


def padded(batch: JetBatch, form: Form, columns: tuple[str, ...], extra: int = 0) -> dict[str, np.ndarray]:
    """Rectangles with a mask.

    Args:
        batch: jets.
        form: of the file.
        columns: names of the file's columns in the batch.
        extra: absent constituents more than the longest jet needs.
    """
    where = Rectangle.of(batch.offsets, widest(batch.offsets) + extra, batch.four_momenta.shape[0])
    given = {"four_momenta": where.dense(batch.four_momenta.float()), "mask": where.mask}
    if form.columns:
        given["columns"] = where.dense(batch.select(columns).float())
    if form.jet_columns:
        given["jet_columns"] = batch.select_jets(form.jet_columns).float()
    if form.jet_axis == GIVEN:
        given["jet_four_momenta"] = batch.jets.float()
    return {name: value.cpu().numpy() for name, value in given.items()}


def cmssw(
    batch: JetBatch, form: Form, columns: tuple[str, ...], preprocess: Preprocess, extra: int = 0
) -> dict[str, np.ndarray]:
    """Standardised columns, by the `preprocess.json` of the file."""
    raw = dict(zip(form.columns, batch.select(columns).unbind(1), strict=True)) if form.columns else {}
    # the file's own axis is not the one of these columns, which follow from the momenta alone
    bare = replace(batch, features=None, feature_names=(), raw={})
    table = {**bare.columns, **raw}
    energy, *space = batch.four_momenta.unbind(1)
    values = {f: feature_table.lookup(f).formula(table) for f in form.features}
    values |= {f"pfcand_{c}": v for c, v in zip(("px", "py", "pz", "energy"), (*space, energy), strict=True)}
    values["pfcand_mask"] = torch.ones_like(energy)
    offsets = batch.offsets.cpu().numpy()
    lists = {name: (value.float().cpu().numpy(), offsets) for name, value in values.items()}
    each = np.arange(len(batch) + 1)
    if form.jet_columns:
        own = batch.select_jets(form.jet_columns).float().cpu().numpy()
        lists |= {name: (own[:, i], each) for i, name in enumerate(form.jet_columns)}
    energy, *space = batch.jets.unbind(1)
    for c, v in zip(("px", "py", "pz", "energy"), (*space, energy), strict=True):
        lists.setdefault(f"jet_{c}", (v.float().cpu().numpy(), each))
    jets = np.arange(len(batch))
    given = {name: block.fill(lists, jets) for name, block in preprocess.inputs.items()}
    if extra:
        given = {
            name: np.pad(x, ((0, 0), (0, 0), (0, extra))) if name.startswith("pf_") else x
            for name, x in given.items()
        }
    return given


def athena(jet: JetBatch, form: Form, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    """One jet as flat lists."""
    tracks, whole = [jet.four_momenta], [jet.jets]
    if form.columns:
        tracks.append(jet.select(columns))
    if form.jet_columns:
        whole.append(jet.select_jets(form.jet_columns))
    given = {"jet_features": torch.cat(whole, dim=1), "track_features": torch.cat(tracks, dim=1)}
    return {name: value.float().cpu().numpy() for name, value in given.items()}
