"""The network of an exported file: padded four-momenta and raw columns in, probabilities and logits out.

Everything between a file's branches and a user's probabilities is inside: the cut to the leading
constituents, features from four-momenta, their standardisation, the tagger, its head. Jets stand in a
rectangle (`hepml.packed.rectangular`), so that the tagger itself is the one that was trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hepml.data import extras as extra_table
from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.data.jet_columns import DERIVED
from hepml.errors import ModelError
from hepml.inference.prediction import head_of, inputs_of, output_names
from hepml.models.identity import identity_of
from hepml.packed.rectangular import known_mask, rectangular
from hepml.representations.sequence import leading

CONSTITUENTS, GIVEN = "constituents", "given"
PADDED, CMSSW, ATHENA = FORMS = ("padded", "cmssw", "athena")
Size = int | str  # `jets`, `constituents`, or a number

VECTOR = ("px", "py", "pz", "energy")  # components as weaver and CMSSW order them


@dataclass(frozen=True)
class Form:
    """The inputs and outputs of a file by name.

    Args:
        kind: `padded`, `cmssw` or `athena`.
        features: what the tagger reads of constituents, which a file of CMSSW is given ready-made.
        columns: raw constituent columns beyond four-momenta, in the order of the input `columns`.
        jet_columns: jet-level columns, in the order of the input `jet_columns`.
        jet_axis: what features are relative to: the sum of the `constituents`, or a four-momentum that is
            `given` as the input `jet_four_momenta`.
        classes: names of the outputs.
        regression: whether the first output is (mean, sigma), not probabilities.
    """

    columns: tuple[str, ...]
    jet_columns: tuple[str, ...]
    jet_axis: str
    classes: tuple[str, ...]
    regression: bool
    kind: str = PADDED
    features: tuple[str, ...] = ()

    @property
    def inputs(self) -> dict[str, tuple[Size, ...]]:
        """Sizes of each input; those that vary by name."""
        columns, jet_columns, jets, n = len(self.columns), len(self.jet_columns), "jets", "constituents"
        if self.kind == ATHENA:
            return {"jet_features": (1, 4 + jet_columns), "track_features": (n, 4 + columns)}
        sizes: dict[str, tuple[Size, ...]]
        if self.kind == CMSSW:
            sizes = {"pf_vectors": (jets, 4, n), "pf_mask": (jets, 1, n)}
            if self.features:
                sizes = {"pf_features": (jets, len(self.features), n), **sizes}
            if self.jet_columns:
                sizes["jet_features"] = (jets, jet_columns, 1)
            if self.jet_axis == GIVEN:
                sizes["jet_vectors"] = (jets, 4, 1)
            return sizes
        sizes = {"four_momenta": (jets, n, 4), "mask": (jets, n)}
        if columns:
            sizes["columns"] = (jets, n, columns)
        if jet_columns:
            sizes["jet_columns"] = (jets, jet_columns)
        if self.jet_axis == GIVEN:
            sizes["jet_four_momenta"] = (jets, 4)
        return sizes

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        if self.kind == ATHENA:
            return tuple(f"p{name}" for name in self.classes)
        if self.kind == CMSSW:
            return ("output" if self.regression else "softmax",)
        return ("predictions" if self.regression else "probabilities", "logits")


def form_of(model: nn.Module, jet_axis: str = CONSTITUENTS, kind: str = PADDED) -> Form:
    """What a file of this model is given and gives.

    Athena gives each jet's own momentum, which is the axis there.

    Raises:
        ModelError: the model asks for views that no four-momenta or columns give, such as clustering trees.
    """
    inputs = inputs_of(model)
    if outside := [name for name in inputs.extras if not extra_table.is_in_graph(name)]:
        raise ModelError(
            f"{name_of(model)} reads {', '.join(outside)}, made outside of any graph by clustering",
            mend="run it with `hepml predict`",
        )
    if further := inputs.collections:
        listed = ", ".join(name for name, _ in further)
        raise ModelError(
            f"{name_of(model)} reads further collections ({listed}), for which no form has an input",
            mend="run it with `hepml predict`",
        )
    raw = feature_table.raw_columns_for(inputs.features)
    regression = head_of(model).task == "regression"
    if regression and kind == ATHENA:
        raise ModelError(
            "athena's form has one output a class, and this is a regression", mend="--form padded"
        )
    names = [name.removeprefix("score_") for name in output_names(model)]
    return Form(
        tuple(name for name in raw if name not in feature_table.MOMENTUM_COLUMNS),
        tuple(name for name in inputs.jet_features if name not in DERIVED),
        GIVEN if kind == ATHENA else jet_axis,
        tuple(names),
        regression,
        kind,
        tuple(inputs.features),
    )


def name_of(model: nn.Module) -> str:
    """The registered name of a model, or its class."""
    return str(identity_of(model).name or type(model).__name__)


class PaddedTagger(nn.Module):
    """A trained tagger on padded jets.

    Args:
        model: in evaluation mode.
        form: see `form_of`.
    """

    def __init__(self, model: nn.Module, form: Form) -> None:
        super().__init__()
        self.model, self.form = model, form
        self.inputs, self.head = inputs_of(model), head_of(model)

    def forward(
        self,
        four_momenta: Tensor,
        mask: Tensor,
        columns: Tensor | None = None,
        jet_columns: Tensor | None = None,
        jet_four_momenta: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Probabilities and logits.

        Args:
            four_momenta: [B, N, 4] as (E, px, py, pz) in GeV; what stands where the mask is False is not
                read.
            mask: [B, N] bool, True where there is a constituent; anywhere in the row.
            columns: [B, N, F] raw columns in the order of `form.columns`.
            jet_columns: [B, J].
            jet_four_momenta: [B, 4].

        Returns:
            [B, classes] and [B, outputs].
        """
        # one absent constituent more, so that no tensor is empty where no jet has any
        four_momenta, mask = (_longer(t) for t in (four_momenta, mask))
        there = mask.flatten()[:, None]
        momenta = four_momenta.flatten(0, 1).masked_fill(~there, 0.0)
        raw = None
        if columns is not None:
            raw = _longer(columns).flatten(0, 1).masked_fill(~there, 0.0)
        batch = JetBatch(momenta, rectangular(mask), jet_momenta=jet_four_momenta)
        if self.inputs.max_constituents is not None:
            batch, raw = self._cut(batch, raw, self.inputs.max_constituents)
        batch = self._with_features(batch, raw)
        if jet_columns is not None:
            batch = replace(batch, jet_features=jet_columns, jet_feature_names=self.form.jet_columns)
        logits = self.model(batch)
        return self.head.activation(logits), logits

    def _cut(self, batch: JetBatch, raw: Tensor | None, most: int) -> tuple[JetBatch, Tensor | None]:
        """Only the leading constituents of each jet."""
        rows, offsets = leading(batch, most)
        kept = batch.four_momenta[rows].masked_fill(~_flat_mask(offsets), 0.0)
        # relative coordinates stay those to the whole jet
        return JetBatch(kept, offsets, jet_momenta=batch.jets), None if raw is None else raw[rows]

    def _with_features(self, batch: JetBatch, raw: Tensor | None) -> JetBatch:
        names = self.inputs.features
        if not names:
            return batch
        table = dict(batch.columns)
        if raw is not None:
            table.update(zip(self.form.columns, raw.unbind(1), strict=True))
        features = feature_table.compute(names, table).masked_fill(~_flat_mask(batch.offsets), 0.0)
        return replace(batch, features=features, feature_names=names)


def _flat_mask(offsets: Tensor) -> Tensor:
    return known_mask(offsets).flatten()[:, None]


def _longer(x: Tensor) -> Tensor:
    return torch.cat((x, x.new_zeros((x.shape[0], 1, *x.shape[2:]))), dim=1)
