"""Files of one jet an entry that say which event each jet belongs to: jets of one event stay in one part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from event_files import write_tree
from toys import toy_arrays, write_toy_jets

from hepml.data.dataset import JetDataset
from hepml.data.parts import fold_parts, split
from hepml.data.reading.event_numbers import identities, numbers_of, usual_branches
from hepml.data.reading.layout import Layout
from hepml.data.reading.reader import iterate_chunks
from hepml.errors import ConfigError, DataError, LayoutError

JETS = 120
EVENTS = np.random.default_rng(5).permutation(np.repeat(np.arange(JETS // 3), 3))


def numbered(path: Path, seed: int = 0, **columns: Any) -> Path:
    """A tree of toy jets with these columns besides."""
    return write_tree(path, "tree", toy_arrays(JETS, seed=seed) | columns)


def events_of_parts(jets: JetDataset) -> list[set[int]]:
    """The true events, 0 to 39, in each part of a split."""
    return [set(EVENTS[part.indices].tolist()) for part in split(jets, {"val": 0.2, "test": 0.2}, 3).values()]


@pytest.mark.parametrize("name", ["event", "eventNumber", "event_no", "EventNumber", "evt"])
@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.float64])
def test_no_event_of_a_flat_file_is_in_two_parts(tmp_path: Path, name: str, kind: Any) -> None:
    jets = JetDataset.open(numbered(tmp_path / "jets.root", **{name: (EVENTS + 7).astype(kind)}))
    train, val, test = events_of_parts(jets)
    assert not train & val
    assert not train & test
    assert not val & test
    folds = [set(EVENTS[part.indices].tolist()) for part in fold_parts(jets, 4, 0)]
    assert sum(map(len, folds)) == len(set.union(*folds)) == JETS // 3


def test_without_event_numbers_events_would_be_torn_apart(tmp_path: Path) -> None:
    jets = JetDataset.open(numbered(tmp_path / "jets.root", serial=EVENTS))
    assert jets.events is None
    train, val, _ = events_of_parts(jets)
    assert train & val


def test_the_layout_names_the_event_number_or_says_that_there_is_none(tmp_path: Path) -> None:
    path = numbered(tmp_path / "jets.root", serial=EVENTS, event=np.arange(JETS))
    momentum = {"px": "part_px", "py": "part_py", "pz": "part_pz", "energy": "part_energy"}
    labels = {"QCD": "label_QCD", "top": "label_Tbqq"}
    layout: dict[str, Any] = {"constituents": momentum, "labels": labels}
    named = JetDataset.open(path, layout=layout | {"event": {"event": "serial"}})
    train, val, test = events_of_parts(named)
    assert not train & (val | test)
    assert JetDataset.open(path, layout=layout | {"event": []}).events is None
    found = JetDataset.open(path, layout=layout).events
    assert found is not None
    assert len(np.unique(found)) == JETS  # `event`, a number a jet here
    with pytest.raises(ConfigError, match="no event number among serial"):
        Layout.parse(layout | {"event": ["serial"]})
    with pytest.raises(LayoutError, match="'seriel' not found"):
        JetDataset.open(path, layout=layout | {"event": {"event": "seriel"}})


def test_an_event_is_the_same_in_all_files_and_others_are_not(tmp_path: Path) -> None:
    run = np.full(JETS, 9)
    files = [
        numbered(tmp_path / "a.root", 0, run=run, event=EVENTS),
        numbered(tmp_path / "b.root", 1, run=run, event=EVENTS),
        numbered(tmp_path / "c.root", 2, run=run + 1, event=EVENTS),
        write_toy_jets(tmp_path / "d.root", 30, seed=4),
    ]
    jets = JetDataset.open([str(path) for path in files], missing_columns="drop")
    assert jets.events is not None
    a, b, c, d = np.split(jets.events, [JETS, 2 * JETS, 3 * JETS])
    assert (a == b).all()
    assert not set(a) & set(c)
    assert len(set(d)) == 30  # no numbers there: each jet is an event of its own
    assert not set(d) & (set(a) | set(c))


def test_zero_is_a_number_unless_all_are_zero() -> None:
    assert (identities({"event": np.zeros(5, int)}, 5) == -1).all()
    assert (identities({"run": np.ones(5, int)}, 5) == -1).all()
    mixed = identities({"event": np.array([0, 0, 1, 1, 2])}, 5)
    assert (mixed >= 0).all()
    assert mixed[0] == mixed[1] != mixed[2] == mixed[3] != mixed[4]


def test_numbers_beyond_the_precision_of_floats_stay_apart() -> None:
    large = np.array([2**63 + 1, 2**63 + 2, 2**63 + 2], dtype=np.uint64)
    one, two, three = identities({"event": large}, 3)
    assert one != two == three


def test_usual_names() -> None:
    found = usual_branches(["jet_pt", "event_no", "RunNumber", "lumiBlock", "Event.weight"])
    assert found == {"run": "RunNumber", "luminosityBlock": "lumiBlock", "event": "event_no"}
    assert numbers_of({"met": "MET_pt", "number": "EventHeader.eventNumber"}) == {
        "event": "EventHeader.eventNumber"
    }
    assert numbers_of({"event": "serial", "other": "event"}) == {"event": "serial"}


def test_a_column_that_is_read_for_the_event_alone_is_not_kept(tmp_path: Path) -> None:
    path = numbered(tmp_path / "jets.root", event=EVENTS)
    (chunk,) = iterate_chunks(path, jet_columns=["jet_pt"])
    assert "event" not in chunk.jets
    assert chunk.events is not None
    (chunk,) = iterate_chunks(path, jet_columns=["jet_pt"], selection="event < 10")
    assert set(chunk.jets["event"].tolist()) == set(range(10))


def test_parquet_and_streams_keep_events_together(tmp_path: Path) -> None:
    from hepml.data.build import Request
    from hepml.data.inputs import Inputs
    from hepml.data.shards import StreamedJets

    arrays = toy_arrays(JETS) | {"event": EVENTS}
    pq.write_table(
        pa.table({n: pa.array(a.tolist() if hasattr(a, "tolist") else a) for n, a in arrays.items()}),
        tmp_path / "jets.parquet",
    )
    for path in (tmp_path / "jets.parquet", numbered(tmp_path / "jets.root", event=EVENTS)):
        train, val, test = events_of_parts(JetDataset.open(path))
        assert not train & (val | test)
        streamed = StreamedJets.open(path, Request(inputs=Inputs()))
        kept = JetDataset.open(path)
        for name, part in split(streamed, {"val": 0.2}, 3).items():  # type: ignore[arg-type]
            assert part.indices.tolist() == split(kept, {"val": 0.2}, 3)[name].indices.tolist()


def test_one_event_cannot_be_split(tmp_path: Path) -> None:
    jets = JetDataset.open(numbered(tmp_path / "jets.root", event=np.full(JETS, 4)))
    with pytest.raises(DataError, match="120 jets of one event"):
        split(jets, {"val": 0.2}, 0)
