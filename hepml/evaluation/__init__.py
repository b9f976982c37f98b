"""Metrics, plots and tables of taggers.

Everything here works on NumPy arrays of labels and scores and imports neither torch nor matplotlib until
`plots` is asked for, so that an analysis script can score any tagger, ours or not.
"""

from __future__ import annotations

from hepml.evaluation.calibration import fit_temperature, reliability, with_temperature
from hepml.evaluation.multiclass import confusion_matrix, discriminant, one_vs_one_auc, one_vs_rest_auc
from hepml.evaluation.regression import evaluate_regression
from hepml.evaluation.rejection import (
    Rejection,
    background_rejection,
    bootstrap_rejection,
    rejection_by_convention,
)
from hepml.evaluation.report import evaluate
from hepml.evaluation.roc import RocCurve, accuracy, auc, auc_with_error, roc_curve
from hepml.evaluation.sculpting import mass_sculpting
from hepml.evaluation.streaming import StreamingRoc
from hepml.faces import Face

_LAZY = Face("hepml.evaluation", {}, ("plots", "published", "tables"))

__all__ = [
    "Rejection",
    "RocCurve",
    "StreamingRoc",
    "accuracy",
    "auc",
    "auc_with_error",
    "background_rejection",
    "bootstrap_rejection",
    "confusion_matrix",
    "discriminant",
    "evaluate",
    "evaluate_regression",
    "fit_temperature",
    "mass_sculpting",
    "one_vs_one_auc",
    "one_vs_rest_auc",
    "plots",
    "published",
    "rejection_by_convention",
    "reliability",
    "roc_curve",
    "tables",
    "with_temperature",
]
__getattr__ = _LAZY.get


def __dir__() -> list[str]:
    return sorted(__all__)
