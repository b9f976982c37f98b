"""Linked event files, each way in a process of its own: `python tests/benchmarks/bench_events.py FILE.root`.

A file that does not exist is written first: 20,000 events in the form of NanoAOD v15 (150 candidates an
event, two AK8 jets of 50 linked constituents, five AK4 jets of 15, LZ4, baskets of 2,000 events).

- *bare uproot*: the branches that hepml reads, by `uproot.iterate`, nothing done with them.
- *linked*: `hepml.data.reading.reader.iterate_chunks`, the AK8 jets with their constituents and columns.
- *packed*: `JetDataset.open`, the same with 13 features, in memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

EVENTS, CANDIDATES, BASKET = 20_000, 150, 2_000
JETS = {"FatJet": (2, 50), "Jet": (5, 15)}


def lists(values: np.ndarray, length: int) -> ak.Array:
    return ak.from_regular(ak.from_numpy(values.reshape(-1, length)))


def momenta(rng: np.random.Generator, events: int, length: int, hardest: float) -> dict[str, ak.Array]:
    columns = {
        "pt": rng.uniform(1, hardest, events * length),
        "eta": rng.uniform(-2, 2, events * length),
        "phi": rng.uniform(-3, 3, events * length),
        "mass": rng.uniform(0, 0.14, events * length),
    }
    return {name: lists(c.astype(np.float32), length) for name, c in columns.items()}


def write(path: str) -> None:
    rng = np.random.default_rng(1)
    with uproot.recreate(path, compression=uproot.LZ4(4)) as file:
        for _ in range(EVENTS // BASKET):
            branches = {"run": np.full(BASKET, 1, np.uint32), "event": np.arange(BASKET, dtype=np.uint64)}
            branches |= {"luminosityBlock": np.ones(BASKET, np.uint32)}
            branches |= {"genWeight": rng.normal(1, 0.1, BASKET).astype(np.float32)}
            cand = momenta(rng, BASKET, CANDIDATES, 30)
            branches |= {f"PFCand_{n}": c for n, c in cand.items()}
            kinds = rng.choice([211, -211, 22, 130, 11, 13], BASKET * CANDIDATES).astype(np.int32)
            branches["PFCand_pdgId"] = lists(kinds, CANDIDATES)
            for name in ("d0", "dz", "d0Err", "dzErr"):
                column = rng.normal(0, 0.1, BASKET * CANDIDATES).astype(np.float32)
                branches[f"PFCand_{name}"] = lists(column, CANDIDATES)
            for name, (jets, each) in JETS.items():
                branches |= {f"{name}_{n}": c for n, c in momenta(rng, BASKET, jets, 900).items()}
                branches[f"{name}_rawFactor"] = lists(np.zeros(BASKET * jets, np.float32), jets)
                flavour = rng.choice([0, 4, 5], BASKET * jets).astype(np.uint8)
                branches[f"{name}_hadronFlavour"] = lists(flavour, jets)
                links = jets * each
                chosen = rng.random((BASKET, CANDIDATES)).argsort(axis=1)[:, :links].astype(np.int16)
                owner = np.tile(np.repeat(np.arange(jets, dtype=np.int16), each), BASKET)
                branches[f"{name}PFCand_jetIdx"] = lists(owner, links)
                branches[f"{name}PFCand_pfCandIdx"] = lists(chosen.ravel(), links)
            if "Events" not in file:
                kinds_of = {n: ak.type(c).content if isinstance(c, ak.Array) else c.dtype
                            for n, c in branches.items()}  # fmt: skip
                file.mktree("Events", kinds_of)
            file["Events"].extend(branches)


def branches_read(path: str) -> list[str]:
    """What hepml reads of the file."""
    from hepml.data.formats.event_tree import EventTree

    read: dict[str, None] = {}
    known = EventTree.lists

    def noting(self: EventTree, names: list[str], start: int, stop: int) -> dict:
        read.update(dict.fromkeys(names))
        return known(self, names, start, stop)

    EventTree.lists = noting  # type: ignore[method-assign, assignment]
    linked(path, 10)
    EventTree.lists = known  # type: ignore[method-assign]
    return list(read)


def bare(path: str) -> int:
    names = json.loads(Path(f"{path}.branches").read_text())
    return sum(len(piece) for piece in uproot.iterate(f"{path}:Events", names, step_size=5_000))


def linked(path: str, stop: int | None = None) -> int:
    from hepml.data.reading.reader import iterate_chunks

    return sum(len(c) for c in iterate_chunks(path, layout=_jets(), entry_stop=stop, step_size=None))


def packed(path: str) -> int:
    from hepml.data.dataset import JetDataset
    from hepml.data.features import KINEMATIC_PID
    from hepml.data.inputs import Inputs

    return len(JetDataset.open(path, Inputs(features=KINEMATIC_PID), jets="FatJet"))


def _jets():  # type: ignore[no-untyped-def]
    from hepml.data.layouts.event_layout import with_jets

    return with_jets(None, "FatJet")


WAYS = {"bare uproot": bare, "linked": linked, "packed": packed}


def one(way: str, path: str) -> None:
    import hepml.data.dataset  # noqa: F401 - imports are no part of it

    start = time.process_time()
    found = WAYS[way](path)
    print(json.dumps({"found": found, "cpu": time.process_time() - start}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one")
    given = parser.parse_args()
    if given.one:
        one(given.one, given.file)
        raise SystemExit
    if not Path(given.file).is_file():
        write(given.file)
    names = branches_read(given.file)
    Path(f"{given.file}.branches").write_text(json.dumps(names))
    print(len(names), "branches:", ", ".join(names))
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(given.rounds):
        for way in WAYS:
            command = [sys.executable, __file__, given.file, "--one", way]
            told = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds[way].append(json.loads(told.stdout.splitlines()[-1])["cpu"])
    for way, values in seconds.items():
        middle = statistics.median(values)
        print(f"{way}: {middle:.3f} s, {EVENTS / middle:,.0f} events a second of processor,"
              f" {statistics.median(seconds['bare uproot']) / middle:.2f} of bare uproot")  # fmt: skip
