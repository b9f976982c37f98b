"""An exported file is taken where a run is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hepml.cli.main import main

pytest.importorskip("onnxruntime", reason="pip install 'hepml-jets[export]' runs this test")


def test_evaluate_and_predict_take_an_onnx_file_as_they_take_its_run(
    toy_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f"data: {{train: {toy_files['train']}, val: {toy_files['val']}}}\n"
        "model: {name: perceptron, observables: [jet_pt, jet_mass, jet_nparticles]}\n"
        "training: {epochs: 1, batch_size: 60}\n"
        "tracking: {enabled: false}\n"
    )
    run, exported, test = tmp_path / "run", tmp_path / "t.onnx", str(toy_files["test"])
    assert main(["train", str(config), "-q", "-o", str(run)]) == 0
    assert main(["export", str(run), "-o", str(exported), "--jet-axis", "given"]) == 0
    reports, scores = [], []
    for tagger in (run, exported):
        capsys.readouterr()
        assert main(["evaluate", str(tagger), test, "--json", "-q"]) == 0
        (report,) = json.loads(capsys.readouterr().out).values()
        reports.append(report)
        output = tmp_path / f"{tagger.name}.npz"
        assert main(["predict", str(tagger), test, "-o", str(output), "-q"]) == 0
        arrays = np.load(output)
        scores.append(
            np.stack([arrays[name] for name in sorted(arrays) if name.startswith("score_")], axis=1)
        )
    assert scores[0].shape == scores[1].shape
    assert len(scores[0])
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-4)
    assert reports[1]["auc"] == pytest.approx(reports[0]["auc"], abs=1e-3)
    # the toy jets' own momenta are not the sums of their constituents: a file that takes the sums refuses
    # them
    assert main(["export", str(run), "-o", str(tmp_path / "sums.onnx")]) == 0
    assert main(["evaluate", str(tmp_path / "sums.onnx"), test, "-q"]) == 2
    assert "--jet-axis given" in capsys.readouterr().err


def test_taggers_and_names_that_cannot_be_exported_are_answered_with_the_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEPML_DATA", str(tmp_path))
    onnx, jets = str(tmp_path / "t.onnx"), str(tmp_path / "jets.root")
    for arguments, mend in (
        (["export", "treenin_toptag", "-o", onnx], "hepml pretrained fetch treenin_toptag"),
        (["export", "efp_mlp_toptag", "-o", str(tmp_path / "t.txt")], "tagger.onnx or tagger.pt2"),
        (["predict", onnx, jets, "-o", str(tmp_path / "s.csv")], "hepml export RUN -o t.onnx"),
        (["evaluate", "efp_mlp_toptag", onnx, jets], "hepml evaluate --scores ONE.npz --scores OTHER.npz"),
    ):
        assert main(arguments) == 2
        assert mend in " ".join(capsys.readouterr().err.split())
