"""hepml: from ROOT files to a tracked, physics-respecting jet tagger.

The public names below are imported when first used, so that `import hepml` and `hepml --help` stay fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hepml.faces import Face

__version__ = "0.1.0"

_PUBLIC = {
    "JetBatch": "hepml.data.batch",
    "read_jets": "hepml.data.reading.reader",
    "train": "hepml.training.interface",
    "open_run": "hepml.training.interface",
    "Run": "hepml.training.interface",
    "leaderboard": "hepml.training.interface",
    "load_model": "hepml.training.checkpoints",
    "predict": "hepml.training.interface",
    "evaluate": "hepml.evaluation.report",
    "HepmlClassifier": "hepml.training.classifier",
    "HepmlError": "hepml.errors",
}
_SUBPACKAGES = (
    "data",
    "evaluation",
    "generation",
    "kinematics",
    "models",
    "nn",
    "objectives",
    "pretrained",
    "representations",
    "testing",
    "tracking",
    "training",
)

__all__ = ["__version__", *_PUBLIC, *_SUBPACKAGES]

if TYPE_CHECKING:
    from hepml.data.batch import JetBatch as JetBatch
    from hepml.data.reading.reader import read_jets as read_jets
    from hepml.errors import HepmlError as HepmlError
    from hepml.evaluation.report import evaluate as evaluate
    from hepml.training.checkpoints import load_model as load_model
    from hepml.training.classifier import HepmlClassifier as HepmlClassifier
    from hepml.training.interface import Run as Run
    from hepml.training.interface import leaderboard as leaderboard
    from hepml.training.interface import open_run as open_run
    from hepml.training.interface import predict as predict
    from hepml.training.interface import train as train


__getattr__ = Face("hepml", _PUBLIC, _SUBPACKAGES).get


def __dir__() -> list[str]:
    return sorted(__all__)
