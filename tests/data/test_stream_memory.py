"""Memory of a streamed epoch has a bound that the files do not have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import uproot
from toys import toy_arrays

EPOCHS = """
import json, sys
import torch
def peak():
    # ru_maxrss would be that of the process that started this one
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) * 1024 / 1e6
of_torch = peak()  # 229 MB of its CPU build, 525 of the one that has CUDA's libraries
torch.set_num_threads(1)
from hepml.data import shards, stream_loader
from hepml.data.build import Request
from hepml.data.features import KINEMATIC_PID
from hepml.data.inputs import Inputs
from hepml.data.shards import StreamedJets
from hepml.data.stream_loader import StreamLoader
file, pool, *times = sys.argv[1:]
if int(pool):
    shards.SHARD, stream_loader.POOL_BYTES = 500, int(pool)
for many in times:
    jets = StreamedJets.open([file] * int(many), Request(inputs=Inputs(features=KINEMATIC_PID)))
    seen = sum(len(b) for b in StreamLoader(jets, 256, shuffle=True))
    packed = float(jets.sizes.sum() * jets.row_bytes / 1e6)
    print(json.dumps({"jets": seen, "packed_MB": packed, "torch_MB": of_torch, "peak_MB": peak()}))
"""


def epochs(*words: str) -> list[dict[str, float]]:
    done = subprocess.run([sys.executable, "-c", EPOCHS, *words], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_epoch_of_many_files_needs_less_than_200_megabytes_beyond_torch(tmp_path: Path) -> None:
    path = tmp_path / "jets.root"
    with uproot.recreate(path, compression=uproot.LZ4(1)) as file:
        file["tree"] = toy_arrays(1500, seed=1)
        file["tree"].extend(toy_arrays(1500, seed=2))
    (told,) = epochs(str(path), "2000000", "8")
    assert told["jets"] == 24_000
    assert told["peak_MB"] - told["torch_MB"] < 200  # 134 with either build


@pytest.mark.slow
def test_an_epoch_of_twenty_gigabytes_of_branches_stays_below_two(shared: Path) -> None:
    """One file over and over: 20 GB of uncompressed branches, in the one process that reads them."""
    file = shared / "data" / "toptag" / "train.root"
    read = ("part_px", "part_py", "part_pz", "part_energy", "part_deta", "part_dphi", "part_charge")
    with uproot.open(file) as opened:
        size = sum(opened["tree"][name].uncompressed_bytes for name in read)
    (told,) = epochs(str(file), "0", str(-(-20_000_000_000 // size)))
    print(told)
    assert told["peak_MB"] < 2_000
