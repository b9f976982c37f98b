"""A search: what its space may be, that it goes on where it stopped, and what it leaves."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
from toys import write_toy_jets

from hepml import config as configs
from hepml.cli.main import main
from hepml.errors import ConfigError
from hepml.training import tuning
from hepml.training.tuning import Dimension, read_space

pytest.importorskip("optuna")


def space(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text)
    return path


def test_a_space_is_read_from_yaml(tmp_path: Path) -> None:
    text = "training.learning_rate: {low: 1e-4, high: 1e-2, log: true}\nmodel.f: [[8], [16, 8]]\n"
    text += "training.batch_size: {low: 20, high: 60, step: 20}\n"
    assert read_space(space(tmp_path, text)) == [
        Dimension("training.learning_rate", None, 1e-4, 1e-2, True),
        Dimension("model.f", ([8], [16, 8])),
        Dimension("training.batch_size", None, 20, 60, False, 20),
    ]


@pytest.mark.parametrize(
    "text", ["", "a: 3", "a: {low: 1}", "a: {low: 2, high: 1}", "a: {low: x, high: y}", "a: []", "- a"]
)
def test_what_is_no_space_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        read_space(space(tmp_path, text))


@pytest.mark.slow  # seconds on an idle machine
def test_a_search_goes_on_where_it_stopped_and_leaves_the_best_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for i, (name, jets) in enumerate({"train": 200, "val": 100, "test": 100}.items()):
        write_toy_jets(tmp_path / f"{name}.root", jets, seed=i)
    (tmp_path / "toy.yaml").write_text(
        "data: {train: train.root, val: val.root, test: test.root}\nmodel: {name: pfn, phi: [8], f: [8]}\n"
        "training: {epochs: 2, batch_size: 50, device: cpu, threads: 1}\ntracking: {enabled: false}\n"
    )
    path = space(
        tmp_path, "training.learning_rate: {low: 1e-4, high: 1e-1, log: true}\nmodel.f: [[4], [8]]\n"
    )
    words = ["tune", "toy.yaml", "--search", str(path), "-o", "found", "--json"]
    assert main([*words, "--trials", "2"]) == 0
    first = json.loads(capfd.readouterr().out)
    assert main([*words, "--trials", "3"]) == 0
    second = json.loads(capfd.readouterr().out)
    assert second["trials"][:2] == first["trials"]
    assert len(second["trials"]) == 3
    losses = [t["val_loss"] for t in second["trials"] if t["state"] == "complete"]
    assert second["best"]["val_loss"] == min(losses)
    best = configs.load("found/best.yaml").values
    assert best["training"]["learning_rate"] == second["best"]["parameters"]["training.learning_rate"]
    assert best["model"]["f"] == json.loads(second["best"]["parameters"]["model.f"])
    assert {Path(f).stem for f in second["figures"]} <= {"importance", "parallel", "history"}
    for trial in second["trials"]:
        assert Path(trial["run"], "summary.json").is_file() == (trial["state"] == "complete")


def test_ranks_of_one_training_do_not_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(
        "data: {train: nowhere.root}\nmodel: pfn\ntracking: {enabled: false}\n"
    )
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    path = space(tmp_path, "model.f: [[4], [8]]\n")
    assert main(["tune", "toy.yaml", "--search", str(path), "--trials", "1"]) == 2
    assert "a search is one process" in capfd.readouterr().err


def test_processes_of_a_search_share_its_trials_and_take_up_those_of_the_dead(tmp_path: Path) -> None:
    """A trial that another process has just taken is no dead one, before it has written anything."""
    study, locks = tuning.open_study(tmp_path), [ExitStack() for _ in range(4)]
    first, second = (tuning._next(study, tmp_path, 2, lock) for lock in locks[:2])
    assert [first.number, second.number] == [0, 1]
    assert {trial.state.name for trial in study.trials} == {"RUNNING"}
    assert tuning._next(study, tmp_path, 2, locks[2]) is None, "both are being worked on"
    locks[0].close()  # as when its process dies
    again = tuning._next(study, tmp_path, 2, locks[3])
    assert (again.number, again.user_attrs["folder"]) == (2, str(tmp_path / "trials/0000"))
    assert [trial.state.name for trial in study.trials] == ["FAIL", "RUNNING", "RUNNING"]
    for lock in locks:
        lock.close()


def test_what_a_trial_tries_depends_on_its_number_not_on_who_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks of a job array start with the same seed, and must not all try the same."""
    monkeypatch.setattr(tuning, "train", lambda *a, **k: {"validation": {"val_loss": 1.0}, "seconds": 1.0})
    (tmp_path / "toy.yaml").write_text("data: {train: nowhere.root}\nmodel: pfn\n")
    dimensions = [Dimension("training.learning_rate", None, 1e-4, 1e-2)]

    def tried(name: str, *counts: int) -> list[float]:
        for count in counts:
            study = tuning.open_study(tmp_path / name)
            tuning.search(study, tmp_path / "toy.yaml", [], dimensions, tmp_path / name, count)
        return [trial.params["training.learning_rate"] for trial in study.trials]

    together, apart = tried("one", 4), tried("other", 1, 2, 4)
    assert together == apart
    assert len(set(together)) == 4


RATE = Dimension("training.learning_rate", None, 1e-4, 1e-2)
DROPOUT = Dimension("model.dropout", (0.0, 0.1))


@pytest.mark.parametrize(
    ("words", "space", "named"),
    [
        (["training.epochs=7"], [RATE], r"another training\.epochs: they"),
        (["model.f=[8]"], [RATE], r"another model\.f: they"),
        ([], [DROPOUT], "have tried training.learning_rate, which is fixed now"),
        (["model.dropout=0.2"], [RATE, DROPOUT], r"another model\.dropout: they"),
        (["training.learning_rate=0.1"], [RATE], None),
        (["data.test=other.root", "training.threads=1", "name=other"], [RATE], None),
        ([], [RATE, Dimension("model.dropout", (0.0, 0.5))], None),
        (["data.workers=2"], [RATE, DROPOUT, Dimension("model.f", ([4], [8]))], None),
    ],
)
def test_trials_of_another_config_are_not_compared(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    space: list[Dimension],
    named: str | None,
) -> None:
    monkeypatch.setattr(tuning, "train", lambda *a, **k: {"validation": {"val_loss": 1.0}, "seconds": 1.0})
    config = tmp_path / "toy.yaml"
    config.write_text("data: {train: nowhere.root}\nmodel: {name: pfn}\n")

    def go_on(words: list[str], space: list[Dimension], trials: int) -> int:
        study = tuning.open_study(tmp_path / "found")
        tuning.search(study, config, words, space, tmp_path / "found", trials)
        return len(study.trials)

    assert go_on([], [RATE], 2) == 2
    if named is None:
        assert go_on(words, space, 3) == 3
    else:
        with pytest.raises(ConfigError, match=named):
            go_on(words, space, 3)


def test_other_choices_and_other_jets_are_another_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "train", lambda *a, **k: {"validation": {"val_loss": 1.0}, "seconds": 1.0})
    jets, config = tmp_path / "jets.root", tmp_path / "toy.yaml"
    jets.write_bytes(b"some")
    config.write_text(f"data: {{train: {jets}}}\nmodel: {{name: pfn}}\n")

    def go_on(space: Dimension) -> None:
        study = tuning.open_study(tmp_path / "found")
        tuning.search(study, config, [], [space], tmp_path / "found", 2)

    go_on(DROPOUT)
    go_on(DROPOUT)
    with pytest.raises(ConfigError, match=r"another choice of model\.dropout"):
        go_on(Dimension("model.dropout", (0.0, 0.5)))
    jets.write_bytes(b"some more")
    with pytest.raises(ConfigError, match="another size of the jet files"):
        go_on(DROPOUT)
