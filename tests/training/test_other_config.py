"""A run that goes on, or starts from given weights, with a config that they do not fit."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from notes import Notes
from stopping import StopAt

from hepml.errors import ConfigError
from hepml.training.callbacks import Killed
from hepml.training.checkpoints import load_model
from hepml.training.run import train
from hepml.training.run_config import RunConfig

Tiny = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def given(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("given") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hepml.training.reporting.draw_figures", lambda *anything: None)
        train(tiny("auxiliary.mass={target: jet_mass}"), path)
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"other layers than this config: side\.heads\.mass"),
        (["auxiliary.mass={target: jet_mass}", "model.f=[8]"], r"other layers than this config: model\."),
        (["auxiliary.mass={target: jet_mass}", "training.optimizer=muon"], "optimizer=adamw, muon is asked"),
        (["auxiliary.mass={target: jet_mass}", "training.learning_rate=1e-4"], "rate=0.005, 0.0001 is asked"),
        (["auxiliary.mass={target: jet_mass}", "training.average=0.9"], "average=None, 0.9 is asked"),
    ],
)
def test_a_run_goes_on_with_its_own_layers_and_optimizer_alone(
    tiny: Tiny, given: Path, words: list[str], message: str
) -> None:
    kept = {name: (given / name).read_bytes() for name in ("config.yaml", "run.json")}
    with pytest.raises(ConfigError, match=message):
        train(tiny(*words, "training.epochs=4"), given, resume=True)
    assert kept == {name: (given / name).read_bytes() for name in kept}, "refused before anything is written"
    train(tiny("auxiliary.mass={target: jet_mass}"), given, resume=True)


SHARES = ("data.val=0.2", "data.test=0.1", "training.epochs=1")


@pytest.mark.parametrize(
    "words",
    ["data.split_seed=5", "data.val=0.3", "data.max_jets=150", "data.folds=3", "data.selection='jet_pt > 1'"],
)
def test_a_run_does_not_hold_out_jets_that_it_was_trained_on(tiny: Tiny, tmp_path: Path, words: str) -> None:
    train(tiny(*SHARES), tmp_path / "run")
    with pytest.raises(
        ConfigError, match=f"trained on jets that this config holds out .*{words.split('=')[0]}"
    ):
        train(tiny(*SHARES, "training.epochs=2", words), tmp_path / "run", resume=True)
    train(tiny(*SHARES, "training.epochs=2", "data.stream=true"), tmp_path / "run", resume=True)


def test_a_run_that_goes_on_by_another_config_says_so(
    tiny: Tiny, toy_files: dict[str, Path], tmp_path: Path
) -> None:
    train(tiny("training.epochs=1"), tmp_path / "run")
    more = ("evaluation.signal_efficiencies=[0.4]", "training.batch_size=20", "training.epochs=2")
    other: list[tuple[tuple[str, ...], str | None]] = [
        (("data.split_seed=5", "data.workers=1", "training.threads=1"), "data.split_seed"),
        ((f"data.train='{toy_files['val']}'",), "data.train"),
        (more, "evaluation.signal_efficiencies, training.batch_size"),
        (more, None),
        (more[1:], "evaluation.signal_efficiencies"),
    ]
    for words, named in other:
        notes = Notes()
        train(tiny("training.epochs=1", *words), tmp_path / "run", resume=True, progress=notes)
        said = [line for line in notes.lines if "goes on with another" in line]
        assert said == ([] if named is None else [f"this run goes on with another {named} than before"])


def test_a_run_that_goes_on_with_other_jets_of_the_same_name_says_so_or_is_refused(
    tiny: Tiny, toy_files: dict[str, Path], tmp_path: Path
) -> None:
    """As when files are added to a folder between two jobs: a share of them is another share."""
    files = tmp_path / "jets"
    files.mkdir()
    shutil.copy(toy_files["train"], files / "a.root")
    for name, words in (("whole", ()), ("split", ("data.val=0.2",))):
        train(tiny(f"data.train={files}", "training.epochs=1", *words), tmp_path / name)
    for name, words in (("whole", ()), ("split", ("data.val=0.2",))):
        train(
            tiny(f"data.train={files}", "training.epochs=1", f"data.cache={tmp_path}/packed", *words),
            tmp_path / name, resume=True,
        )  # fmt: skip
    shutil.copy(toy_files["val"], files / "b.root")
    notes = Notes()
    train(tiny(f"data.train={files}", "training.epochs=2"), tmp_path / "whole", resume=True, progress=notes)
    assert any(line.startswith("the train jets are not bit for bit those of before") for line in notes.lines)
    kept = (tmp_path / "split/config.yaml").read_bytes()
    split = (f"data.train={files}", "training.epochs=2", "data.val=0.2", "evaluation.background=QCD")
    with pytest.raises(ConfigError, match=r"trained on jets that would be held out: .*320 to train on, 480"):
        train(tiny(*split), tmp_path / "split", resume=True)
    assert (tmp_path / "split/config.yaml").read_bytes() == kept, "refused before anything is written"
    (files / "b.root").unlink()
    notes = Notes()
    train(tiny(*split), tmp_path / "split", resume=True, progress=notes)
    assert not any("bit for bit" in line for line in notes.lines)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("[delta_phi, pt_fraction, delta_eta]", "read inputs in another order"),
        ("[log_energy, delta_eta, delta_phi]", "read pt_fraction, the model log_energy"),
    ],
)
def test_weights_that_fit_inputs_of_another_meaning_are_refused(
    tiny: Tiny, given: Path, tmp_path: Path, features: str, message: str
) -> None:
    config = tiny(f"model={{name: pfn, pretrained: '{given}', features: {features}}}", "training.epochs=1")
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "run")


def test_another_number_of_inputs_has_a_new_first_layer(tiny: Tiny, given: Path, tmp_path: Path) -> None:
    notes = Notes()
    config = tiny(f"model={{name: pfn, pretrained: '{given}', features: [pt_fraction, delta_eta]}}")
    train(config, tmp_path / "run", progress=notes)
    assert any(line.endswith("new layers: phi.0") for line in notes.lines)


@pytest.mark.parametrize("objective", ["categorical", "bernoulli"])
def test_the_last_layer_is_new_where_the_classes_stand_in_other_places(
    tiny: Tiny, tmp_path: Path, objective: str
) -> None:
    train(tiny(f"objective={objective}"), tmp_path / "first")
    words = (f"model={{pretrained: '{tmp_path / 'first'}'}}", f"objective={objective}", "training.epochs=1")
    still = ("training.learning_rate=1e-9", "training.weight_decay=0")
    for classes, new in (("[QCD, Tbqq]", "none"), ("[Tbqq, QCD]", "f.2")):
        notes = Notes()
        train(tiny(*words, *still, f"data.classes={classes}"), tmp_path / classes, progress=notes)
        assert any(line.endswith(f"new layers: {new}") for line in notes.lines), notes.lines
    before, after = (load_model(tmp_path / name).state_dict() for name in ("first", "[Tbqq, QCD]"))
    assert (before["f.2.weight"] - after["f.2.weight"]).abs().max() > 1e-3
    assert (before["phi.0.weight"] - after["phi.0.weight"]).abs().max() < 1e-6


def test_a_finished_run_that_goes_on_has_no_results_but_its_own(
    tiny: Tiny, toy_files: dict[str, Path], tmp_path: Path
) -> None:
    folder, val = tmp_path / "run", toy_files["val"]
    first = train(tiny(f"data.test={{old: {val}}}"), folder)
    (folder / "boost.json").write_text("{}")  # of these weights
    again = tiny(f"data.test={{new: {val}}}")
    notes = Notes()
    second = train(again, folder, resume=True, progress=notes)
    assert second["test"]["auc"] == first["test"]["auc"], "the same weights and jets"
    assert [p.name for p in (folder / "scores").iterdir()] == ["new.npz"]
    assert not (folder / "boost.json").exists()
    (aside,) = (folder / "earlier").iterdir()
    assert f"the results that it had are in {aside}" in notes.lines
    assert json.loads((aside / "results.json").read_text())["test"]["auc"] == first["test"]["auc"]
    assert {"scores", "tables", "boost.json"} <= {p.name for p in aside.iterdir()}
    train(again, folder, resume=True)
    assert [p.name for p in (folder / "earlier").iterdir()] == [aside.name], "nothing was other"
    with pytest.raises(Killed):
        train(tiny("training.epochs=9"), folder, resume=True, progress=StopAt(7, 1, signal.SIGINT))
    assert not (folder / "summary.json").exists(), "the figures of fewer epochs are not those of this config"
    assert not (folder / "scores").exists()
