"""A run from end to end: what it leaves, that it can be repeated, resumed, killed and refined."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from notes import Notes
from stopping import StopAt, resumed_as_uninterrupted
from toys import toy_arrays, write_toy_jets

import hepml
from hepml.errors import ConfigError, DataError, FileError, HepmlError, ModelError
from hepml.inference.prediction import predict
from hepml.models import create
from hepml.training.callbacks import Killed
from hepml.training.checkpoints import load_model, read_checkpoint, write_atomically
from hepml.training.run import train
from hepml.training.run_config import RunConfig, load_run_config

Tiny = Callable[..., RunConfig]


def metrics_of(summary: Mapping[str, Any]) -> list[float]:
    test = summary["test"]
    return [
        test["accuracy"],
        test["auc"],
        summary["validation"]["val_loss"],
        summary["validation"]["train_loss"],
    ]


def test_a_run_learns_toy_jets_and_leaves_everything_in_its_folder(tiny: Tiny, tmp_path: Path) -> None:
    summary = train(tiny("training.epochs=8"), tmp_path / "run")
    assert summary["test"]["auc"] > 0.95
    on_disk = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert on_disk["test"]["auc"] == summary["test"]["auc"]
    for point in ("0.3", "0.5"):
        assert on_disk["test"]["rejection"][point]["value"] > 1
    assert on_disk["parameters"] == sum(p.numel() for p in load_model(tmp_path / "run").parameters())
    assert 0 < on_disk["seconds"] < 120
    present = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert {
        "config.yaml", "environment.json", "git.json", "journal.jsonl", "summary.json",
        "checkpoints/best.ckpt", "checkpoints/last.ckpt",
        "scores/test.npz", "plots/roc.png", "plots/history.png",
    } <= present  # fmt: skip
    assert not [name for name in present if name.endswith(".tmp")]
    scores = np.load(tmp_path / "run/scores/test.npz")
    assert len(scores["labels"]) == len(scores["pfn"]) == 240


def test_the_saved_config_of_a_run_starts_the_same_run_again(tiny: Tiny, tmp_path: Path) -> None:
    first = train(tiny(), tmp_path / "first")
    again = load_run_config(tmp_path / "first" / "config.yaml")
    second = train(again, tmp_path / "second")
    assert metrics_of(second) == metrics_of(first)


def test_another_seed_gives_another_model(tiny: Tiny, tmp_path: Path) -> None:
    first, second = (train(tiny(f"training.seed={s}"), tmp_path / str(s)) for s in (1, 2))
    assert metrics_of(first) != metrics_of(second)


@pytest.mark.parametrize(
    ("epoch", "step"), [(1, 3), (1, 8), (0, 1)], ids=["mid-epoch", "end of epoch", "first step"]
)
def test_a_killed_and_resumed_run_ends_with_the_metrics_of_an_uninterrupted_one(
    tiny: Tiny, tmp_path: Path, epoch: int, step: int
) -> None:
    config = tiny("training.epochs=4", "training.augment=[rotate_phi, reflect_phi]", "model.dropout=0.2")
    whole, resumed = resumed_as_uninterrupted(config, tmp_path, (epoch, step))
    assert metrics_of(resumed) == metrics_of(whole)
    assert resumed["epochs"] == whole["epochs"] == 4


def test_an_interrupt_from_the_keyboard_ends_a_run_as_killed(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(Killed) as stop:
        train(tiny(), tmp_path / "run", progress=StopAt(0, 2, signal.SIGINT))
    assert stop.value.signum == signal.SIGINT
    journal = [json.loads(line) for line in (tmp_path / "run/journal.jsonl").read_text().splitlines()]
    assert journal[-1]["status"] == "KILLED"


def test_resuming_a_finished_run_reports_the_same_summary(tiny: Tiny, tmp_path: Path) -> None:
    first = train(tiny(), tmp_path / "run")
    second = train(tiny(), tmp_path / "run", resume=True)
    assert metrics_of(second) == metrics_of(first)
    assert second["epochs"] == first["epochs"]


def test_a_folder_that_holds_a_run_is_not_overwritten(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny("training.epochs=1"), tmp_path / "run")
    with pytest.raises(FileError, match="already holds a run"):
        train(tiny(), tmp_path / "run")


def test_early_stopping_ends_a_run_that_no_longer_improves(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(
        "training.epochs=30",
        "training.learning_rate=0.2",
        "training.early_stopping=2",
        "training.schedule=constant",
    )
    summary = train(config, tmp_path / "run")
    assert summary["epochs"] < 30
    assert summary["epochs"] == summary["best_epoch"] + 3


def test_the_best_epoch_is_the_one_that_is_tested(tiny: Tiny, tmp_path: Path) -> None:
    summary = train(tiny("training.monitor=val_auc", "training.epochs=4"), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/journal.jsonl").read_text().splitlines()]
    aucs = [e["values"]["val_auc"] for e in lines if e["kind"] == "metrics" and "val_auc" in e["values"]]
    assert len(aucs) == 4
    assert summary["best_epoch"] == int(np.argmax(aucs))
    assert summary["validation"]["val_auc"] == max(aucs)


@pytest.mark.parametrize("setting", ["precision=64", "precision=bf16-mixed", "gradient_clip=0.1",
"optimizer=radam", "warmup=1",
                                     "schedule=one_cycle", "checkpoint_every=2"])  # fmt: skip
def test_training_settings_work(tiny: Tiny, tmp_path: Path, setting: str) -> None:
    summary = train(tiny(f"training.{setting}"), tmp_path / "run")
    assert summary["test"]["auc"] > 0.6
    kind = torch.float64 if setting == "precision=64" else torch.float32
    stored = read_checkpoint(tmp_path / "run/checkpoints/best.ckpt")["state_dict"]
    assert {t.dtype for name, t in stored.items() if t.is_floating_point()} == {kind}


def test_a_regression_trains_by_the_same_function_and_knows_its_width(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("data.target=jet_sdmass", "training.epochs=25", "training.learning_rate=1e-2")
    summary = train(config, tmp_path / "run")
    test = summary["test"]
    spread = float(np.std(np.asarray(toy_arrays(240, seed=2)["jet_sdmass"])))
    assert test["resolution"] < 0.7 * spread
    assert 0.5 < test["pull_width"] < 2.0
    model = load_model(tmp_path / "run")
    rows = predict(model, config.data.test)
    assert rows.shape == (240, 2)
    assert (rows[:, 1] > 0).all()


def test_bernoulli_and_more_than_two_classes_train(tiny: Tiny, tmp_path: Path) -> None:
    one = train(tiny("objective=bernoulli"), tmp_path / "one")
    assert one["test"]["auc"] > 0.6
    classes = ("label_QCD", "label_Wqq", "label_Tbqq")
    files = {
        n: write_toy_jets(tmp_path / f"{n}.root", 150, seed=i, classes=classes)
        for i, n in enumerate(("train", "val", "test"))
    }
    three = train(tiny(*(f"data.{n}={p}" for n, p in files.items())), tmp_path / "three")
    assert len(three["classes"]) == 3
    assert predict(load_model(tmp_path / "three"), files["test"]).shape == (150, 3)
    with pytest.raises(ConfigError, match="bernoulli is for 2 classes"):
        train(tiny("objective=bernoulli", *(f"data.{n}={p}" for n, p in files.items())), tmp_path / "refused")


def test_held_out_shares_are_disjoint_and_tested(
    tiny: Tiny, tmp_path: Path, toy_files: dict[str, Path]
) -> None:
    summary = train(tiny("data.val=0.2", "data.test=0.3"), tmp_path / "run")
    assert summary["jets"] == {"train": 200, "val": 80, "test": 120}
    assert len(np.load(tmp_path / "run/scores/test.npz")["labels"]) == 120


def test_several_test_samples_are_reported_by_name(
    tiny: Tiny, tmp_path: Path, toy_files: dict[str, Path]
) -> None:
    config = tiny(f"data.test={{generated: '{toy_files['test']}', other: '{toy_files['val']}'}}")
    summary = train(config, tmp_path / "run")
    assert summary["test"]["jets"] == 240
    assert {name: report["jets"] for name, report in summary["tests"].items()} == {"other": 200}
    assert (tmp_path / "run/scores/other.npz").is_file()


def test_further_test_sets_are_scored_where_they_are_and_named_where_they_are_not(
    tiny: Tiny, tmp_path: Path, toy_files: dict[str, Path]
) -> None:
    notes = Notes()
    further = f"data.further_tests={{here: '{toy_files['val']}', elsewhere: 'not/here.root'}}"
    summary = train(tiny(further, "training.epochs=1"), tmp_path / "run", progress=notes)
    assert list(summary["tests"]) == ["here"]
    assert any("not/here.root is not here" in text for text in notes.found("elsewhere: not scored"))


def test_fine_tuning_keeps_all_but_the_last_layer(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny("training.epochs=1"), tmp_path / "first")
    classes = ("label_QCD", "label_Wqq", "label_Tbqq")
    three = write_toy_jets(tmp_path / "three.root", 150, classes=classes)
    config = tiny(f"training.init_from={tmp_path / 'first'}", f"data.train={three}", "data.val=0.2",
    "data.test=0.2",
                  "training.epochs=1", "training.learning_rate=1e-9", "training.weight_decay=0")  # fmt: skip
    train(config, tmp_path / "second")
    before, after = (load_model(tmp_path / name).state_dict() for name in ("first", "second"))
    same = [name for name in before if before[name].shape == after[name].shape]
    assert len(same) == len(before) - 2
    floats = [name for name in same if before[name].is_floating_point() and "running" not in name]
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in floats)


def test_weights_of_another_architecture_are_refused_for_fine_tuning(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny("training.epochs=1"), tmp_path / "first")
    with pytest.raises(ModelError, match="numbers are in these weights"):
        train(tiny(f"training.init_from={tmp_path / 'first'}", "model.phi=[24, 24]"), tmp_path / "second")


def test_pretrained_weights_bring_their_architecture(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny("training.epochs=1"), tmp_path / "first")
    config = tiny(
        f"model={{pretrained: '{tmp_path / 'first'}'}}", "training.epochs=1", "training.freeze=[phi]"
    )
    train(config, tmp_path / "second")
    before, after = (load_model(tmp_path / name) for name in ("first", "second"))
    assert after.hepml_hyperparameters == before.hepml_hyperparameters
    frozen = [name for name in before.state_dict() if name.startswith("phi") and "running" not in name]
    assert frozen
    assert all(torch.equal(before.state_dict()[n], after.state_dict()[n]) for n in frozen)


def test_pretrained_weights_keep_their_architecture_where_the_config_names_the_model_and_is_silent(
    tiny: Tiny, tmp_path: Path
) -> None:
    train(
        tiny("model={name: pfn, phi: [16, 12], f: [16], dropout: 0.1}", "training.epochs=1"),
        tmp_path / "first",
    )
    config = tiny(
        f"model={{name: pfn, pretrained: '{tmp_path / 'first'}', dropout: 0.3}}", "training.epochs=1"
    )
    train(config, tmp_path / "second")
    before, after = (load_model(tmp_path / name).hepml_hyperparameters for name in ("first", "second"))
    assert (after["phi"], after["f"]) == (before["phi"], before["f"])
    assert after["dropout"] == 0.3, "what the config says goes before"


@pytest.mark.parametrize("how", ["training.freeze_norms=true", "training.freeze=[bn_fts, edge_convs]"])
def test_frozen_norms_keep_their_statistics(tiny: Tiny, tmp_path: Path, how: str) -> None:
    lite = "model={name: particlenet_lite, widths: [[8, 8], [8, 8]], neighbours: 4, head: [8]}"
    train(tiny(lite, "training.epochs=1"), tmp_path / "first")
    start = f"training.init_from={tmp_path / 'first'}"
    train(tiny(lite, start, how, "training.epochs=1"), tmp_path / "kept")
    train(tiny(lite, start, "training.epochs=1"), tmp_path / "learnt")
    first, kept, learnt = (load_model(tmp_path / name).state_dict() for name in ("first", "kept", "learnt"))
    statistics = [name for name in first if "running" in name]
    assert len(statistics) >= 10
    assert all(torch.equal(first[name], kept[name]) for name in statistics)
    assert not any(torch.equal(first[name], learnt[name]) for name in statistics)
    assert not torch.equal(first["fc.1.weight"], kept["fc.1.weight"]), "what is not frozen learns"


def test_given_weights_learn_at_their_own_rate(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny("training.epochs=1"), tmp_path / "first")
    classes = ("label_QCD", "label_Wqq", "label_Tbqq")
    three = write_toy_jets(tmp_path / "three.root", 150, classes=classes)
    config = tiny(
        f"training.init_from={tmp_path / 'first'}",
        f"data.train={three}",
        "data.val=0.2",
        "data.test=0.2",
        "training.epochs=1",
        "training.pretrained_rate=1e-9",
        "training.weight_decay=0",
    )
    train(config, tmp_path / "second")
    before, after = (load_model(tmp_path / name).state_dict() for name in ("first", "second"))
    old = [n for n in before if before[n].shape == after[n].shape and before[n].is_floating_point()]
    assert all(torch.allclose(before[n], after[n], atol=1e-6) for n in old)
    torch.manual_seed(0)
    fresh = create("pfn", phi=(16, 16), f=(16,), outputs=3).state_dict()
    (new,) = [n for n in after if n not in old and after[n].ndim == 2]
    assert (after[new] - fresh[new]).abs().max() > 1e-4, "the new layer learns at the full rate"


def test_resuming_for_fewer_epochs_than_there_were_is_refused_with_the_mend(
    tiny: Tiny, tmp_path: Path
) -> None:
    train(tiny("training.epochs=3"), tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"3 epochs behind it, training.epochs asks for 2.*training.epochs=3"
    ):
        train(tiny("training.epochs=2"), tmp_path / "run", resume=True)


def test_a_loaded_model_says_what_it_was_trained_for(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny("training.epochs=1"), tmp_path / "run")
    for path in (tmp_path / "run", tmp_path / "run/checkpoints/last.ckpt"):
        model = hepml.load_model(path)
        assert not model.training
        assert (model.hepml_name, model.hepml_objective.name) == ("pfn", "categorical")
        assert [c.removeprefix("label_") for c in model.hepml_classes] == ["QCD", "Tbqq"]


# ------------------------------------------------------------------ bad input


def test_training_jets_of_one_class_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    arrays = toy_arrays(60)
    arrays["label_QCD"][:], arrays["label_Tbqq"][:] = 1, 0
    with pytest.raises(DataError, match="only of class 'QCD'"):
        train(tiny(f"data.train={write_toy_jets(tmp_path / 'one.root', arrays=arrays)}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_test_jets_of_one_class_are_refused_before_the_training(tiny: Tiny, tmp_path: Path) -> None:
    arrays = toy_arrays(60)
    arrays["label_QCD"][:], arrays["label_Tbqq"][:] = 1, 0
    one = write_toy_jets(tmp_path / "one.root", arrays=arrays)
    with pytest.raises(DataError, match="all 60 test jets 'odd' are of class 'QCD'"):
        train(tiny(f"data.test={{odd: {one}}}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    nothing_is_scored = ("pretraining={masked: 0.3}", "training.epochs=1", f"data.test={{odd: {one}}}")
    assert train(tiny(*nothing_is_scored), tmp_path / "pretrained")["epochs"] == 1


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lower training\.learning_rate"):
        train(
            tiny("training.learning_rate=1e30", "training.optimizer=sgd", "training.schedule=constant"),
            tmp_path / "run",
        )
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "FAILED"


def test_a_full_disk_gives_one_line_and_leaves_no_half_checkpoint(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up in the second epoch: the checkpoints of the first stay whole."""
    import hepml.training.checkpoints as module

    real_fsync, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
        if ".ckpt" in target:
            calls.append(target)
            if len(calls) > 2:
                raise OSError(28, "No space left on device")
        real_fsync(descriptor)

    monkeypatch.setattr(module.os, "fsync", fsync)
    with pytest.raises(
        FileError, match=r"cannot write \w+\.ckpt: No space left on device.*--resume"
    ) as caught:
        train(tiny(), tmp_path / "run")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert {p.name for p in (tmp_path / "run/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert load_model(tmp_path / "run").hepml_name == "pfn"
    assert train(tiny(), tmp_path / "run", resume=True)["epochs"] == 3


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    (tmp_path / "blocked").write_text("a file where a folder should be")
    with pytest.raises(FileError):
        write_atomically(tmp_path / "blocked" / "file", b"new")
    assert path.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blocked", "file"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(HepmlError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert "x.ckpt" in str(caught.value)


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such run or checkpoint"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(FileError, match="no checkpoint in this folder"):
        load_model(tmp_path)
