"""Loading at scale, each way in a process of its own: `python tests/benchmarks/bench_scale.py FILE.root`.

The file is a large one of the JetClass layout; `--repeat SOURCE TIMES` writes one first, by repeating the
jets of another (LZ4). Each process opens the file, goes over all jets once and says how long that took by the
clock and by the processor, and the most memory that it had; what is shown are medians over the rounds, in
turns.

- *twenty lines*: `uproot.iterate` and numpy, the 17 features, four-momenta and labels of each piece, nothing
  kept; *kept*: the pieces stay in a list, not joined, so that their memory is touched for the first time as
  that of packed jets is.
- *hepml, memory*, *cache*, *stream*: `JetDataset.open`, with `data.cache`, and one epoch of shuffled batches
  with `data.stream` (the pass that counts the jets is told apart).
- *weaver*: its defaults, and `fetch_by_files`, as `bench_loading.py` has them.
- *HDF5*: the same packed columns out of an HDF5 file (not compressed), read in pieces.
- *batches*: shuffled batches of 512 out of packed jets, against one copy of the same bytes in pieces.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 512


def repeat(source: str, times: int, target: str, entries: int = 6_000) -> None:
    """Writes the jets of a file so many times over, LZ4, in baskets of so many entries."""
    import awkward as ak
    import uproot

    with uproot.open(source) as opened:
        tree = opened["tree"]
        names = [b.name for b in tree.branches if b.name != "npart"]
        jets = tree.arrays(names)
    lists = [n for n in names if jets[n].ndim == 2]
    with uproot.recreate(target, compression=uproot.LZ4(4)) as out:
        for _ in range(times):
            for first in range(0, len(jets), entries):
                part = jets[first : first + entries]
                columns = {"part": ak.zip({n.removeprefix("part_"): part[n] for n in lists})}
                columns |= {n: part[n] for n in names if n not in lists}
                if "tree" not in out:  # a mere assignment writes an RNTuple in newer releases of uproot
                    out.mktree("tree", {n: ak.type(c) for n, c in columns.items()})
                out["tree"].extend(columns)


# ------------------------------------------------------------------------------------------------------------
# the ways, each of which goes over all jets and returns how many there were


def twenty_lines(file: str, folder: Path, keep: list[Any] | None = None) -> int:
    import awkward as ak
    import uproot
    from bench_loading import CLASSES

    raw = ["px", "py", "pz", "energy", "deta", "dphi", "d0val", "d0err", "dzval", "dzerr", "charge"]
    kinds = [f"is{n}" for n in ("ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon")]
    names = [f"part_{n}" for n in (*raw, *kinds)]
    wanted = [*names, "jet_pt", "jet_energy", *(f"label_{c}" for c in CLASSES)]
    jets = 0
    for piece in uproot.iterate(f"{file}:tree", wanted, step_size=10_000):
        counts = ak.to_numpy(ak.num(piece["part_px"]))
        c = {n.removeprefix("part_"): ak.to_numpy(ak.flatten(piece[n])) for n in names}
        pt = np.hypot(c["px"], c["py"])
        jet_pt, jet_energy = (np.repeat(ak.to_numpy(piece[n]), counts) for n in ("jet_pt", "jet_energy"))

        def standard(x: np.ndarray, shift: float, scale: float) -> np.ndarray:
            return np.clip((x - shift) * scale, -5, 5)

        columns = [standard(np.log(pt), 1.7, 0.7), standard(np.log(c["energy"]), 2.0, 0.7)]
        columns += [standard(np.log(pt / jet_pt), -4.7, 0.7)]
        columns += [standard(np.log(c["energy"] / jet_energy), -4.7, 0.7)]
        columns += [standard(np.hypot(c["deta"], c["dphi"]), 0.2, 4.0)]
        columns += [c[n] for n in ("charge", *kinds)]
        columns += [np.tanh(c["d0val"]), np.clip(c["d0err"], 0, 1)]
        columns += [np.tanh(c["dzval"]), np.clip(c["dzerr"], 0, 1), c["deta"], c["dphi"]]
        features = np.stack(columns, axis=1)
        momenta = np.stack([c[n] for n in ("energy", "px", "py", "pz")], axis=1)
        labels = np.stack([ak.to_numpy(piece[f"label_{c}"]) for c in CLASSES], axis=1).argmax(axis=1)
        assert len(features) == len(momenta) == counts.sum()
        jets += len(labels)
        if keep is not None:
            keep.append((features, momenta, labels, counts))
    return jets


def twenty_lines_kept(file: str, folder: Path) -> int:
    return twenty_lines(file, folder, [])


def _open(file: str, **options: Any) -> Any:
    from bench_loading import CLASSES

    from hepml.data.dataset import JetDataset
    from hepml.data.features import FULL
    from hepml.data.inputs import Inputs

    return JetDataset.open(file, Inputs(features=FULL), classes=CLASSES, **options)


def hepml_memory(file: str, folder: Path) -> int:
    dataset = _open(file)
    print(json.dumps({"packed_MB": sum(t.nbytes for t in _columns(dataset)) / 1e6}), file=sys.stderr)
    return len(dataset)


def _columns(dataset: Any) -> list[Any]:
    names = ("four_momenta", "features", "offsets", "labels", "jet_momenta", "weights")
    found = [getattr(dataset, n) for n in names]
    return [*(t for t in found if t is not None), dataset.entries]


def hepml_cache(file: str, folder: Path) -> int:
    return len(_open(file, cache=folder / "cache"))


def hepml_stream(file: str, folder: Path) -> int:
    from bench_loading import CLASSES

    from hepml.data.build import Request
    from hepml.data.features import FULL
    from hepml.data.inputs import Inputs
    from hepml.data.shards import StreamedJets
    from hepml.data.stream_loader import StreamLoader

    began = time.process_time()
    jets = StreamedJets.open(file, Request(inputs=Inputs(features=FULL), classes=CLASSES))
    print(json.dumps({"counting_s": time.process_time() - began}), file=sys.stderr)
    CLOCK.restart()
    return sum(len(b) for b in StreamLoader(jets, BATCH, shuffle=True, seed=1, buckets=False))


def weaver_defaults(file: str, folder: Path) -> int:
    return _weaver(file, folder)


def weaver_by_files(file: str, folder: Path) -> int:
    from bench_loading import AT_ONCE

    return _weaver(file, folder, **AT_ONCE)


def _weaver(file: str, folder: Path, **fetch: Any) -> int:
    import logging

    from bench_loading import weaver_batches, weaver_config

    logging.disable(logging.INFO)
    (folder / "config.yaml").write_text(weaver_config(vectors=True))
    batches = weaver_batches(file, str(folder / "config.yaml"), **fetch)
    return sum(len(next(iter(y.values()))) for _, y, _ in batches)


def hdf5(file: str, folder: Path) -> int:
    import h5py

    jets = 0
    with h5py.File(folder.parent / "packed.h5") as stored:
        offsets = stored["offsets"][:]
        for first in range(0, len(offsets) - 1, 10_000):
            last = min(first + 10_000, len(offsets) - 1)
            rows = slice(int(offsets[first]), int(offsets[last]))
            for name in ("four_momenta", "features"):
                assert len(stored[name][rows])
            jets += len(stored["labels"][first:last])
    return jets


def batches_of_packed(file: str, folder: Path) -> int:
    from hepml.data.loader import JetLoader

    dataset = _open(file, cache=folder.parent / "packed")
    sum(int(t.sum()) for t in _columns(dataset) if hasattr(t, "sum"))  # pages of the cache are read
    CLOCK.restart()
    return sum(len(b) for b in JetLoader(dataset, BATCH, shuffle=True, seed=1, buckets=False))


def copy_of_packed(file: str, folder: Path) -> int:
    dataset = _open(file, cache=folder.parent / "packed")
    sum(int(t.sum()) for t in _columns(dataset) if hasattr(t, "sum"))
    CLOCK.restart()
    for first in range(0, len(dataset), BATCH):
        dataset.whole.slice(first, first + BATCH)
        last = min(first + BATCH, len(dataset))
        low, high = int(dataset.offsets[first]), int(dataset.offsets[last])
        for t in (dataset.four_momenta, dataset.features):
            t[low:high].clone()
        for t in (dataset.labels, dataset.jet_momenta):
            t[first:last].clone()
    return len(dataset)


WAYS: dict[str, Callable[[str, Path], int]] = {
    "twenty lines of uproot": twenty_lines,
    "twenty lines of uproot, kept": twenty_lines_kept,
    "hepml, memory": hepml_memory,
    "hepml, cache": hepml_cache,
    "hepml, stream": hepml_stream,
    "weaver, its defaults": weaver_defaults,
    "weaver, file at once": weaver_by_files,
    "HDF5, packed": hdf5,
    "hepml, packed to batches": batches_of_packed,
    "copy of the same bytes": copy_of_packed,
}


class Clock:
    """Seconds since it was started, by the clock and by the processor."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


CLOCK = Clock()


def one(way: str, file: str, folder: Path) -> None:
    """What a process of its own does."""
    if way.startswith(("hepml", "copy")):
        import torch

        import hepml.data.dataset  # noqa: F401 - imports are no part of it

        torch.set_num_threads(1)
    else:
        import awkward  # noqa: F401
        import bench_loading  # noqa: F401
        import uproot  # noqa: F401
    CLOCK.restart()
    jets = WAYS[way](file, folder)
    wall, cpu = CLOCK.read()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"jets": jets, "wall": wall, "cpu": cpu, "peak_MB": peak}))


def prepare(file: str, folder: Path) -> None:
    """The packed jets that some of the ways begin with."""
    import h5py

    dataset = _open(file, cache=folder / "packed")
    with h5py.File(folder / "packed.h5", "w") as out:
        for name in ("four_momenta", "features", "offsets", "labels"):
            out.create_dataset(name, data=getattr(dataset, name).numpy())


def touch(gigabytes: float) -> None:
    """Uses so much memory and gives it back. A virtual machine whose free pages go back to its host pays for
    them again when they are next used (up to 1 s a GB on ours); what is measured right after it does not."""
    code = f"import numpy; numpy.empty(int({gigabytes} * 1e9), dtype='u1')[::4096] = 1"
    subprocess.run([sys.executable, "-c", code], check=True)


def measure(file: str, rounds: int, ways: list[str], warm: float) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as home:
        if any("packed" in w or "bytes" in w for w in ways):
            command = [sys.executable, __file__, file, "--prepare", home]
            subprocess.run(command, check=True)
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way in ways:
                with tempfile.TemporaryDirectory(dir=home) as folder:
                    if warm:
                        touch(warm)
                    command = [sys.executable, __file__, file, "--one", way, "--folder", folder]
                    told = subprocess.run(command, capture_output=True, text=True, check=True)
                found[way].append(json.loads(told.stdout.splitlines()[-1]))
                print(way, told.stdout.strip(), *[x for x in told.stderr.splitlines() if x[:1] == "{"],
                      file=sys.stderr)  # fmt: skip
    for way, values in found.items():
        jets = values[0]["jets"]
        yield {
            "way": way,
            "jets": jets,
            "jets_per_second": round(jets / statistics.median(v["wall"] for v in values)),
            "jets_per_cpu_second": round(jets / statistics.median(v["cpu"] for v in values)),
            "peak_MB": round(statistics.median(v["peak_MB"] for v in values)),
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", nargs=2, metavar=("SOURCE", "TIMES"))
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument("--warm", type=float, default=0.0, help="GB of memory to touch before each process")
    parser.add_argument("--one")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--prepare", type=Path)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if given.repeat:
        repeat(given.repeat[0], int(given.repeat[1]), given.file)
    if given.one:
        one(given.one, given.file, given.folder)
    elif given.prepare:
        prepare(given.file, given.prepare)
    else:
        for line in measure(given.file, given.rounds, given.ways, given.warm):
            print(json.dumps(line))
