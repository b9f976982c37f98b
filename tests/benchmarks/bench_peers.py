"""Training steps of hepml's taggers beside peers at their best, each in a fresh process, in turns.

Run by name: `taskset -c 0 python tests/benchmarks/bench_peers.py [FILE] [--groups particlenet …] [--rounds
7] [-o peers.json]`. A step is forward, cross-entropy, backward and one Adam update in float32 on one
thread. Every network lives in a process of its own, which waits while the others take their turn: none
suffers from the memory that another left behind, and all see the same machine. Seconds are the process's
own. Peers are measured as their users have them and at their best: `tuned` gives glibc's allocator two
settings (memory is kept, never mapped anew), `compiled` adds `torch.compile`. hepml's are eager and ask for
the same settings themselves, as `hepml train` does. All take the same batches of mixed lengths, made ready
before the clock starts: packed for hepml, padded for the peers. The share of the machine's limit is the
matrix operations that the network needs for real constituents (hepml's count, three forward passes a step)
over the rate of one large product measured in the same turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from packed_peers import PackedEdgeConvNet, PackedTransformer, SaltTransformer, WeaverInputs
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.training.allocator import keep_freed_memory

BATCHES = 2  # different ones, taken in turn
SIDE = 1024  # of the large product
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
Step = Callable[[int], None]


@dataclass(frozen=True)
class Peer:
    """One row: a network, and how it is run.

    Args:
        make: the network and its inputs for each batch.
        tuned: with the allocator's settings.
        compiled: by `torch.compile`.
    """

    make: Callable[[list[JetBatch]], tuple[nn.Module, list[tuple[Any, ...]]]]
    tuned: bool = False
    compiled: bool = False


def _ours(name: str, **arguments: Any) -> Peer:
    def make(batches: list[JetBatch]) -> tuple[nn.Module, list[tuple[Any, ...]]]:
        model = create(name, **arguments)
        keep_freed_memory()  # as `hepml train` does
        names = model.inputs.features
        if not names:
            return model, [(b,) for b in batches]
        ready = [
            JetBatch.from_arrays(b.four_momenta, b.offsets, b.select(names), feature_names=names)
            for b in batches
        ]
        return model, [(b,) for b in ready]

    return Peer(make)


def _weaver(
    name: str, *, trim: bool = True
) -> Callable[[list[JetBatch]], tuple[nn.Module, list[tuple[Any, ...]]]]:
    """weaver's network on jets padded to 128 and trimmed by its own trimmer in the forward pass; without
    `trim`, cut to the largest jet of the batch beforehand, which compiles as a whole."""

    def make(batches: list[JetBatch]) -> tuple[nn.Module, list[tuple[Any, ...]]]:
        import weaver_models  # noqa: F401  (registers the peers)

        inputs = WeaverInputs(create(name), points=name == "weaver_particlenet")
        if not trim:
            inputs.network.trimmer.enabled = False
            return inputs, [tuple(t[..., : b.max_count].contiguous() for t in inputs.of(b)) for b in batches]
        ready = [inputs.of(b) for b in batches]
        for _ in range(5):  # the trimmer leaves its first five batches as they are
            inputs.network.trimmer(*inputs.trimmed(ready[0]))
        return inputs, ready

    return make


def _package(name: str) -> Callable[[list[JetBatch]], tuple[nn.Module, list[tuple[Any, ...]]]]:
    def make(batches: list[JetBatch]) -> tuple[nn.Module, list[tuple[Any, ...]]]:
        from bench_lgatr import Padded, padded

        return Padded(name), [(padded(b, 0.05),) for b in batches]

    return make


def _edge_list(batches: list[JetBatch]) -> tuple[nn.Module, list[tuple[Any, ...]]]:
    from bench_lorentznet import EdgeList

    return EdgeList(create("lorentznet", references=("beam",))), [(b,) for b in batches]  # type: ignore[arg-type]


def _plain(kind: Any) -> Callable[[list[JetBatch]], tuple[nn.Module, list[tuple[Any, ...]]]]:
    def make(batches: list[JetBatch]) -> tuple[nn.Module, list[tuple[Any, ...]]]:
        model = kind()
        return model, [model.ready(b) for b in batches]

    return make


def _ways(label: str, make: Any, compiled: Any = None) -> dict[str, Peer]:
    """A peer as its users have it, tuned, and tuned and compiled where it compiles as a whole."""
    rows = {label: Peer(make), f"{label}, tuned": Peer(make, tuned=True)}
    return rows if compiled is None else {**rows, f"{label}, compiled": Peer(compiled, True, True)}


# By group: the jets of a batch, hepml's name, and the rows. The first row is hepml's.
GROUPS: dict[str, tuple[int, dict[str, Peer]]] = {
    "particlenet": (
        64,
        {
            "hepml particlenet": _ours("particlenet"),
            **_ways(
                "weaver ParticleNet",
                _weaver("weaver_particlenet"),
                _weaver("weaver_particlenet", trim=False),
            ),
            **_ways("torch_geometric EdgeConv, packed", _plain(PackedEdgeConvNet), _plain(PackedEdgeConvNet)),
        },
    ),
    "part": (
        64,
        {
            "hepml part": _ours("part"),
            **_ways("weaver ParT", _weaver("weaver_part"), _weaver("weaver_part", trim=False)),
        },
    ),
    "transformer": (
        64,
        {
            "hepml transformer": _ours("transformer"),
            **_ways("packed attention, 40 lines", _plain(PackedTransformer)),
            **_ways("salt", _plain(SaltTransformer)),
        },
    ),
    "lgatr": (
        32,
        {"hepml lgatr": _ours("lgatr"), **_ways("lgatr package", _package("lgatr"), _package("lgatr"))},
    ),
    "lgatr_slim": (
        32,
        {
            "hepml lgatr_slim": _ours("lgatr_slim"),
            **_ways("lgatr package, slim", _package("lgatr_slim"), _package("lgatr_slim")),
        },
    ),
    "lorentznet": (
        32,
        {"hepml lorentznet": _ours("lorentznet", references=("beam",)), **_ways("edge list", _edge_list)},
    ),
    "particlenet_lite": (64, {"hepml particlenet_lite": _ours("particlenet_lite")}),
    "pfn": (512, {"hepml pfn": _ours("pfn")}),
}


def jets_of(file: Path, size: int) -> list[JetBatch]:
    """Batches of jets taken at random from a file, their labels made two classes."""
    import hepml

    whole = JetBatch.from_awkward(hepml.read_jets(str(file)))
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(1))
    batches = [whole.take(order[i * size : (i + 1) * size]) for i in range(BATCHES)]
    return [replace(b, labels=torch.arange(len(b)) % 2) for b in batches]


def work(group: str, row: str, file: Path, jets: int | None) -> None:
    """A worker: takes the step whose number it reads, and answers with its seconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size, rows = GROUPS[group]
    peer, batches = rows[row], jets_of(file, jets or size)
    model, inputs = peer.make(batches)
    model.train()
    forward: Callable[..., Tensor] = torch.compile(model, dynamic=True) if peer.compiled else model
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    print("ready", flush=True)
    for line in sys.stdin:
        i = int(line)
        start = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(forward(*inputs[i]), batches[i].labels).backward()
        optimizer.step()
        print(time.process_time() - start, flush=True)


def operations(group: str, file: Path, size: int) -> float:
    """Matrix operations a jet of hepml's network of the group, forward."""
    from hepml.training.benchmark.cost import count_flops

    _, rows = GROUPS[group]
    batches = jets_of(file, size)
    peer = next(iter(rows.values()))
    return statistics.mean(count_flops(peer.make([b])[0], b) for b in batches)


def measure(group: str, file: Path, rounds: int, jets: int | None, only: str) -> dict[str, Any]:
    """Jets a second of every row of a group, medians over rounds of all batches, and shares of the limit."""
    size, rows = GROUPS[group]
    size = jets or size
    rows = {row: peer for i, (row, peer) in enumerate(rows.items()) if not i or only in row}
    workers: dict[str, subprocess.Popen[str]] = {}
    failed: dict[str, str] = {}

    def ask(row: str, batch: int) -> float | None:
        worker = workers[row]
        assert worker.stdin is not None
        assert worker.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.write(f"{batch}\n")
            worker.stdin.flush()
        answer = worker.stdout.readline()
        if answer:
            return float(answer)
        give_up(row)
        return None

    def give_up(row: str) -> None:
        worker = workers.pop(row)
        told = (worker.stderr.read() if worker.stderr else "").strip().splitlines()
        failed[row] = told[-1][:200] if told else f"ended with {worker.wait()}"

    for row, peer in rows.items():
        command = [sys.executable, __file__, str(file), "--work", group, row, "--jets", str(size)]
        env = {**os.environ, **(ALLOCATOR if peer.tuned else {})}
        pipe = subprocess.PIPE
        worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env)
        workers[row] = worker
        assert worker.stdout is not None
        if worker.stdout.readline().strip() != "ready":
            give_up(row)
            continue
        for i in (*range(BATCHES), *range(BATCHES)):  # compiled, and memory grown
            if row in workers:
                ask(row, i)
    square = torch.randn(SIDE, SIDE)
    seconds: dict[str, list[float]] = {row: [] for row in workers}
    products: list[float] = []
    for _ in range(rounds):
        spent = dict.fromkeys(workers, 0.0)
        for i in range(BATCHES):
            for row in list(workers):
                spent[row] += ask(row, i) or 0.0
            start = time.process_time()
            for _ in range(5):
                square @ square
            products.append((time.process_time() - start) / 5)
        for row in workers:
            seconds[row].append(spent[row])
    for worker in workers.values():
        assert worker.stdin is not None
        worker.stdin.close()
        worker.wait()
    limit = 2 * SIDE**3 / statistics.median(products)
    need = 3 * operations(group, file, size)
    rates = {row: size * BATCHES / statistics.median(s) for row, s in seconds.items() if s}
    first = next(iter(rows))
    return {
        "group": group,
        "batch": size,
        "constituents": round(
            statistics.mean(float(b.counts.double().mean()) for b in jets_of(file, size)), 1
        ),
        "GFLOP/s of one product": round(limit / 1e9, 1),
        "MFLOP a jet, forward": round(need / 3e6, 1),
        "rows": {
            row: {
                "jets/s": round(rate, 1),
                "lowest to highest": [round(size * BATCHES / f(seconds[row]), 1) for f in (max, min)],
                "share of the limit": round(need * rate / limit, 2),
                "hepml is so many times as fast": round(rates[first] / rate, 2),
            }
            for row, rate in rates.items()
        },
        "failed": failed,
    }


def main() -> None:
    shipped = Path(__file__).resolve().parents[2] / "data" / "toptag" / "val.root"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?", default=shipped)
    parser.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--jets", type=int, help="of a batch; the group's own where left out")
    parser.add_argument("--only", default="", help="peers whose name has this, beside hepml's")
    parser.add_argument("--work", nargs=2, metavar=("GROUP", "ROW"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(*given.work, given.file, given.jets)
        return
    torch.set_num_threads(1)
    found = []
    for group in given.groups:
        found.append(measure(group, given.file, given.rounds, given.jets, given.only))
        print(json.dumps(found[-1], indent=1), flush=True)
        if given.output:
            given.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
