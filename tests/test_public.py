"""What `import hepml` gives: names that are shown, examples that run, and the forms that scripts rely on."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hepml
from hepml.errors import DataError, FileError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A folder like a checkout's root, in which examples run."""
    place = tmp_path_factory.mktemp("examples")
    (place / "data").symlink_to(repository / "data")
    return place


def documented(room: Any) -> list[tuple[str, Any]]:
    """Functions and classes among a room's public names."""
    found = [(name, getattr(room, name)) for name in dir(room)]
    return [(name, value) for name, value in found if callable(value)]


@pytest.mark.parametrize("room", ["", *hepml._SUBPACKAGES])
def test_the_example_of_every_public_name_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("hepml.training.reporting.draw_figures", lambda *anything: None)
    if room != "tracking":
        monkeypatch.setattr("hepml.tracking.start", _untracked(hepml.tracking.start))
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner(verbose=False)
    already = {id(getattr(hepml, name)) for name in hepml._PUBLIC} if room else set()
    for name, value in documented(getattr(hepml, room) if room else hepml):
        if id(value) in already:
            continue
        examples = finder.find(value, name, globs={"hepml": hepml})
        assert any(e.examples for e in examples), f"hepml.{room}.{name} has no example"
        for example in examples:
            assert not runner.run(example).failed, f"the example of hepml.{room}.{name} fails"


@pytest.mark.parametrize("name", hepml._SUBPACKAGES)
def test_dir_of_a_public_room_shows_what_is_public_and_nothing_else(name: str) -> None:
    import importlib
    import types

    importlib.import_module(f"hepml.{name}")
    room = getattr(hepml, name)
    assert dir(room) == sorted(room.__all__)
    for member in dir(room):
        value = getattr(room, member)
        if isinstance(value, types.ModuleType):
            assert value.__name__.startswith("hepml."), f"hepml.{name}.{member}"
        if callable(value) or isinstance(value, types.ModuleType):
            assert value.__doc__, f"hepml.{name}.{member} has no docstring"


def test_dir_shows_what_is_public_and_nothing_else() -> None:
    assert dir(hepml) == sorted(hepml.__all__)
    assert not [n for n in dir(hepml) if n.startswith("_") and n != "__version__"]
    assert all(getattr(hepml, name).__doc__ for name in hepml.__all__ if name != "__version__")


@pytest.fixture(scope="module")
def run(toy_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> hepml.Run:
    """A run trained from a mapping that the overrides change."""
    config = {
        "data": {name: str(path) for name, path in toy_files.items()},
        "model": {"name": "pfn", "phi": [4]},
        "training": {"epochs": 3, "batch_size": 50, "device": "cpu"},
    }
    made = hepml.train(
        config,
        output=tmp_path_factory.mktemp("runs") / "x",
        **{"training.epochs": 2, "model": "mlp", "tracking.enabled": False},
    )
    assert config["training"]["epochs"] == 3, "the given mapping stays as it was"
    return made


def test_a_run_from_python_tells_what_it_left(run: hepml.Run, toy_files: dict[str, Path]) -> None:
    assert run.summary["model"] == "mlp"
    history = run.history()
    assert history["epoch"].tolist() == [0, 1]
    assert np.isfinite(history["val_loss"]).all()
    sheet = run.scores["test"]
    assert hepml.evaluate(sheet.labels, sheet.scores)["auc"] == pytest.approx(run.summary["test"]["auc"])
    np.testing.assert_allclose(run.predict(toy_files["test"])[:, 1], sheet.scores, atol=1e-6)
    assert run.plot_roc().axes
    assert "mlp" in repr(run)
    assert len(repr(run).splitlines()) < 12
    assert "<table>" in run._repr_html_()


def test_what_is_public_shows_itself_in_a_notebook(run: hepml.Run, toptag: Path) -> None:
    jets = hepml.read_jets(toptag / "test.root", classes=["QCD", "Tbqq"], entry_stop=40)
    batch = hepml.JetBatch.from_awkward(jets)
    data = hepml.data.dataset.JetDataset.open(toptag / "test.root", run.model.inputs, max_jets=20)
    for shown, pictures in (
        (jets, 3), (batch, 3), (batch[:2], 2), (data, 3), (data.report, 0), (run, 0), (run.model.inputs, 0),
    ):  # fmt: skip
        html = shown._repr_html_()
        assert "<table>" in html, type(shown)
        assert html.count("<svg") == pictures
        assert len(repr(shown).splitlines()) < 12
    assert "text/html" in jets[:5]._repr_mimebundle_()
    odd = hepml.data.dataset.JetDataset.open(toptag / "test.root", max_jets=3).report
    odd.bad["<script>"] = 1  # type: ignore[assignment]
    assert "<script>" not in odd._repr_html_()


def test_callbacks_of_the_user_are_called_and_may_monitor(toy_files: dict[str, Path], tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import Callback, EarlyStopping

    class Watcher(Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.seen.append(float(trainer.callback_metrics["val_loss"]))

    watcher = Watcher()
    never_better = EarlyStopping("val_loss", patience=1, min_delta=1e9)
    config = {
        "data": {name: str(path) for name, path in toy_files.items()},
        "model": {"name": "mlp", "hidden": [4]},
        "training": {"epochs": 6, "batch_size": 50, "device": "cpu"},
        "tracking": {"enabled": False},
    }
    made = hepml.train(config, output=tmp_path / "r", callbacks=[watcher, never_better])
    history = made.history()
    assert len(history) < 6
    np.testing.assert_allclose(watcher.seen, history["val_loss"], rtol=1e-5)
    with pytest.raises(hepml.HepmlError, match="no Lightning callback"):
        hepml.train(config, output=tmp_path / "s", callbacks=[print])  # type: ignore[list-item]


def test_evaluate_agrees_with_the_command_with_and_without_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    from hepml.cli.main import main

    rng = np.random.default_rng(5)
    labels, weights = rng.integers(0, 2, 500), rng.random(500)
    scores = np.clip(0.4 * rng.random(500) + 0.3 * labels, 0, 1)
    np.savez(tmp_path / "s.npz", labels=labels, mine=scores, weights=weights)
    for words, given in (((), weights), (("--unweighted",), None)):
        assert main(["evaluate", "--scores", str(tmp_path / "s.npz"), "--json", *words]) == 0
        told = json.loads(capsys.readouterr().out)["mine"]
        report = hepml.evaluate(labels, scores, weights=given)
        assert told["weighted"] is report["weighted"] is (given is not None)
        assert told["auc"] == pytest.approx(report["auc"])
        assert told["rejection"]["0.3"] == pytest.approx(report["rejection"]["0.3"])


def test_a_run_is_named_by_its_path_wherever_a_model_is(
    run: hepml.Run, toy_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    jets = hepml.read_jets(toy_files["test"])
    scores = hepml.predict(run, jets)
    assert np.array_equal(hepml.predict(str(run.path), jets), scores)
    assert np.array_equal(hepml.predict(hepml.open_run(run.path), toy_files["test"]), scores)
    monkeypatch.chdir(run.path.parent.parent)
    with pytest.raises(FileError, match="no such run"):
        hepml.predict("runs/none", jets)


def test_runs_side_by_side(run: hepml.Run) -> None:
    table = hepml.leaderboard([run, str(run.path)])
    assert table["model"].tolist() == ["mlp", "mlp"]
    assert table["auc"].tolist() == [run.summary["test"]["auc"]] * 2


def test_padded_arrays_with_a_mask_are_scored(run: hepml.Run) -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(1, 5, (6, 8, 3))
    p = np.concatenate([np.sqrt((p**2).sum(axis=2, keepdims=True)), p], axis=2)
    mask = np.arange(8) < rng.integers(2, 9, 6)[:, None]
    scores = hepml.predict(run.model, p, mask=mask)
    assert np.array_equal(hepml.predict(run.model, np.where(mask[..., None], p, 0.0)), scores)
    p[~mask] = np.nan  # what the padding holds is never looked at
    assert np.array_equal(hepml.predict(run.model, p, mask=mask), scores)
    with pytest.raises(DataError, match="padded four_momenta"):
        hepml.predict(run.model, p[..., :3], mask=mask)
    for given in ((p, mask), {"four_momenta": p}, None):
        with pytest.raises(DataError, match=r"cannot take jets from a .* with mask"):
            hepml.predict(run.model, given)


def test_labels_fit_a_model_of_the_classes_asked_for(toptag: Path) -> None:
    import torch

    for classes in (["QCD", "Tbqq"], ["Tbqq", "QCD"]):
        jets = hepml.read_jets(toptag / "test.root", classes=classes, entry_stop=40)
        assert hepml.data.reading.reader.classes_of(jets) == tuple(classes)
        own = hepml.read_jets(toptag / "test.root", entry_stop=40)
        assert (np.asarray(jets.label) == np.asarray(own[f"label_{classes[1]}"])).all()
        batch = hepml.JetBatch.from_awkward(jets)
        logits = hepml.models.create("pfn", phi=(4,), f=(4,), outputs=2)(batch)
        torch.nn.functional.cross_entropy(logits, batch.labels).backward()
    one = hepml.read_jets(toptag / "test.root", classes=["Tbqq"], entry_stop=40)
    assert len(one) == int(np.asarray(own["label_Tbqq"]).sum())
    assert "of other classes" in one.attrs["report"]


def test_evaluate_says_whether_it_weighs() -> None:
    labels, scores = [0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9]
    assert hepml.evaluate(labels, scores)["weighted"] is False
    assert hepml.evaluate(labels, scores, weights=[1, 2, 1, 2])["weighted"] is True


def test_the_classifier_of_scikit_learn_is_cloned_and_cross_validated() -> None:
    import awkward as ak
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_score
    from toys import toy_arrays

    arrays = toy_arrays(120, seed=4)
    names = ("energy", "px", "py", "pz")
    jets = np.stack(
        [
            ak.to_numpy(ak.fill_none(ak.pad_none(arrays[f"part_{n}"], 60, axis=1, clip=True), 0))
            for n in names
        ],
        -1,
    )
    labels = np.where(arrays["label_Tbqq"] > 0, "top", "qcd")
    tagger = hepml.HepmlClassifier("mlp", epochs=8, batch_size=20, learning_rate=0.01, seed=1)
    assert clone(tagger).get_params() == tagger.get_params()
    assert cross_val_score(tagger, jets, labels, cv=2).mean() > 0.7
    fitted = clone(tagger).fit(jets, labels)
    assert fitted.classes_.tolist() == ["qcd", "top"]
    assert fitted.predict_proba(jets).shape == (120, 2)
    assert set(fitted.predict(jets)) <= {"qcd", "top"}


def _untracked(start: Any) -> Any:
    return lambda *given, **options: start(*given, **{**options, "enabled": False})
