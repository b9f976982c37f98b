"""A checkpoint is loaded as it was written, or refused in one line."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hepml
from hepml.errors import HepmlError
from hepml.models import create
from hepml.training.checkpoints import AtomicCheckpointIO, epochs_of, load_model, read_checkpoint

ODD = {"number": 1.5, "list of numbers": [1, 2], "mapping of mappings": {1: {2: 3}}}


def _content() -> dict[str, Any]:
    torch.manual_seed(3)
    model = create("topodnn", outputs=2)
    return {
        "epoch": 0, "global_step": 1, "loops": {}, "callbacks": {}, "optimizer_states": [],
        "lr_schedulers": [],
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        "hepml": {"version": "1", "name": "topodnn", "hyperparameters": dict(model.hepml_hyperparameters),
                  "objective": {"name": "categorical", "arguments": {"classes": 2}},
                  "classes": ["QCD", "Tbqq"], "target": None, "layout": None, "config": None},
    }  # fmt: skip


def _write(content: Any, path: Path) -> Path:
    AtomicCheckpointIO().save_checkpoint(content, path)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(_content(), tmp_path_factory.mktemp("whole") / "best.ckpt")


def _refused(path: Path) -> str | None:
    told = None
    try:
        load_model(path)
    except HepmlError as problem:
        told = str(problem)
    assert told is None or ("\n" not in told and str(path) in told)
    return told


def test_a_flipped_bit_loads_no_other_weights(whole: Path, tmp_path: Path) -> None:
    data = bytearray(whole.read_bytes())
    draw = np.random.default_rng(5)
    truth = load_model(whole).state_dict()
    refused = 0
    for _ in range(120):
        at = int(draw.integers(8 * len(data)))
        data[at // 8] ^= 1 << at % 8
        (tmp_path / "x.ckpt").write_bytes(data)
        data[at // 8] ^= 1 << at % 8
        if _refused(tmp_path / "x.ckpt"):
            refused += 1
        else:
            read = load_model(tmp_path / "x.ckpt").state_dict()
            assert all(torch.equal(truth[name], read[name]) for name in truth)
    assert refused > 100


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused(whole: Path, tmp_path: Path, share: float) -> None:
    data = whole.read_bytes()
    (tmp_path / "x.ckpt").write_bytes(data[: int(share * len(data))])
    assert _refused(tmp_path / "x.ckpt")


def test_weights_that_another_program_put_into_a_checkpoint_are_refused(whole: Path, tmp_path: Path) -> None:
    content = torch.load(whole, weights_only=True)
    first = next(iter(content["state_dict"]))
    content["state_dict"][first] = content["state_dict"][first] + 1
    torch.save(content, tmp_path / "x.ckpt")
    assert "damaged" in str(_refused(tmp_path / "x.ckpt"))


def _variants() -> dict[str, Any]:
    whole = _content()
    found: dict[str, Any] = {"a list": [1, 2], "a number": 3, "nothing": None, "empty": {}}
    for key in ("hepml", "state_dict"):
        for name, value in {"none": None, "text": "x", "list": [1], "number": 1.5, "empty": {}}.items():
            found[f"{key} {name}"] = {**whole, key: value}
    for key in ("name", "hyperparameters"):
        lacking = copy.deepcopy(whole)
        del lacking["hepml"][key]
        found[f"without hepml.{key}"] = lacking
    for key in whole["hepml"]:
        for name, value in {
            "number": 1.5,
            "list of numbers": [1, 2],
            "mapping of mappings": {1: {2: 3}},
        }.items():
            if (key, name) in {("target", "list of numbers"), ("layout", "mapping of mappings")}:
                continue
            if key in ("config", "version"):
                continue  # never needed to score jets
            changed = copy.deepcopy(whole)
            changed["hepml"][key] = value
            found[f"hepml.{key} {name}"] = changed
    odd = copy.deepcopy(whole)
    odd["state_dict"][next(iter(odd["state_dict"]))] = "text"
    found["a weight that is text"] = odd
    odd = copy.deepcopy(whole)
    odd["hepml"]["hyperparameters"] = {"layers": {"a": "b"}, "hidden": "wide"}
    found["hyperparameters of other kinds"] = odd
    odd = copy.deepcopy(whole)
    odd["hepml"]["objective"] = {"name": "gaussian", "arguments": {"classes": "two"}}
    found["an objective of other arguments"] = odd
    return found


@pytest.mark.parametrize(("name", "content"), _variants().items(), ids=list(_variants()))
def test_a_malformed_checkpoint_is_refused_in_one_line(name: str, content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    assert _refused(tmp_path / "x.ckpt")
    with pytest.raises(HepmlError):
        hepml.pretrained.load(tmp_path / "x.ckpt")


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "hepml": pickle.Pickler}, tmp_path / "x.ckpt")
    assert "Python objects" in str(_refused(tmp_path / "x.ckpt"))


@pytest.mark.parametrize("key", ["epoch", "loops", "callbacks", "optimizer_states", "state_dict"])
def test_a_run_does_not_go_on_from_a_checkpoint_that_lacks_something(key: str, tmp_path: Path) -> None:
    for change in ({}, {key: "text"}):
        content = {k: v for k, v in _content().items() if k != key} | change
        torch.save(content, tmp_path / "last.ckpt")
        with pytest.raises(HepmlError, match=key):
            epochs_of(tmp_path / "last.ckpt")
    assert epochs_of(_write(_content(), tmp_path / "last.ckpt")) == 0


def test_a_checkpoint_without_a_digest_is_read(whole: Path, tmp_path: Path) -> None:
    torch.save(_content(), tmp_path / "old.ckpt")
    assert set(read_checkpoint(whole)) - set(read_checkpoint(tmp_path / "old.ckpt")) == {"hepml_digest"}
    assert load_model(tmp_path / "old.ckpt")
