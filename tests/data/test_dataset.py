"""Data sets: the cache equals memory and is never left half-written; samples, splits, weights, digests;
bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.reading.report import DataReport
from hepml.errors import DataError, FileError

INPUTS = Inputs(features=("log_pt", "d0"), jet_features=("jet_sdmass", "jet_mass"))


def test_a_cached_data_set_equals_one_in_memory(write, arrays, tmp_path) -> None:
    path = write(arrays, baskets=3)
    memory = JetDataset.open(path, INPUTS, jet_columns="all")
    for _ in range(2):  # built, then read back
        cached = JetDataset.open(path, INPUTS, jet_columns="all", cache=tmp_path / "cache")
        assert cached.digest == memory.digest
        assert cached.classes == memory.classes
        assert cached.report.as_dict() == memory.report.as_dict()
        assert np.array_equal(cached.jet_columns["jet_pt"], memory.jet_columns["jet_pt"])
        a, b = cached.batch([5, 0, 17]), memory.batch([5, 0, 17])
        assert torch.equal(a.features, b.features)
        assert torch.equal(a.jet_features, b.jet_features)
        assert torch.equal(a.jets, b.jets)
    assert len(os.listdir(tmp_path / "cache")) == 1


def test_a_cache_is_made_anew_when_file_or_request_change(write, arrays, tmp_path) -> None:
    cache = tmp_path / "cache"
    path = write(arrays)
    first = JetDataset.open(path, INPUTS, cache=cache)
    assert len(JetDataset.open(path, INPUTS, cache=cache, selection="jet_pt > 600")) < len(first)
    assert JetDataset.open(path, Inputs(), cache=cache).features is None
    time.sleep(0.01)
    write({n: v[:30] for n, v in arrays.items()})
    assert len(JetDataset.open(path, INPUTS, cache=cache)) == 30
    assert len(os.listdir(cache)) == 4


def test_a_failed_build_leaves_nothing_behind(write, arrays, tmp_path, monkeypatch) -> None:
    path, cache = write(arrays), tmp_path / "cache"

    def full_disk(*anything: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hepml.data.cache._write_meta", full_disk)
    with pytest.raises(FileError, match=r"the cache cannot be written .No space left on device"):
        JetDataset.open(path, INPUTS, cache=cache)
    assert os.listdir(cache) == []


def test_a_damaged_cache_is_named(write, arrays, tmp_path) -> None:
    path, cache = write(arrays), tmp_path / "cache"
    JetDataset.open(path, INPUTS, cache=cache)
    (home,) = cache.iterdir()
    (home / "features.bin").write_bytes(b"123")
    with pytest.raises(FileError, match=r"the cache is damaged.*delete this folder"):
        JetDataset.open(path, INPUTS, cache=cache)


@pytest.mark.parametrize("cached", [False, True])
def test_max_jets_is_a_random_sample_of_all_jets(write, arrays, tmp_path, cached, monkeypatch) -> None:
    """Files are often sorted by class: the first so many would be of one."""
    arrays = {n: v[np.argsort(np.arange(60) % 2, kind="stable")] for n, v in arrays.items()}
    path = write(arrays, baskets=6)
    monkeypatch.setattr("hepml.data.reading.tree_reader.IN_CACHE", 10)
    sample = JetDataset.open(path, INPUTS, max_jets=20, cache=tmp_path / "c" if cached else None)
    assert len(sample) == 20
    assert sample.report.not_taken == 40
    assert sum(sample.report.classes.values()) == 20
    assert min(sample.report.classes.values()) >= 4
    assert len(np.unique(sample.entries)) == 20
    whole = JetDataset.open(path, INPUTS)
    assert torch.equal(sample.batch(slice(None)).features, whole.batch(sample.entries).features)
    assert len(JetDataset.open(path, INPUTS, max_jets=1000)) == 60


def test_weights_come_from_the_layout_or_a_column_or_not_at_all(write, arrays) -> None:
    weight = np.linspace(0.5, 2, 60).astype(np.float32)
    path = write({**arrays, "weight": weight})
    assert np.array_equal(JetDataset.open(path).weights, weight)
    assert np.array_equal(JetDataset.open(path, weights=True).weights, weight)
    assert JetDataset.open(path, weights=False).weights is None
    assert np.array_equal(JetDataset.open(path, weights="jet_pt").weights, arrays["jet_pt"])


def test_a_target_replaces_labels(write, arrays) -> None:
    dataset = JetDataset.open(write(arrays), INPUTS, target="jet_sdmass")
    assert np.array_equal(dataset.labels, arrays["jet_sdmass"])
    assert dataset.labels.dtype == torch.float32
    assert dataset.classes == ()


def test_parts_of_a_split_are_disjoint_and_complete(write, arrays) -> None:
    whole = JetDataset.open(write(arrays), INPUTS, jet_columns=["jet_pt"])
    a, b = whole.split(0.25, seed=3)
    assert (len(a), len(b)) == (45, 15)
    assert sorted([*a.entries, *b.entries]) == list(range(60))
    assert a.report.classes["QCD"] + b.report.classes["QCD"] == 30
    assert np.array_equal(b.jet_columns["jet_pt"], arrays["jet_pt"][b.entries])


def test_the_digest_is_of_the_content(write, arrays) -> None:
    a = JetDataset.open(write(arrays, "a.root"), INPUTS)
    b = JetDataset.open(write(arrays, "b.root", baskets=5), INPUTS)
    assert a.digest == b.digest
    arrays["part_d0val"] = arrays["part_d0val"] * np.float32(1.001)
    assert JetDataset.open(write(arrays, "c.root"), INPUTS).digest != a.digest


def test_a_report_survives_being_written(write, arrays) -> None:
    report = JetDataset.open(write(arrays), INPUTS, selection="jet_pt > 600").report
    report.add_bad("NaN or infinite 'd0'", 2, "x.root, entry 3")
    assert str(DataReport.from_dict(report.as_dict())) == str(report)


def test_npz_labels_count_the_classes_that_were_asked_for(tmp_path) -> None:
    p = np.abs(np.random.default_rng(0).normal(size=(6, 4))).astype(np.float32) + 1
    p[:, 0] += 10
    np.savez(tmp_path / "j.npz", four_momenta=p, offsets=[0, 2, 4, 6], labels=[0, 1, 1])
    dataset = JetDataset.open(tmp_path / "j.npz", classes=["QCD", "Tbqq"])
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.report.classes == {"QCD": 1, "Tbqq": 2}
    with pytest.raises(DataError, match=r"label 1 for 1 classes"):
        JetDataset.open(tmp_path / "j.npz", classes=["QCD"])
    np.savez(
        tmp_path / "k.npz", four_momenta=p, offsets=[0, 2, 4, 6], labels=[0, 1, 1], classes=["Tbqq", "QCD"]
    )
    assert JetDataset.open(tmp_path / "k.npz", classes=["QCD", "Tbqq"]).labels.tolist() == [1, 0, 0]


def test_memory_stays_bounded_whatever_the_number_of_files(write, tmp_path) -> None:
    """Building a cache of ten times the jets takes hardly more memory: chunks are let go, and the cache is
    mapped, not held."""
    from toys import toy_arrays

    path = write(toy_arrays(4000, seed=1), baskets=4)
    script = textwrap.dedent(
        """
        import sys
        from hepml.data.dataset import JetDataset
        from hepml.data.features import FULL
        from hepml.data.inputs import Inputs

        def peak():  # ru_maxrss would be that of the process that started this one
            return int(next(s for s in open("/proc/self/status") if s.startswith("VmHWM")).split()[1])

        path, cache, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
        JetDataset.open(path, Inputs(features=FULL), cache=cache)  # imports and first buffers
        before = peak()
        dataset = JetDataset.open([path] * times, Inputs(features=FULL), cache=cache)
        after = peak()
        print((after - before) / 1024, dataset.features.nbytes / 2**20 + dataset.four_momenta.nbytes / 2**20)
        """
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(path), str(tmp_path / "cache"), "30"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    grown, data = map(float, run.stdout.split())
    assert data > 120
    assert grown < 0.4 * data
