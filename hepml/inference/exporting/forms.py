"""The networks of files that experiments' own software runs: CMSSW's, which is given standardised columns,
and Athena's, which is given one jet at a time."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.inference.exporting.preprocess import Block, Preprocess, Variable
from hepml.inference.exporting.tagger import ATHENA, CMSSW, GIVEN, VECTOR, Form, PaddedTagger, name_of
from hepml.packed.rectangular import rectangular

MOST = 512  # constituents that CMSSW hands on, where the tagger itself has no bound
_ENERGY_FIRST = (3, 0, 1, 2)  # of px, py, pz, energy


def network_of(model: nn.Module, form: Form) -> nn.Module:
    """The network that is written."""
    padded = PaddedTagger(model, form)
    if form.kind == CMSSW:
        return CmsswTagger(padded, form)
    return AthenaTagger(padded, form) if form.kind == ATHENA else padded


class CmsswTagger(nn.Module):
    """A tagger whose features come standardised, [B, F, N] as CMSSW lays them out.

    Args:
        padded: the tagger.
        form: its inputs.
    """

    def __init__(self, padded: PaddedTagger, form: Form) -> None:
        super().__init__()
        self.padded, self.form = padded, form

    def forward(
        self,
        pf_vectors: Tensor,
        pf_mask: Tensor,
        pf_features: Tensor | None = None,
        jet_features: Tensor | None = None,
        jet_vectors: Tensor | None = None,
    ) -> tuple[Tensor]:
        """Probabilities.

        Args:
            pf_vectors: [B, 4, N] as (px, py, pz, E) in GeV.
            pf_mask: [B, 1, N], 1 where there is a constituent.
            pf_features: [B, F, N], standardised.
            jet_features: [B, J, 1].
            jet_vectors: [B, 4, 1].
        """
        # one absent constituent more, so that no tensor is empty where no jet has any
        mask = _longer(pf_mask)[:, 0] > 0.5
        there = mask.flatten()[:, None]
        momenta = _rows(pf_vectors)[:, _ENERGY_FIRST].masked_fill(~there, 0.0)
        own = None if jet_vectors is None else jet_vectors[:, _ENERGY_FIRST, 0]
        batch = JetBatch(momenta, rectangular(mask), jet_momenta=own)
        if pf_features is not None:
            rows = _rows(pf_features).masked_fill(~there, 0.0)
            batch = replace(batch, features=rows, feature_names=self.form.features)
        if jet_features is not None:
            batch = replace(batch, jet_features=jet_features[..., 0], jet_feature_names=self.form.jet_columns)
        return (self.padded.head.activation(self.padded.model(batch)),)


class AthenaTagger(nn.Module):
    """A tagger of one jet at a time: flat lists of any length, one number a class.

    Args:
        padded: the tagger.
        form: its inputs.
    """

    def __init__(self, padded: PaddedTagger, form: Form) -> None:
        super().__init__()
        self.padded, self.form = padded, form

    def forward(self, jet_features: Tensor, track_features: Tensor) -> tuple[Tensor, ...]:
        """One number a class.

        Args:
            jet_features: [1, 4 + J], the jet's (E, px, py, pz) in GeV and its columns.
            track_features: [N, 4 + F], the same of each constituent.
        """
        mask = torch.ones_like(track_features[:, 0], dtype=torch.bool)[None]
        columns = track_features[None, :, 4:] if self.form.columns else None
        own = jet_features[:, 4:] if self.form.jet_columns else None
        scores, _ = self.padded(track_features[None, :, :4], mask, columns, own, jet_features[:, :4])
        return tuple(scores[0].unbind(0))


def preprocess_of(model: nn.Module, form: Form) -> Preprocess:
    """What CMSSW does with columns before the network: the standardisation of each feature."""
    most = form_length(model)

    def raw(*names: str) -> dict[str, Variable]:
        return {name: Variable() for name in names}

    blocks = {}
    for name in form.inputs:
        if name == "pf_features":
            blocks[name] = Block({f: standardisation(f) for f in form.features}, 1, most)
        elif name == "pf_vectors":
            blocks[name] = Block(raw(*(f"pfcand_{c}" for c in VECTOR)), 1, most)
        elif name == "pf_mask":
            blocks[name] = Block(raw("pfcand_mask"), 1, most)
        elif name == "jet_features":
            blocks[name] = Block(raw(*form.jet_columns), 1, 1)
        else:
            blocks[name] = Block(raw(*(f"jet_{c}" for c in VECTOR)), 1, 1)
    names = form.classes if form.regression else [f"label_{name}" for name in form.classes]
    return Preprocess(blocks, tuple(names))


def standardisation(feature: str) -> Variable:
    """A feature's published standardisation in CMSSW's words."""
    known = feature_table.lookup(feature)
    bounds = {} if known.clip is None else {"lower_bound": known.clip[0], "upper_bound": known.clip[1]}
    return Variable(known.shift, known.scale, **bounds)


def form_length(model: nn.Module) -> int:
    """Constituents that a jet has at most in a file of CMSSW."""
    return getattr(getattr(model, "inputs", None), "max_constituents", None) or MOST


def athena_config(model: nn.Module, form: Form) -> dict[str, object]:
    """`gnn_config`: what Athena's tools read about inputs and outputs, as salt writes it."""

    def variables(*names: str) -> list[dict[str, object]]:
        return [{"name": name, "offset": 0.0, "scale": 1.0} for name in names]

    momentum = ("energy", "px", "py", "pz")
    return {
        "inputs": [
            {"name": "jet_var", "variables": variables(*(f"jet_{c}" for c in momentum), *form.jet_columns)}
        ],
        "input_sequences": [{"name": "constituents", "variables": variables(*momentum, *form.columns)}],
        "outputs": {name_of(model): {"labels": list(form.outputs), "node_index": 0}},
        "units": "GeV",
        "axis": GIVEN,
    }


def _rows(x: Tensor) -> Tensor:
    """[B, C, N] as rows [B · (N + 1), C]."""
    return _longer(x).transpose(1, 2).flatten(0, 1)


def _longer(x: Tensor) -> Tensor:
    return torch.cat((x, x.new_zeros((*x.shape[:2], 1))), dim=2)
