"""Jets that stay in their files: the same jets as in memory, each once an epoch over all ranks, in an order
that resumes bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import toy_arrays

from hepml.data import shards, stream_loader
from hepml.data.build import Request
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.loader import JetLoader
from hepml.data.shards import StreamedJets
from hepml.data.stream_loader import StreamLoader, loader_of
from hepml.errors import ConfigError, DataError, FileError

INPUTS = Inputs(features=("log_pt", "delta_eta", "charge"))


@pytest.fixture
def files(write, monkeypatch):
    """Two files of 60 and 45 jets, in shards of about ten and pools of two or three of them."""
    monkeypatch.setattr(shards, "SHARD", 10)
    monkeypatch.setattr(stream_loader, "POOL_BYTES", 12_000)
    monkeypatch.setattr(stream_loader, "PIECE", 17)
    monkeypatch.setattr("hepml.data.reading.tree_reader.IN_CACHE", 7)
    first = toy_arrays(60, seed=3)
    bad = np.where(np.arange(60) == 7, np.nan, 1).astype(np.float32)  # one that is dropped
    first["part_px"] = first["part_px"] * bad
    return [str(write(first, "a.root", baskets=4)), str(write(toy_arrays(45, seed=4), "b.root", ntuple=True))]


@pytest.fixture
def streamed(files):
    return StreamedJets.open(files, Request(inputs=INPUTS))


def same(one, other) -> None:
    for name in ("four_momenta", "offsets", "features", "labels", "weights", "jet_momenta", "index"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        assert a is None or torch.equal(a, b), name


def test_streamed_jets_are_those_in_memory(files, streamed) -> None:
    whole = JetDataset.open(files, INPUTS)
    assert len(streamed) == len(whole) == 104
    assert len(streamed.shards) == 8
    assert np.array_equal(streamed.counts, whole.counts)
    assert np.array_equal(streamed.labels, whole.labels)
    assert streamed.classes == whole.classes
    assert str(streamed.report) == str(whole.report)
    some = np.array([103, 0, 59, 58, 3, 3])
    same(streamed.batch(some), whole.batch(some))
    in_order = list(StreamLoader(streamed, 16, buckets=False))
    for ours, theirs in zip(in_order, JetLoader(whole, 16), strict=True):
        same(ours, theirs)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("step", [8, 10])
@pytest.mark.parametrize("buckets", [False, True])
def test_every_jet_comes_once_over_all_ranks_in_equally_many_steps(streamed, world, step, buckets) -> None:
    loaders = [
        StreamLoader(
            streamed,
            -(-step // world),
            shuffle=True,
            buckets=buckets,
            rank=r,
            world_size=world,
            step_size=step,
        )
        for r in range(world)
    ]
    for epoch in (0, 1):
        batches = []
        for loader in loaders:
            loader.set_epoch(epoch)
            batches.append(list(loader))
        assert len({len(b) for b in batches}) == 1
        assert len(batches[0]) == len(loaders[0])
        seen = np.concatenate([b.index.numpy() for own in batches for b in own])
        assert np.array_equal(np.sort(seen), np.arange(104))
        for at_once in zip(*batches, strict=True):
            assert min(len(b) for b in at_once) >= 1


def test_epochs_differ_and_an_epoch_is_the_same_again(streamed) -> None:
    def order(epoch: int, seed: int = 0) -> np.ndarray:
        loader = StreamLoader(streamed, 16, shuffle=True, seed=seed)
        loader.set_epoch(epoch)
        return np.concatenate([b.index.numpy() for b in loader])

    assert np.array_equal(order(3), order(3))
    assert not np.array_equal(order(3), order(4))
    assert not np.array_equal(order(3), order(3, seed=1))
    assert not np.array_equal(np.sort(order(0)[:50]), np.arange(50)), "jets of several files are mixed"


def test_a_resumed_epoch_goes_on_bit_for_bit(streamed) -> None:
    loader = StreamLoader(streamed, 9, shuffle=True, seed=5)
    loader.set_epoch(2)
    whole = list(loader)
    for stop in (0, 1, 5, len(whole) - 1, len(whole)):
        first = StreamLoader(streamed, 9, shuffle=True, seed=5)
        first.set_epoch(2)
        taken = iter(first)
        for _ in range(stop):
            next(taken)
        second = StreamLoader(streamed, 9, shuffle=True, seed=5)
        second.load_state_dict(first.state_dict())
        rest = list(second)
        assert len(rest) == len(whole) - stop
        for ours, theirs in zip(rest, whole[stop:], strict=True):
            same(ours, theirs)


def test_a_part_is_streamed_and_the_loader_is_chosen_by_the_data(files, streamed) -> None:
    from hepml.data.parts import Part, split

    parts = split(streamed, {"val": 0.2}, seed=1)
    in_memory = split(JetDataset.open(files, INPUTS), {"val": 0.2}, seed=1)
    assert np.array_equal(parts["val"].indices, in_memory["val"].indices), "the same jets are held out"
    loader = loader_of(parts["val"], 5, shuffle=True)
    assert isinstance(loader, StreamLoader)
    seen = np.concatenate([b.index.numpy() for b in loader])
    assert np.array_equal(np.sort(seen), parts["val"].indices)
    inner = Part(parts["train"], np.arange(0, len(parts["train"]), 3))
    seen = np.concatenate([b.index.numpy() for b in loader_of(inner, 5, buckets=True)])
    assert np.array_equal(np.sort(seen), parts["train"].indices[::3])
    assert isinstance(loader_of(in_memory["val"], 5), JetLoader)


def test_workers_give_the_same_batches_and_tell_what_is_wrong_with_a_file(files, streamed) -> None:
    ahead = list(StreamLoader(streamed, 16, shuffle=True, workers=2))
    for ours, theirs in zip(ahead, StreamLoader(streamed, 16, shuffle=True), strict=True):
        same(ours, theirs)
    with open(files[0], "r+b") as damaged:
        damaged.truncate(3000)
    with pytest.raises(FileError, match=r"a\.root"):
        list(StreamLoader(streamed, 16, workers=1))


def test_a_worker_that_is_killed_is_an_error_and_no_hang(streamed) -> None:
    from hepml.data import reading_processes

    stream = reading_processes.read_ahead(streamed.reader, streamed.shards, 1)
    next(stream)
    frame = stream.gi_frame.f_locals["pool"][0]
    frame.process.kill()
    with pytest.raises(DataError, match=r"has ended \(exit code -9\)"):
        list(stream)


def test_a_sample_of_the_jets_cannot_be_streamed(files) -> None:
    with pytest.raises(ConfigError, match=r"max_jets and data\.stream"):
        StreamedJets.open(files, Request(inputs=INPUTS, max_jets=10))
    with pytest.raises(DataError, match="no jets left"):
        StreamedJets.open(files, Request(inputs=INPUTS, selection="jet_pt > 1e9"))


def test_files_sorted_by_class_are_mixed(write, arrays, monkeypatch) -> None:
    for name, value in (("SHARD", 20), ("FEW", 4)):
        monkeypatch.setattr(shards, name, value)
    monkeypatch.setattr(stream_loader, "POOL_BYTES", 20_000)
    label = np.argsort(np.arange(60) % 2, kind="stable")
    path = str(write({n: v[label] for n, v in arrays.items()}, baskets=3))
    jets = StreamedJets.open(path, Request(inputs=INPUTS))
    assert len(jets.shards) == 15, "smaller than baskets"
    assert (
        len(StreamedJets.open(str(write(arrays, "mixed.root", baskets=3)), Request(inputs=INPUTS)).shards)
        == 3
    )
    whole = JetDataset.open(path, INPUTS)
    for batch in StreamLoader(jets, 15, shuffle=True, seed=2):
        assert torch.equal(batch.four_momenta, whole.batch(batch.index).four_momenta)
        assert set(batch.labels.tolist()) == {0, 1}
