"""What a run of several classes draws."""

from __future__ import annotations

from pathlib import Path

import pytest
from toys import write_toy_jets

from hepml.cli.main import main


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_of_several_classes_leaves_roc_score_and_confusion_plots(tmp_path: Path) -> None:
    classes = ("label_QCD", "label_Tbqq", "label_Hbb")
    for i, name in enumerate(("train", "test")):
        write_toy_jets(tmp_path / f"{name}.root", 240, seed=i, classes=classes)
    config = tmp_path / "c.yaml"
    config.write_text(
        f"""
data: {{train: {tmp_path / "train.root"}, test: {tmp_path / "test.root"}}}
model: {{name: mlp, hidden: [4]}}
training: {{epochs: 1, batch_size: 60}}
evaluation: {{signal: [Tbqq], background: [QCD, Hbb], label: CMS, energy: 13, formats: [png, svg]}}
tracking: {{enabled: false}}
"""
    )
    assert main(["train", str(config), "-q", "-o", str(tmp_path / "run")]) == 0
    drawn = {path.stem for path in (tmp_path / "run" / "plots").glob("*.png")}
    assert {"roc", "scores_test", "confusion_test", "efficiency_pt", "history"} <= drawn
    assert {"sculpting_test", "reliability"} <= drawn
    assert {path.stem for path in (tmp_path / "run" / "plots").glob("*.svg")} == drawn
    assert main(["evaluate", str(tmp_path / "run"), str(tmp_path / "test.root"), "--json"]) == 0
