"""`hepml evaluate`: score files, models on jets, and what goes wrong with either."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot
from toys import write_toy_jets

import hepml
from hepml.cli.main import main
from hepml.errors import DataError, LayoutError
from hepml.evaluation.score_files import read_scores

GENERATOR = np.random.default_rng(16)
LABELS = GENERATOR.integers(0, 2, 2000)
SCORES = {
    name: 1 / (1 + np.exp(-GENERATOR.normal(a * LABELS - a / 2)))
    for name, a in (("good", 3.0), ("poor", 1.0))
}
ONE_HOT_NAMES = ("label_QCD", "label_Tbqq")


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    path = tmp_path / "scores.npz"
    np.savez(path, labels=LABELS, **SCORES)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained PFN as a training run writes it."""
    torch.manual_seed(0)
    model = hepml.models.create("pfn", outputs=2, phi=[8], f=[8])
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoints").mkdir()
    identity = {
        "name": "pfn",
        "hyperparameters": {"outputs": 2, "phi": [8], "f": [8]},
        "objective": {"name": "categorical", "arguments": {"classes": 2}},
        "classes": list(ONE_HOT_NAMES),
        "config": {"data": {"train": "somewhere"}},
    }
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"hepml": identity, "state_dict": weights}, folder / "checkpoints" / "best.ckpt")
    return folder


def run(*words: Any) -> int:
    return main(["evaluate", *map(str, words)])


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out))


def test_scores_in_a_file_give_one_report_a_tagger(npz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--scores", npz, "--json") == 0
    found = document(capsys)
    assert list(found) == ["good", "poor"]
    for name, report in found.items():
        assert report == json.loads(json.dumps(hepml.evaluate(LABELS, SCORES[name])))


def test_the_table_shows_every_tagger_with_errors(npz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--scores", npz, "--signal-efficiency", "0.7", "--published") == 0
    text = capsys.readouterr().out
    assert "ε_S = 0.7" in text
    assert next(line for line in text.splitlines() if "good" in line).count("±") == 3
    assert "LorentzNet" in text


def test_the_plot_is_written(npz: Path, tmp_path: Path) -> None:
    assert run("--scores", npz, "--plot", tmp_path / "roc.pdf", "--json") == 0
    assert (tmp_path / "roc.pdf").read_bytes().startswith(b"%PDF-")


def test_weights_and_classes_in_the_file_are_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.arange(900) % 3
    scores = GENERATOR.dirichlet(np.ones(3), 900) + np.eye(3)[labels]
    weights = GENERATOR.exponential(size=900)
    np.savez(
        tmp_path / "s.npz", labels=labels, net=scores, weights=weights, classes=np.array(["QCD", "b", "c"])
    )
    assert run("--scores", tmp_path / "s.npz", "--json", "--signal", "c", "--plot", tmp_path / "roc.png") == 0
    expected = hepml.evaluate(labels, scores, weights, classes=["QCD", "b", "c"], signal="c")
    assert document(capsys)["net"] == json.loads(json.dumps(expected))
    assert run("--scores", tmp_path / "s.npz", "--json", "--unweighted") == 0
    assert document(capsys)["net"]["auc"] == hepml.evaluate(labels, scores)["auc"]


@pytest.mark.parametrize("ending", ["root", "npz"])
def test_what_predict_writes_is_evaluated(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {
        "label_QCD": (LABELS == 0).astype(np.float32),
        "label_Tbqq": (LABELS == 1).astype(np.float32),
        "jet_pt": GENERATOR.uniform(550, 650, 2000).astype(np.float32),
        "weight": np.ones(2000, np.float32),
        "score_label_QCD": 1 - SCORES["good"],
        "score_label_Tbqq": SCORES["good"],
        "entry": np.arange(2000),
    }
    path = tmp_path / f"top.{ending}"
    if ending == "npz":
        np.savez(path, **columns)
    else:
        with uproot.recreate(path) as file:
            file.mktree("tree", {k: v.dtype for k, v in columns.items()}).extend(columns)
    assert run("--scores", path, "--json") == 0
    found = document(capsys)["top"]
    assert found["auc"] == pytest.approx(hepml.evaluate(LABELS, SCORES["good"])["auc"], abs=1e-12)
    assert found["signal"] == "label_Tbqq"


def test_what_the_predict_command_writes_is_understood(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jets = write_toy_jets(tmp_path / "jets.root", 120)
    assert main(["predict", str(checkpoint), str(jets), "-o", str(tmp_path / "scores.root"), "-q"]) == 0
    capsys.readouterr()
    assert run("--scores", tmp_path / "scores.root", "--json") == 0
    found = document(capsys)["scores"]
    with uproot.open(tmp_path / "scores.root") as file:
        written = file["tree"]["score_Tbqq"].array(library="np")
    expected = hepml.evaluate(np.asarray(hepml.read_jets(jets).label), written)
    assert found["jets"] == 120
    assert found["auc"] == pytest.approx(expected["auc"], abs=1e-12)


def test_a_model_is_evaluated_on_samples_by_name(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (write_toy_jets(tmp_path / f"{n}.root", n, seed=n) for n in (60, 90))
    assert run(checkpoint, f"one={first}", f"two={second}", f"two={first}", "--json", "-q") == 0
    found = document(capsys)
    assert {name: report["jets"] for name, report in found.items()} == {"one": 60, "two": 150}
    assert all({"accuracy", "auc", "rejection"} <= report.keys() for report in found.values())
    jets = hepml.read_jets(first)
    expected = hepml.evaluate(np.asarray(jets.label), hepml.predict(hepml.load_model(checkpoint), jets))
    assert found["one"]["auc"] == pytest.approx(expected["auc"], abs=1e-9)


def test_a_run_without_files_reports_on_its_own_test_scores(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.ckpt").write_bytes(
        (checkpoint / "checkpoints" / "best.ckpt").read_bytes()
    )
    assert run(folder) == 2
    assert "name files" in capsys.readouterr().err
    (folder / "scores").mkdir()
    np.savez(folder / "scores" / "test.npz", labels=LABELS, pfn=SCORES["good"])
    assert run(folder, "--json") == 0
    assert document(capsys)["test"]["auc"] == hepml.evaluate(LABELS, SCORES["good"])["auc"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to evaluate"),
        (("run", "--scores", "x.npz"), "either a run or --scores"),
        (
            ("--scores", "{folder}/score.npz"),
            "no such file (in {folder}/score.npz): did you mean 'scores.npz'",
        ),
        (
            ("--scores", "{folder}/scores.npz", "--signal-efficiency", "30%"),
            "'30%' is no list of signal efficiencies",
        ),
        (("--scores", "{folder}/scores.npz", "--plot", "roc.doc"), "cannot draw 'roc.doc'"),
        (("--scores", "{folder}/broken.npz"), "not an npz file"),
        (("--scores", "{folder}/text.root"), "not a ROOT file"),
        (
            ("--scores", "{folder}/nan.npz"),
            "3 of 2000 scores are NaN or infinite, the first is of jet 5 (in net)",
        ),
        (("--scores", "{folder}/one.npz"), "all 2000 jets are signal, one class only (in net)"),
        (("--scores", "{folder}/short.npz"), "tagger 'net' has 1999 scores, there are 2000 labels"),
        (("--scores", "{folder}/unnamed.npz"), "array 'labels' not found"),
        (("--scores", "{folder}/alone.npz"), "no scores beside the labels"),
        (("{folder}/nowhere", "jets.root"), "no such run or checkpoint"),
    ],
)
def test_what_goes_wrong_is_one_line_and_exit_code_2(
    words: tuple[str, ...], message: str, npz: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = npz.parent
    scores = SCORES["good"].copy()
    scores[[5, 6, 9]] = np.nan
    np.savez(folder / "nan.npz", labels=LABELS, net=scores)
    np.savez(folder / "one.npz", labels=np.ones(2000), net=SCORES["good"])
    np.savez(folder / "short.npz", labels=LABELS, net=SCORES["good"][1:])
    np.savez(folder / "unnamed.npz", truth=LABELS, net=SCORES["good"])
    np.savez(folder / "alone.npz", labels=LABELS)
    (folder / "broken.npz").write_bytes(npz.read_bytes()[:500])
    (folder / "text.root").write_text("no jets here")
    assert run(*(word.format(folder=folder) for word in words)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message.format(folder=folder) in err


def test_jets_of_other_classes_are_not_guessed(tmp_path: Path) -> None:
    columns = {"score_a": SCORES["good"], "score_b": 1 - SCORES["good"]}
    np.savez(tmp_path / "s.npz", **columns)
    with pytest.raises(LayoutError, match="no column says which jets are of class 'a'"):
        read_scores(tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", **columns, label_a=LABELS, label_b=0 * LABELS)
    with pytest.raises(DataError, match="not of exactly one of the classes a, b"):
        read_scores(tmp_path / "s.npz")


def test_the_command_imports_neither_torch_nor_matplotlib_for_scores(npz: Path) -> None:
    code = (
        "import sys; from hepml.cli.main import main; "
        f"code = main(['evaluate', '--scores', {str(npz)!r}, '--json']); "
        "heavy = [m for m in ('torch', 'matplotlib', 'lightning', 'mlflow') if m in sys.modules]; "
        "sys.exit(code or (3 if heavy else 0))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, check=False).returncode
        == 0
    )


def test_published_figures_are_printed(
    reference_scores_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--scores", reference_scores_path) == 0
    text = capsys.readouterr().out
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    for tagger, figures in {
        "particlenet": ("0.93839", "0.98477", "1294", "329"),
        "pfn": ("0.93209", "0.98208", "889", "256.9"),
    }.items():
        assert all(f" {figure} ±" in rows[tagger] for figure in figures), rows[tagger]
