"""Training: run configuration, Lightning module, checkpoints, runs from Python."""

from hepml.faces import Face

_FACE = Face(
    "hepml.training",
    {
        "train": "hepml.training.interface",
        "open_run": "hepml.training.interface",
        "Run": "hepml.training.interface",
        "leaderboard": "hepml.training.interface",
        "load_run_config": "hepml.training.run_config",
        "RunConfig": "hepml.training.run_config",
        "load_model": "hepml.training.checkpoints",
        "HepmlClassifier": "hepml.training.classifier",
        "Progress": "hepml.training.progress",
        "measure_norms": "hepml.training.norm_statistics",
        "TrainingModule": "hepml.training.module",
    },
)
__all__ = _FACE.all()
__getattr__ = _FACE.get
__dir__ = _FACE.show
