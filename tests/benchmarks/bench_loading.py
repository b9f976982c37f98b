"""ROOT file to model-ready batches: hepml against weaver-core's `SimpleIterDataset`, on the 17 JetClass
features.

Run by name: `python tests/benchmarks/bench_loading.py [FILE.root]`, or `pytest
tests/benchmarks/bench_loading.py`. Both read the same file with the same features, standardisation, labels
and batch size, shuffled, from opening the file to the last batch. weaver runs as its users run it, with a
data config of the published JetClass form (points, 17 features, four-vectors and mask, padded to 128
constituents) and its default fetch step, a hundredth of each file at a time; then with everything fetched at
once, which is the quickest it can do; and then with the features alone. hepml gives four-momenta and
features, packed, in length buckets. All are timed in turns, in one process, on one core; their features and
labels are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LENGTH = 128
BATCH = 512
AT_ONCE = {"fetch_by_files": True, "fetch_step": 1}
CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")

# The formula of each feature in weaver's language; names, shifts, scales and bounds are taken from hepml's
# own table.
FORMULAS = {
    "log_pt": "np.log(np.hypot(part_px, part_py))",
    "log_energy": "np.log(part_energy)",
    "log_pt_rel": "np.log(np.hypot(part_px, part_py) / jet_pt)",
    "log_energy_rel": "np.log(part_energy / jet_energy)",
    "delta_r": "np.hypot(part_deta, part_dphi)",
    "d0": "np.tanh(part_d0val)",
    "dz": "np.tanh(part_dzval)",
}


def weaver_config(vectors: bool) -> str:
    """A weaver data config with the 17 features; with `vectors` also points, four-vectors and mask, as
    published for JetClass."""
    import yaml

    from hepml.data.features import FULL, lookup
    from hepml.data.reading.layouts import JETCLASS

    branch = {name: column.branch for name, column in JETCLASS.constituents[0].columns.items()}
    new = {f"feature_{name}": formula for name, formula in FORMULAS.items()}
    rows: list[list[Any]] = []
    for name in FULL:
        feature = lookup(name)
        variable = f"feature_{name}" if name in FORMULAS else branch[name]
        standardised = feature.clip is not None
        rows.append(
            [variable, feature.shift, feature.scale, *feature.clip] if standardised else [variable, None]
        )
    inputs: dict[str, Any] = {"pf_features": {"length": LENGTH, "pad_mode": "wrap", "vars": rows}}
    if vectors:
        new["part_mask"] = "ak.ones_like(part_energy)"
        inputs |= {
            "pf_points": {
                "length": LENGTH,
                "pad_mode": "wrap",
                "vars": [["part_deta", None], ["part_dphi", None]],
            },
            "pf_vectors": {
                "length": LENGTH,
                "pad_mode": "wrap",
                "vars": [[b, None] for b in ("part_px", "part_py", "part_pz", "part_energy")],
            },
            "pf_mask": {"length": LENGTH, "pad_mode": "constant", "vars": [["part_mask", None]]},
        }
    return yaml.safe_dump(
        {
            "new_variables": new,
            "preprocess": {"method": "manual"},
            "inputs": inputs,
            "labels": {"type": "simple", "value": [f"label_{name}" for name in CLASSES]},
        },
        sort_keys=False,
    )


def weaver_batches(file: str, config: str, *, training: bool = True, **fetch: Any) -> Iterator[Any]:
    """Batches as weaver's own training makes them, collated by torch's loader.

    Args:
        fetch: `fetch_by_files=True, fetch_step=1` reads the file at once; weaver's defaults where left out.
    """
    from torch.utils.data import DataLoader
    from weaver.utils.dataset import SimpleIterDataset

    dataset = SimpleIterDataset(
        {"jets": [file]},
        config,
        batch_size=BATCH,
        for_training=training,
        load_range_and_fraction=((0, 1), 1, 1),
        name="train" if training else "test",
        **fetch,
    )
    yield from DataLoader(dataset, batch_size=BATCH, num_workers=0)


def hepml_batches(file: str) -> Iterator[Any]:
    """The same jets by hepml."""
    from hepml.data.dataset import JetDataset
    from hepml.data.features import FULL
    from hepml.data.inputs import Inputs
    from hepml.data.loader import JetLoader

    dataset = JetDataset.open(file, Inputs(features=FULL), classes=CLASSES)
    yield from JetLoader(dataset, BATCH, shuffle=True, seed=1)


def largest_difference(file: str, config: str) -> float:
    """Largest absolute difference between the features of both, over all jets in file order."""
    from hepml.data.dataset import JetDataset
    from hepml.data.features import FULL
    from hepml.data.inputs import Inputs

    ours = JetDataset.open(file, Inputs(features=FULL), classes=CLASSES)
    assert ours.features is not None
    assert ours.labels is not None
    first, worst = 0, 0.0
    for x, y, _ in weaver_batches(file, config, training=False, **AT_ONCE):
        theirs = np.moveaxis(x["pf_features"].numpy(), 1, 2)
        batch = ours.batch(np.arange(first, first + len(theirs)))
        first += len(theirs)
        assert batch.labels is not None
        assert np.array_equal(batch.labels.numpy(), next(iter(y.values())).numpy()), "labels differ"
        mask = np.arange(LENGTH) < np.minimum(batch.counts.numpy(), LENGTH)[:, None]
        jet_of, offsets = batch.jet_of.numpy(), batch.offsets.numpy()
        kept = np.arange(len(jet_of)) - offsets[jet_of] < LENGTH
        assert batch.features is not None
        worst = max(worst, float(np.abs(theirs[mask] - batch.features.numpy()[kept]).max()))
    assert first == len(ours), f"weaver gave {first} jets, hepml {len(ours)}"
    return worst


def seconds(batches: Callable[[], Iterator[Any]], jets: int) -> tuple[float, float]:
    """Wall and processor seconds from opening the file to the last batch."""
    wall, cpu = time.perf_counter(), time.process_time()
    seen = sum(1 for _ in batches())
    assert seen >= jets // BATCH
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(file: str, rounds: int = 5, *, defaults: bool = True, cores: int = 1) -> dict[str, Any]:
    """Speeds and their ratio, timed in turns on the same cores; equal features are checked first.

    Args:
        cores: how many both may use (weaver reads in one process, as it does without workers, which make it
            slower).
        defaults: also time weaver with its default fetch step, which takes tens of times as long.
    """
    import torch
    import uproot

    logging.disable(logging.INFO)
    threads, allowed = torch.get_num_threads(), os.sched_getaffinity(0)
    torch.set_num_threads(1)
    os.sched_setaffinity(0, set(sorted(allowed)[-cores:]))
    try:
        with tempfile.TemporaryDirectory() as folder:
            lean, full = Path(folder) / "features.yaml", Path(folder) / "published.yaml"
            lean.write_text(weaver_config(vectors=False))
            full.write_text(weaver_config(vectors=True))
            with uproot.open(file) as opened:
                tree = next(o for n, o in opened.items() if "TTree" in o.classname)
                jets = int(tree.num_entries)
                names = [b.name for b in tree.branches if b.name.startswith("part_")]
            difference = largest_difference(file, str(full))

            def bare() -> Iterator[Any]:
                with uproot.open(file) as opened:
                    yield from [opened[tree.name].arrays(names)] * (jets // BATCH)

            runs: dict[str, Callable[[], Iterator[Any]]] = {
                "weaver, its defaults": lambda: weaver_batches(file, str(full)),
                "weaver, file at once": lambda: weaver_batches(file, str(full), **AT_ONCE),
                "weaver, file at once, features only": lambda: weaver_batches(file, str(lean), **AT_ONCE),
                "hepml": lambda: hepml_batches(file),
                "bare uproot": bare,
            }
            if not defaults:
                del runs["weaver, its defaults"]
            for name, run in runs.items():  # compiles weaver's numba kernels, warms the file cache
                if name != "weaver, its defaults":  # the slow one, with the same kernels
                    seconds(run, jets)
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
            for _ in range(rounds):
                for name, run in runs.items():
                    taken[name].append(seconds(run, jets))
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)
        logging.disable(logging.NOTSET)

    def ratios(clock: int) -> dict[str, float]:
        return {
            name: round(
                statistics.median(b[clock] / a[clock] for a, b in zip(taken["hepml"], values, strict=True)), 2
            )
            for name, values in taken.items()
            if name != "hepml"
        }

    return {
        "file": Path(file).name,
        "jets": jets,
        "rounds": rounds,
        "cores": cores,
        "largest_difference": difference,
        "jets_per_second": {n: round(jets / statistics.median(w for w, _ in v)) for n, v in taken.items()},
        "jets_per_cpu_second": {
            n: round(jets / statistics.median(c for _, c in v)) for n, v in taken.items()
        },
        "ratio": ratios(0),
        "ratio_of_cpu_seconds": ratios(1),
    }


def test_loading_is_at_least_five_times_weavers(shared: Path) -> None:
    pytest.importorskip("weaver", reason="weaver-core is in the extra `bench`")
    file = shared / "data" / "toptag" / "train.root"
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    result = compare(str(file))
    print(json.dumps(result, indent=2))
    assert result["largest_difference"] < 1e-5
    assert result["ratio"]["weaver, its defaults"] >= 5
    assert result["ratio"]["weaver, file at once"] >= 2.5


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", default="../shared/data/toptag/train.root")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--defaults", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    print(
        json.dumps(
            compare(arguments.file, arguments.rounds, defaults=arguments.defaults, cores=arguments.cores),
            indent=2,
        )
    )
