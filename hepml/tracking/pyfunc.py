"""What `mlflow.pyfunc.load_model` calls to bring a hepml model back; named in the MLmodel file, so the
path of this module is fixed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from hepml import models, objectives
from hepml.data.batch import JetBatch
from hepml.data.inputs import Inputs
from hepml.data.packing import prepare
from hepml.errors import DataError
from hepml.models.standardised import standardise
from hepml.pretrained.archives import read_archive
from hepml.tracking.packaging import DESCRIPTION, WEIGHTS, _arguments


def _load_pyfunc(path: str) -> PackagedModel:
    return PackagedModel(Path(path))


class PackagedModel:
    """A tagger that takes packed arrays and returns probabilities.

    Args:
        folder: what `hepml.tracking.packaging.save` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text())
        self.module = models.create(self.description["name"], **self.description["hyperparameters"])
        self.module.load_state_dict(read_archive(folder / WEIGHTS, "file of weights"))
        if self.description.get("standards"):
            standardise(self.module, self.description["standards"])
        self.module.eval()
        head = self.description["objective"]
        self._head = head
        self._inputs = cast(Inputs, self.module.inputs)

    def predict(self, arrays: Any, params: Mapping[str, Any] | None = None) -> np.ndarray:
        """Scores [B, C] (for regression (mean, sigma) a target) of packed jets.

        Args:
            arrays: `four_momenta` [ΣN, 4] as (E, px, py, pz) in GeV, `offsets` [B + 1], and, where the
                signature names them, `features` [ΣN, F] (standardised, in the model's order) and
                `jet_features` [B, J].
            params: MLflow's, not used.

        Raises:
            DataError: arrays that are missing or do not fit each other.
        """
        if not isinstance(arrays, Mapping) or "four_momenta" not in arrays or "offsets" not in arrays:
            raise DataError(
                "the model takes a mapping with four_momenta and offsets", mend="see docs/tracking.md"
            )
        given = {k: np.asarray(v) for k, v in arrays.items() if v is not None}
        batch = JetBatch.from_arrays(
            given["four_momenta"].astype(np.float32),
            given["offsets"],
            given.get("features"),
            feature_names=self._inputs.features if "features" in given else (),
            jet_features=given.get("jet_features"),
            jet_feature_names=self.description["jet_features"] if "jet_features" in given else (),
        )
        batch = prepare(batch, self._inputs)
        with torch.inference_mode():
            parameters = self.module(batch)
            objective = objectives.objective(
                self._head["name"], **_arguments(self._head, parameters.shape[1])
            )
            return objective.activation(parameters).numpy()
