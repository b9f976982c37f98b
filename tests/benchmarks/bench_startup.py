"""Seconds of the processor before anything is learnt: `hepml train` up to its first training step, `hepml
--help`, `hepml inspect`, and what of it are imports that Lightning brings.

Run by name: `python tests/benchmarks/bench_startup.py [FILE.root] [--rounds 5]`. Each in a fresh process on
one thread; the process's own seconds, user and system, least and median. Bytecode is kept, as where a package
is installed, and a first round that writes it is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "toptag" / "val.root"
_TOLD = "import time; print('seconds', time.process_time())"
_FIRST_STEP = """
import os, sys, time
from hepml.cli.main import main
import hepml.training.module as module
original = module.TrainingModule.training_step
def first(self, *arguments, **named):
    print("seconds", time.process_time(), flush=True)
    os._exit(0)
module.TrainingModule.training_step = first
main(["train", "quickstart", "training.epochs=1"])
"""


def jobs(file: Path) -> dict[str, str]:
    """Programs that print their seconds."""
    return {
        "import torch": f"import torch; {_TOLD}",
        "torch and an optimizer": "import torch; torch.optim.AdamW([torch.zeros(1, requires_grad=True)]); "
        + _TOLD,
        "import lightning.pytorch": f"import lightning.pytorch; {_TOLD}",
        "import mlflow.tracking": f"import mlflow.tracking; {_TOLD}",
        "hepml --help": f"from hepml.cli.main import main; main(['--help']); {_TOLD}",
        "hepml inspect": f"from hepml.cli.main import main; main(['inspect', {str(file)!r}]); {_TOLD}",
        "hepml train, to its first step": _FIRST_STEP,
    }


def seconds(program: str) -> float:
    """Of one fresh process in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        told = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
            | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return float(told.split("seconds ")[-1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=SHIPPED)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    took: dict[str, list[float]] = {name: [] for name in jobs(given.file)}
    for turn in range(given.rounds + 1):
        for name, program in jobs(given.file).items():
            second = seconds(program)
            if turn:
                took[name].append(second)
    rows = {
        name: {"least": round(min(t), 2), "median": round(statistics.median(t), 2)}
        for name, t in took.items()
    }
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
