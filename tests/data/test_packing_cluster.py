"""Packing on a dask cluster: the bytes of packing in one process, and one line where there is no cluster."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from toys import toy_arrays

from hepml.data import shards
from hepml.data.cache import verify
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.packing_cluster import packing_on
from hepml.errors import ConfigError, DataError

INPUTS = Inputs(features=("log_pt", "delta_eta", "charge"))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def scheduler():
    distributed = pytest.importorskip("distributed", reason="dask is in the extra `dask`")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def test_a_cluster_packs_the_bytes_that_one_process_packs(write, tmp_path, scheduler, monkeypatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 4)  # 20 entries a task
    files = [
        str(write(toy_arrays(60, seed=3), "a.root", baskets=4)),
        str(write(toy_arrays(45, seed=4), "b.root", ntuple=True)),
    ]
    done = []
    with packing_on(scheduler, tell=lambda n, of: done.append((n, of))) as pack:
        ours = JetDataset.open(files, INPUTS, cache=tmp_path / "cluster", write=pack)
        with pytest.raises(DataError, match="no jets left"):
            JetDataset.open(files, INPUTS, selection="jet_pt > 1e9", cache=tmp_path / "none", write=pack)
    theirs = JetDataset.open(files, INPUTS, cache=tmp_path / "local")
    assert ours.digest == theirs.digest
    assert contents(tmp_path / "cluster") == contents(tmp_path / "local")
    assert list(verify(tmp_path / "cluster").values()) == [[]]
    assert done[-1][0] == done[-1][1] >= 4
    assert not list((tmp_path / "none").glob("*")), "nothing is left of a packing that failed"


def test_where_there_is_no_cluster_it_is_said_in_one_line(monkeypatch) -> None:
    monkeypatch.setattr("hepml.data.packing_cluster._WAIT", 0.2)
    with (
        pytest.raises(ConfigError, match=r"no dask cluster at tcp://127\.0\.0\.1:9 .*give tcp://HOST:PORT"),
        packing_on("tcp://127.0.0.1:9"),
    ):
        pass
    monkeypatch.setenv("PATH", "")
    for system, command in (("slurm", "sbatch"), ("htcondor", "condor_submit")):
        with pytest.raises(ConfigError, match=f"there is no {command} here"), packing_on(system):
            pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"needs dask.*hepml-jets\[dask\]"), packing_on("slurm"):
        pass
