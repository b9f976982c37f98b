"""Every kind of file that hepml reads, small, with a reader that gives all of it as text."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch
import uproot
from chaos.damage import Format
from ntuples import write_checked_ntuple
from toys import toy_arrays

import hepml
from hepml import config as configs
from hepml.data.build import Request
from hepml.data.inputs import Inputs
from hepml.data.public.convert import convert
from hepml.data.shards import StreamedJets
from hepml.data.stream_loader import StreamLoader
from hepml.evaluation.score_files import read_scores
from hepml.models import create
from hepml.training.checkpoints import AtomicCheckpointIO, load_model

JETS = 60
CONFIG = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def _digest(*parts: Any) -> str:
    h = hashlib.sha256()
    for part in parts:
        h.update(part if isinstance(part, bytes) else str(part).encode())
    return h.hexdigest()


def _arrays() -> dict[str, Any]:
    return toy_arrays(JETS, seed=3)


def write_tree(path: Path, compression: Any) -> None:
    branches = _arrays()
    types: dict[str, Any] = {
        name: f"var * {values.layout.content.dtype}" if isinstance(values, ak.Array) else values.dtype
        for name, values in branches.items()
    }
    with uproot.recreate(path, compression=compression) as file:
        file.mktree("tree", types, counter_name=lambda counted: "npart").extend(branches)


def write_ntuple(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with uproot.recreate(path, compression=uproot.ZSTD(5)) as file:
            file.mkrntuple("tree", _arrays())


def read_jets(path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jets = hepml.read_jets(path)
    columns = [jets.constituents[name] for name in ("px", "py", "pz", "energy")]
    parts = [np.asarray(ak.flatten(column)).tobytes() for column in columns]
    parts += [np.asarray(ak.num(columns[0])).tobytes(), np.asarray(jets.label).tobytes()]
    return _digest(*parts)


def read_streamed(path: Path) -> str:
    """All jets by way of data.stream: counted first, then read shard by shard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jets = StreamedJets.open(str(path), Request(Inputs(features=("log_pt",)), bad="refuse"))
        batches = list(StreamLoader(jets, 20, shuffle=True))
    parts = [t.numpy().tobytes() for b in batches for t in (b.four_momenta, b.offsets, b.labels)]
    return _digest(jets.digest, *parts)


def write_npz(path: Path) -> None:
    jets = _arrays()
    counts = ak.num(jets["part_px"])
    four = [np.asarray(ak.flatten(jets[f"part_{name}"])) for name in ("energy", "px", "py", "pz")]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    np.savez_compressed(
        path, four_momenta=np.stack(four, 1), offsets=offsets, labels=np.arange(JETS) % 2,
        weights=np.ones(JETS), classes=np.array(["QCD", "top"]),
    )  # fmt: skip


def convert_npz(path: Path) -> str:
    out = path.with_name("converted.root")
    out.unlink(missing_ok=True)
    convert([path], out)
    return read_jets(out)


def write_table(path: Path) -> None:
    import pandas

    draw = np.random.default_rng(3)
    p = np.abs(draw.normal(size=(20, 5, 3))) + 1
    four = np.concatenate([np.linalg.norm(p, axis=2, keepdims=True), p], axis=2)
    names = [f"{q}_{i}" for i in range(5) for q in ("E", "PX", "PY", "PZ")]
    frame = pandas.DataFrame(four.reshape(20, 20), columns=names)
    frame["is_signal_new"] = np.arange(20) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame.to_hdf(path, key="table", format="table")


def write_salt(path: Path) -> None:
    import h5py

    draw = np.random.default_rng(3)
    jets = np.zeros(
        30, dtype=[("pt", "f4"), ("eta", "f4"), ("mass", "f4"), ("HadronConeExclTruthLabelID", "i4")]
    )
    jets["pt"], jets["eta"], jets["mass"] = draw.uniform(2e4, 2e5, 30), draw.uniform(-2, 2, 30), 5e3
    jets["HadronConeExclTruthLabelID"] = draw.choice([0, 4, 5, 15], 30)
    tracks = np.zeros((30, 12), dtype=[("qOverP", "f4"), ("deta", "f4"), ("dphi", "f4"), ("valid", "?")])
    tracks["qOverP"] = draw.choice([-1, 1], tracks.shape) / draw.uniform(1e3, 5e4, tracks.shape)
    tracks["deta"], tracks["dphi"] = draw.normal(0, 0.1, tracks.shape), draw.normal(0, 0.1, tracks.shape)
    tracks["valid"] = draw.random(tracks.shape) < 0.6
    with h5py.File(path, "w") as file:
        for name, array in {"jets": jets, "tracks": tracks}.items():
            file.create_dataset(name, data=array, chunks=True, compression="gzip", fletcher32=True)


def write_parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {n: v.to_list() if isinstance(v, ak.Array) else v for n, v in _arrays().items()}
    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table, path, write_page_checksum=True)


def write_checkpoint(path: Path) -> None:
    torch.manual_seed(3)
    model = create("pfn", outputs=2, phi=[8, 8], f=[8])
    content = {
        "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        "hepml": {"version": "1", "name": "pfn", "hyperparameters": dict(model.hepml_hyperparameters),
                  "objective": {"name": "categorical", "arguments": {"classes": 2}},
                  "classes": ["QCD", "Tbqq"], "target": None, "layout": None, "config": None},
    }  # fmt: skip
    AtomicCheckpointIO().save_checkpoint(content, path)


def read_checkpoint(path: Path) -> str:
    model = load_model(path)
    parts = [f"{name}{tensor.tolist()}" for name, tensor in model.state_dict().items()]
    return _digest(*parts, model.hepml_name, model.hepml_classes, model.hepml_hyperparameters)


def write_scores(path: Path) -> None:
    draw = np.random.default_rng(3)
    arrays = {"labels": np.arange(300) % 2, "one": draw.random(300), "two": draw.random(300)}
    if path.suffix == ".npz":
        np.savez_compressed(path, **arrays)
        return
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        columns = {"score_QCD": arrays["one"], "score_top": 1 - arrays["one"], "label": arrays["labels"]}
        file.mktree("tree", {name: values.dtype for name, values in columns.items()}).extend(columns)


def scores(path: Path) -> str:
    sheet = read_scores(path)
    parts = [
        f"{name}{values.tolist()}" for name, values in sorted(sheet.taggers.items()) if name != path.stem
    ]
    parts += [str(values.tolist()) for name, values in sheet.taggers.items() if name == path.stem]
    return _digest(sheet.labels.tolist(), *parts)


def read_config(path: Path) -> str:
    return str(configs.load(path).values)


# YAML and HDF5 have no checksums; ROOT checks zlib, lzma and LZ4, and neither zstd nor raw baskets
FORMATS = (
    Format("TTree, zlib", lambda p: write_tree(p, uproot.ZLIB(4)), read_jets, ".root", checked=False),
    Format("TTree, LZ4", lambda p: write_tree(p, uproot.LZ4(4)), read_jets, ".root", checked=False),
    Format("TTree, zstd", lambda p: write_tree(p, uproot.ZSTD(5)), read_jets, ".root", checked=False),
    Format("TTree, raw", lambda p: write_tree(p, None), read_jets, ".root", checked=False),
    Format("RNTuple", write_ntuple, read_jets, ".root", checked=False),
    Format(
        "RNTuple, as ROOT writes it",
        lambda p: write_checked_ntuple(p, _arrays()),
        read_jets,
        ".root",
        checked=True,
    ),
    Format("TTree, streamed", lambda p: write_tree(p, uproot.LZ4(4)), read_streamed, ".root", checked=False),
    Format("npz", write_npz, read_jets, ".npz", checked=True),
    Format("npz, converted", write_npz, convert_npz, ".npz", checked=True),
    Format("HDF5, pandas", write_table, read_jets, ".h5", checked=False),
    Format("HDF5, converted", write_table, convert_npz, ".h5", checked=False),
    Format("HDF5, salt", write_salt, read_jets, ".h5", checked=False),
    Format("Parquet", write_parquet, read_jets, ".parquet", checked=False),
    Format("checkpoint", write_checkpoint, read_checkpoint, ".ckpt", checked=True),
    Format("scores, npz", write_scores, scores, ".npz", checked=True),
    Format("scores, ROOT", write_scores, scores, ".root", checked=False),
    Format("YAML", lambda p: p.write_bytes(CONFIG.read_bytes()), read_config, ".yaml", checked=False),
)
