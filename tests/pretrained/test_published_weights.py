"""Published weights are fetched by name, checked, and found by name; the quark-gluon LorentzNet loads."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

import hepml
from hepml import models, pretrained
from hepml.data.batch import JetBatch
from hepml.data.features import IDENTITY
from hepml.errors import HepmlError
from hepml.pretrained import published


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A loopback server of a folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/", folder
        running.shutdown()


def test_weights_are_fetched_checked_and_found_by_name(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("HEPML_DATA", str(data))
    weights = replace(published.PUBLISHED["lorentznet_toptag"], base=address)
    (folder / weights.file).write_bytes(b"weights")
    good = replace(weights, sha256=hashlib.sha256(b"weights").hexdigest())
    bad = replace(weights, sha256=hashlib.sha256(b"others").hexdigest())
    with pytest.raises(HepmlError, match="checksum"):
        published.fetch("lorentznet_toptag", registry={"lorentznet_toptag": bad})
    assert published.find("lorentznet_toptag") is None
    path = published.fetch("lorentznet_toptag", registry={"lorentznet_toptag": good})
    assert path.read_bytes() == b"weights"
    assert published.find("lorentznet_toptag") == path
    with pytest.raises(HepmlError, match="lorentznet_toptag"):
        published.fetch("lorentznet_topta")


def test_weights_of_our_own_come_with_hepml(tmp_path: Path, toptag: Path) -> None:
    ours = [name for name, weights in published.PUBLISHED.items() if not weights.base]
    assert ours == ["efp_mlp_toptag"]
    jets = hepml.read_jets(toptag / "val.root", classes=["QCD", "Tbqq"])
    for name in ours:
        weights, file = published.PUBLISHED[name], published.fetch(name)
        assert hashlib.sha256(file.read_bytes()).hexdigest() == weights.sha256
        assert published.fetch(name, tmp_path / "new").read_bytes() == file.read_bytes()
        scores = hepml.predict(name, jets)
        assert np.array_equal(scores, hepml.predict(hepml.pretrained.load(name), jets))
        assert 0.975 < hepml.evaluate(jets.label, scores[:, 1])["auc"] < 0.990


def test_weights_known_by_gits_name_of_them_are_checked(server: tuple[str, Path], tmp_path: Path) -> None:
    """`git hash-object` of the file: what a repository says of it without giving it."""
    address, folder = server
    weights = replace(published.PUBLISHED["part_jetclass"], base=address)
    assert len(weights.blob) == 40
    (folder / weights.file).write_bytes(b"hello\n")
    good = replace(weights, blob="ce013625030ba8dba906f756967f9e9ca394464a")
    with pytest.raises(HepmlError, match="checksum"):
        published.fetch("part_jetclass", tmp_path / "here", registry={"part_jetclass": weights})
    assert not (tmp_path / "here" / "part_jetclass.pt").exists()
    path = published.fetch("part_jetclass", tmp_path / "here", registry={"part_jetclass": good})
    assert path.read_bytes() == b"hello\n"


def test_the_quark_gluon_lorentznet_loads_as_published(tmp_path: Path) -> None:
    model = models.create(
        "lorentznet",
        n_hidden=8,
        n_blocks=2,
        features="identity",
        c=1e-3,
        nodes=139,
        vectors="components",
        update_limit=100.0,
    ).eval()
    state = {
        "module." + name.replace("blocks.", "LGEBs.", 1).replace("head.", "graph_dec.", 1): value
        for name, value in model.state_dict().items()
    }
    torch.save(state, tmp_path / "best-val-model.pt")
    loaded = pretrained.load(tmp_path / "best-val-model.pt")
    assert loaded.inputs.features == IDENTITY
    p = np.random.default_rng(0).normal(size=(5, 3))
    momenta = np.concatenate((np.linalg.norm(p, axis=1, keepdims=True), p), axis=1).astype(np.float32)
    kinds = np.eye(8, dtype=np.float32)[[0, 4, 2, 2, 7]]
    jets = JetBatch.from_arrays(momenta, [0, 3, 5], kinds, feature_names=IDENTITY)
    assert torch.equal(loaded(jets), model(jets))
