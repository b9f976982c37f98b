"""The loader gives each jet once an epoch, resumes bit for bit, and keeps all ranks in step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepml.data.batch import JetBatch
from hepml.data.dataset import JetDataset
from hepml.data.loader import JetLoader
from hepml.errors import ConfigError, DataError


def dataset(jets: int, seed: int = 0) -> JetDataset:
    counts = np.random.default_rng(seed).poisson(20, jets)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    p = np.repeat(np.arange(jets), counts)[:, None] * np.ones(4)
    return JetDataset.from_batch(
        JetBatch.from_arrays(p.astype(np.float32), offsets, labels=np.arange(jets) % 2)
    )


SMALL = dataset(157)
OPTIONS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 60),
        "shuffle": st.booleans(),
        "buckets": st.sampled_from([None, True, False]),
        "seed": st.integers(0, 2**31),
    }
)


@settings(max_examples=60, deadline=None)
@given(OPTIONS, st.integers(0, 3))
def test_each_jet_comes_once_an_epoch(options, epoch) -> None:
    loader = JetLoader(SMALL, **options)
    loader.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-157 // options["batch_size"])
    index = torch.cat([b.index for b in batches])
    assert sorted(index.tolist()) == list(range(157))
    assert all(len(b) <= options["batch_size"] for b in batches)
    for b in batches:  # what stands in a batch is what its index says
        assert torch.equal(b.four_momenta[:, 0].long(), b.index[b.jet_of])
        assert torch.equal(b.labels, b.index % 2)


@settings(max_examples=40, deadline=None)
@given(OPTIONS, st.integers(1, 5), st.data())
def test_all_ranks_make_equal_steps_and_share_the_jets(options, world, data) -> None:
    drop = data.draw(st.booleans())
    full, all_of_them = 157 // options["batch_size"], -(-157 // options["batch_size"])
    # too few for a full batch on each rank; or, without dropping, fewer jets than batches in equal steps
    if full < world if drop else -(-all_of_them // world) * world > 157:
        with pytest.raises(DataError, match="do not fill a batch"):
            JetLoader(SMALL, **options, drop_last=drop, world_size=world)
        return
    loaders = [JetLoader(SMALL, **options, drop_last=drop, rank=r, world_size=world) for r in range(world)]
    seen = [[b.index.tolist() for b in loader] for loader in loaders]
    assert len({len(batches) for batches in seen}) == 1
    flat = [i for batches in seen for b in batches for i in b]
    assert len(set(flat)) == len(flat)
    if drop:
        assert {len(b) for batches in seen for b in batches} == {options["batch_size"]}
    else:
        assert len(flat) == 157


@settings(max_examples=40, deadline=None)
@given(OPTIONS, st.data())
def test_a_stopped_loader_resumes_bit_for_bit(options, data) -> None:
    loader = JetLoader(SMALL, **options)
    loader.set_epoch(2)
    stop = data.draw(st.integers(0, len(loader) - 1))
    running = iter(loader)
    for _ in range(stop):
        next(running)
    state = loader.state_dict()
    rest = list(running)
    resumed = JetLoader(SMALL, **{**options, "seed": 0})
    resumed.load_state_dict(state)
    resumed.set_epoch(2)  # a trainer sets the epoch it is in again
    again = list(resumed)
    assert len(again) == len(rest)
    for a, b in zip(again, rest, strict=True):
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.four_momenta, b.four_momenta)
        assert torch.equal(a.offsets, b.offsets)
    assert len(list(resumed)) == len(loader)  # the next epoch begins at its beginning


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        loader = JetLoader(SMALL, 16, shuffle=True, seed=seed)
        loader.set_epoch(epoch)
        return torch.cat([b.index for b in loader]).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_without_shuffle_jets_come_in_file_order() -> None:
    assert torch.equal(torch.cat([b.index for b in JetLoader(SMALL, 16)]), torch.arange(157))


def test_buckets_save_padding_and_still_mix_the_whole_data_set() -> None:
    big = dataset(20_000, seed=1)

    def padding(buckets: bool) -> float:
        return (
            sum(b.max_count * len(b) for b in JetLoader(big, 128, shuffle=True, buckets=buckets))
            / big.counts.sum()
        )

    assert padding(True) < 1.08 < 1.4 < padding(False)
    first = next(iter(JetLoader(big, 128, shuffle=True)))
    assert first.index.float().std() > 4000  # 20000 / sqrt(12) is 5774
    lengths = [b.max_count for b in JetLoader(big, 128, shuffle=True)]
    assert abs(np.corrcoef(np.arange(len(lengths)), lengths)[0, 1]) < 0.3  # lengths come in no order


def test_a_new_iteration_begins_at_the_beginning() -> None:
    """Lightning looks at two batches before it trains."""
    loader = JetLoader(SMALL, 16)
    next(iter(loader))
    assert next(iter(loader)).index[0] == 0


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size is 0"):
        JetLoader(SMALL, 0)
    with pytest.raises(ConfigError, match="rank 2 of 2"):
        JetLoader(SMALL, 8, rank=2, world_size=2)
    with pytest.raises(DataError, match="do not fill"):
        JetLoader(dataset(3), 8, world_size=4)


@settings(max_examples=40, deadline=None)
@given(OPTIONS, st.integers(2, 5), st.integers(5, 60))
def test_the_ranks_together_take_the_steps_of_one_process(options, world, step) -> None:
    """Whatever the number of ranks, the jets of step k are those of step k of one process, so that a run goes
    on with any; only a last step of fewer jets than ranks is joined to the one before."""
    options = {**options, "batch_size": -(-step // world)}
    whole = [set(b.index.tolist()) for b in JetLoader(SMALL, **{**options, "batch_size": step})]
    if 0 < 157 % step < world:
        return  # joined
    loaders = [JetLoader(SMALL, **options, rank=r, world_size=world, step_size=step) for r in range(world)]
    shared = [[b.index.tolist() for b in loader] for loader in loaders]
    assert [set().union(*parts) for parts in zip(*shared, strict=True)] == whole
    sizes = [{len(part) for part in parts} for parts in zip(*shared, strict=True)]
    assert all(max(found) - min(found) <= 1 for found in sizes)


def test_a_last_step_of_fewer_jets_than_ranks_is_joined_to_the_one_before() -> None:
    loaders = [JetLoader(dataset(41), 4, rank=r, world_size=2, step_size=8) for r in range(2)]
    sizes = [[len(b) for b in loader] for loader in loaders]
    assert sizes == [[4, 4, 4, 4, 5], [4, 4, 4, 4, 4]]
    with pytest.raises(ConfigError, match="without any"):
        JetLoader(SMALL, 1, world_size=3, step_size=2)


@pytest.mark.parametrize("world", [1, 2])
def test_batches_that_are_copied_together_are_those_taken_one_by_one(world, monkeypatch) -> None:
    for together in (1, 50, 100_000):
        monkeypatch.setattr("hepml.data.loader.TOGETHER", together)
        loader = JetLoader(SMALL, 10, shuffle=True, seed=3, world_size=world)
        seen = list(loader)
        again = JetLoader(SMALL, 10, shuffle=True, seed=3, world_size=world)
        for _, _ in zip(range(3), again, strict=False):
            state = again.state_dict()
        again.load_state_dict(state)
        assert [b.index.tolist() for b in again] == [b.index.tolist() for b in seen[3:]]
        for batch in seen:
            alone = SMALL.batch(batch.index.numpy())
            for name in ("four_momenta", "offsets", "labels", "index"):
                assert torch.equal(getattr(batch, name), getattr(alone, name))
