"""`HepmlClassifier`: a registered tagger behind scikit-learn's interface, for pipelines, cross-validation and
grid searches.

A plain training loop without a run folder: AdamW, a cosine schedule, the last epoch's weights. Runs that are
kept, resumed and compared are trained by `hepml.train`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from hepml import models, objectives
from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.data.loader import JetLoader
from hepml.data.packing import prepare
from hepml.errors import DataError
from hepml.evaluation.checks import check_weights, refuse_cancelling
from hepml.inference import prediction


class HepmlClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A tagger with `fit`, `predict_proba` and `predict`.

    Jets are padded arrays [N, M, 4] as (E, px, py, pz) in GeV, with zeros where there is no constituent (what
    cross-validation can slice), awkward jets from `hepml.read_jets`, or a `JetBatch`.

    Args:
        model: name of a registered model.
        hyperparameters: of that model.
        epochs: passes over the jets.
        batch_size: jets a step.
        learning_rate: the largest, which falls along a cosine.
        weight_decay: decoupled.
        seed: of weights and shuffling.
        device: where to train.

    Examples:
        >>> jets = hepml.read_jets("data/toptag/test.root", classes=["QCD", "Tbqq"], entry_stop=60)
        >>> tagger = hepml.HepmlClassifier("pfn", epochs=1).fit(jets, jets.label)
        >>> tagger.predict_proba(jets).shape
        (60, 2)
    """

    def __init__(
        self,
        model: str = "pfn",
        hyperparameters: Mapping[str, Any] | None = None,
        *,
        epochs: int = 20,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.model = model
        self.hyperparameters = hyperparameters
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.seed = seed
        self.device = device

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> HepmlClassifier:
        """Trains on jets.

        Args:
            X: jets.
            y: [N] classes, numbers or names.
            sample_weight: [N], or None.

        Raises:
            DataError: one class only, or another number of labels than jets.
        """
        given_labels = np.asarray(y)
        if given_labels.dtype.kind == "f" and not np.isfinite(given_labels).all():
            raise DataError("labels are NaN or infinite", mend="leave those jets out")
        self.classes_, labels = np.unique(given_labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError("the jets are of one class", mend="give jets of at least two")
        batch = as_batch(X)
        if len(batch) != len(labels):
            raise DataError(f"{len(labels)} labels for {len(batch)} jets", mend="give one a jet")
        torch.manual_seed(self.seed)
        network = models.create(self.model, outputs=len(self.classes_), **dict(self.hyperparameters or {}))
        given = check_weights(sample_weight, len(labels))
        mean = 1.0
        if given is not None:
            refuse_cancelling(given, f"the {len(given)} jets")
            mean = float(given.mean())  # what no batch can bring near zero, see `weighted_mean`
        weights = None if given is None else torch.from_numpy(given.astype(np.float32))
        batch = replace(
            prepare(batch, prediction.inputs_of(network)), labels=torch.from_numpy(labels), weights=weights
        )
        loader = JetLoader(JetDataset.from_batch(batch), self.batch_size, shuffle=True, seed=self.seed)
        objective = objectives.objective("categorical", classes=len(self.classes_))
        network = network.to(self.device).train()
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, self.epochs * len(loader)))
        for epoch in range(self.epochs):
            loader.set_epoch(epoch)
            for part in loader:
                jets = part.to(self.device)
                assert jets.labels is not None
                nll = objective.negative_log_likelihood(network(jets), jets.labels)
                loss = objectives.weighted_mean(nll, jets.weights, mean)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        self.model_ = network.eval()
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities, [N, C], in the order of `classes_`."""
        check_is_fitted(self, "model_")
        return prediction.predict(self.model_, as_batch(X))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each jet, [N]."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


def as_batch(jets: Any) -> JetBatch:
    """Jets in any of the forms that `hepml.predict` takes, files excepted, as a batch.

    Raises:
        DataError: something else.
    """
    if isinstance(jets, JetBatch):
        return jets
    if "constituents" in getattr(jets, "fields", ()):
        return JetBatch.from_awkward(jets)
    p = np.asarray(jets)
    if p.ndim != 3 or p.shape[2] != 4:
        raise DataError(
            f"jets of shape {p.shape}", mend="give padded arrays [N, M, 4] as (E, px, py, pz) in GeV"
        )
    return JetBatch.from_padded(p, (p != 0).any(axis=2))
