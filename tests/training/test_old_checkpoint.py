"""A checkpoint that was written before the files of hepml moved still loads and scores as it did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from toys import write_toy_jets

import hepml

OLD = Path(__file__).parent / "data" / "before_the_moves"


def test_a_checkpoint_of_before_the_moves_loads_and_scores_as_it_did(tmp_path: Path) -> None:
    path = write_toy_jets(tmp_path / "v.root", 100, seed=1)
    with np.load(OLD / "scores.npz") as recorded:
        labels, scores = recorded["labels"], recorded["mlp"]
    model = hepml.load_model(OLD)
    assert (model.hepml_name, model.hepml_classes) == ("mlp", ("QCD", "Tbqq"))
    assert (np.asarray(hepml.read_jets(path, classes=model.hepml_classes).label) == labels).all()
    np.testing.assert_allclose(hepml.predict(model, path)[:, 1], scores, rtol=0, atol=2e-5)


def test_its_config_is_still_a_config() -> None:
    from hepml.training.run_config import load_run_config

    assert load_run_config(OLD / "config.yaml").model_name == "mlp"
