"""A run's tagger gets a name in MLflow's registry, and is predicted with and served by that name."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hepml
from hepml import tracking
from hepml.cli.main import main
from hepml.errors import HepmlError
from hepml.tracking import registry

pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def promoted(
    toy_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, dict[str, Any]]:
    """A trained run, its store, and what `hepml runs promote` said."""
    folder = tmp_path_factory.mktemp("registry")
    store = f"sqlite:///{folder}/mlflow.db"
    config = folder / "c.yaml"
    config.write_text(
        f"data: {{train: {toy_files['train']}, val: {toy_files['val']}}}\n"
        "model: {name: pfn, phi: [8], f: [8]}\n"
        "training: {epochs: 1, batch_size: 60}\n"
        f"tracking: {{uri: '{store}'}}\n"
    )
    run = folder / "run"
    assert main(["train", str(config), "-q", "-o", str(run)]) == 0
    words = ["runs", "promote", str(run), "--name", "top-tagger", "--alias", "champion", "--json"]
    told = subprocess.run(
        [sys.executable, "-m", "hepml", *words], capture_output=True, text=True, check=True
    ).stdout
    return run, store, json.loads(told)


@pytest.mark.slow
def test_a_promoted_run_is_predicted_with_and_exported_by_its_name(
    promoted: tuple[Path, str, dict[str, Any]],
    toy_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mlflow

    run, store, told = promoted
    assert told["address"] == "models:/top-tagger@champion"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    scores = []
    for tagger in (str(run), told["address"]):
        out = tmp_path / f"{len(scores)}.npz"
        assert main(["predict", tagger, str(toy_files["test"]), "-o", str(out), "-q"]) == 0
        with np.load(out) as found:
            scores.append({name: found[name] for name in found if name.startswith("score_")})
    assert scores[0].keys() == scores[1].keys()
    for name, values in scores[0].items():
        np.testing.assert_allclose(scores[1][name], values, rtol=0, atol=1e-6)
    assert hepml.load_model(told["address"]).hepml_classes == hepml.load_model(run).hepml_classes
    # the ONNX file among the run's artifacts has a signature of its own
    network = mlflow.pyfunc.load_model(told["onnx"])
    assert network.metadata.signature.inputs.input_names() == ["four_momenta", "mask"]
    padded = {
        "four_momenta": np.ones((2, 3, 4), np.float32) * np.array([2, 1, 1, 0.5], np.float32),
        "mask": np.array([[True, True, False], [True, False, False]]),
    }
    given = hepml.predict(hepml.load_model(run), padded["four_momenta"], mask=padded["mask"])
    found = network.predict(padded)
    np.testing.assert_allclose(found["probabilities"], given, rtol=0, atol=1e-5)


def test_a_registered_model_comes_back_and_a_wrong_name_is_answered_with_those_there_are(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hepml.models.create("pfn", phi=(8,), f=(8,)).eval()
    jets = hepml.JetBatch.from_arrays(
        [[50.0, 30.0, 40.0, 0.0], [13.0, 12.0, 5.0, 0.0]], [0, 1, 2], dtype=torch.float32
    )
    tracker = tracking.start(tmp_path / "run", uri=store, system_interval=0)
    tracker.model(model, jets, classes=["QCD", "top"])
    assert tracker.finish() is None
    for alias in ("champion", None):
        promoted = registry.promote(
            tracking.open_run(tmp_path / "run"), "top-tagger", alias, onnx="none: later"
        )
    assert promoted.address == "models:/top-tagger/2"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    for address in ("models:/top-tagger@champion", "models:/top-tagger/2"):
        found = hepml.load_model(address)
        assert found.hepml_classes == ("QCD", "top")
        np.testing.assert_array_equal(hepml.predict(found, jets), hepml.predict(model, jets))
    wrong = {
        "models:/no-tagger@champion": "registered are: top-tagger",
        "models:/top-tagger@nobody": "aliases: champion",
        "models:/top-tagger/99": "versions: 1, 2",
    }
    for address, mend in wrong.items():
        with pytest.raises(HepmlError, match=mend):
            hepml.load_model(address)


@pytest.mark.slow
def test_a_served_tagger_answers_a_json_request(
    promoted: tuple[Path, str, dict[str, Any]], tmp_path: Path
) -> None:
    run, store, told = promoted
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["models", "serve", "-m", told["address"], "--env-manager", "local", "--host", "127.0.0.1"]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command, "--port", str(port)],
        env={**os.environ, "MLFLOW_TRACKING_URI": store},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(f"http://127.0.0.1:{port}/ping", server)
        momenta = [[50.0, 30.0, 40.0, 0.0], [13.0, 12.0, 5.0, 0.0], [17.0, 8.0, 15.0, 0.0]]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": {"four_momenta": momenta, "offsets": [0, 2, 3]}}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = np.array(json.loads(answer.read())["predictions"])
    finally:
        os.killpg(server.pid, 9)
        server.wait()
    jets = hepml.JetBatch.from_arrays(momenta, [0, 2, 3])
    np.testing.assert_allclose(found, hepml.predict(run, jets), rtol=0, atol=1e-6)


def _wait(address: str, server: subprocess.Popen[bytes], patience: float = 240.0) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise AssertionError("the server does not answer")
