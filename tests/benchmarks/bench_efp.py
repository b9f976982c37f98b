"""Energy-flow polynomials of degree <= 7 against the `energyflow` package, values compared first; CPU time of
one thread, in turns.

    python tests/benchmarks/bench_efp.py toptag_reference_1000.npz [--jets 20] [--python VENV/bin/python]

energyflow is GPL and no dependency: it runs in the interpreter that `--python` names, which needs energyflow
and numpy only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

from hepml.representations.efp import polynomials

# Answers each line of standard input with the CPU seconds of one pass over the jets; the first answer has the
# values.
THEIRS = """
import sys, time, json
import numpy as np
import energyflow
with np.load(sys.argv[1]) as file:
    momenta, offsets = file["four_momenta"].astype(np.float64), file["offsets"]
jets = [momenta[offsets[j]:offsets[j + 1]] for j in json.loads(sys.argv[2])]
efps = energyflow.EFPSet("d<=7", measure="hadr", beta=1.0, normed=True, coords="epxpypz")
first = True
for line in sys.stdin:
    begun = time.process_time()
    values = [efps.compute(jet) for jet in jets]
    spent = time.process_time() - begun
    print(json.dumps([spent, np.sort(values, axis=1).tolist() if first else None]), flush=True)
    first = False
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file")
    parser.add_argument("--jets", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(asked.file) as file:
        momenta, offsets = torch.from_numpy(file["four_momenta"]), torch.from_numpy(file["offsets"])
    counts = offsets.diff()
    chosen = torch.linspace(0, len(counts) - 1, asked.jets).long().tolist()
    rows = torch.cat([torch.arange(int(offsets[j]), int(offsets[j + 1])) for j in chosen])
    own = torch.nn.functional.pad(counts[chosen].cumsum(0), (1, 0))
    few, many = (momenta[rows], own), (momenta, offsets)

    other = subprocess.Popen(
        [asked.python, "-c", THEIRS, asked.file, json.dumps(chosen)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    assert other.stdin is not None
    assert other.stdout is not None

    def ours(jets: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype) -> tuple[float, torch.Tensor]:
        begun = time.process_time()
        values = polynomials(jets[0].to(dtype), jets[1], 7, 1.0)
        return time.process_time() - begun, values

    begun = time.process_time()
    ours((few[0][: int(own[1])], own[:2]), torch.float32)
    print(f"first call, with making 1,000 multigraphs and the plan: {time.process_time() - begun:.2f} s")
    theirs, mine, batched, exact = [], [], [], []
    for turn in range(asked.rounds):
        other.stdin.write("go\n")
        other.stdin.flush()
        spent, values = json.loads(other.stdout.readline())
        theirs.append(asked.jets / spent)
        seconds, found = ours(few, torch.float64)
        exact.append(asked.jets / seconds)
        mine.append(asked.jets / ours(few, torch.float32)[0])
        batched.append(len(counts) / ours(many, torch.float32)[0])
        if turn == 0:
            wanted = torch.tensor(values, dtype=torch.float64)
            worst = float(((found.sort(dim=1).values - wanted).abs() / wanted.abs()).max())
            print(
                f"largest relative difference of {wanted.numel():,} values in double precision: {worst:.1e}"
            )
            assert worst < 1e-6
    other.stdin.close()
    other.wait()
    base = statistics.median(theirs)
    print(
        f"mean constituents: {float(counts[chosen].double().mean()):.1f} of {asked.jets} jets, "
        f"{float(counts.double().mean()):.1f} of all"
    )
    for name, rates in (
        (f"energyflow, {asked.jets} jets one by one", theirs),
        (f"hepml, the same {asked.jets} jets, float64", exact),
        (f"hepml, the same {asked.jets} jets, float32", mine),
        (f"hepml, all {len(counts)} jets, float32", batched),
    ):
        rate = statistics.median(rates)
        print(f"{name:42s} {rate:9.1f} jets/s  {rate / base:7.1f}x")


if __name__ == "__main__":
    main()
