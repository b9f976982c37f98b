"""Everything about speed that wants a GPU, in one run of under ten minutes: jets a second in training and in
inference, share of the device's matrix rate, memory, synchronisations a step; eager and compiled, float32 and
bfloat16; hepml's taggers beside the networks of weaver-core and of the `lgatr` package.

Run by name: `python tests/benchmarks/gpu_suite.py [FILE.root] [-o gpu.json]`. Where there is no GPU it says
so; `--device cpu --quick` goes through all of it on a few jets, which is how the script itself is tested. The
steps of all networks run on the same jets, the peers' padded to 128 constituents as their users give them.
A network that fails, or a peer that is not installed, is a row with its reason. A row that the time limit
does not reach is named, never left out in silence.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.models import create
from hepml.paths import shipped_folder
from hepml.training.benchmark.cost import count_flops

OURS = (
    "pfn", "efn", "particlenet", "particlenet_lite", "p_cnn", "transformer", "part",
    "lorentznet", "pelican_small", "lgatr_slim", "lgatr", "lloca_transformer",
)  # fmt: skip
PEERS = ("weaver_particlenet", "weaver_part", "package_lgatr", "package_lgatr_slim")
PRECISIONS = ("float32", "bfloat16")


@dataclass
class Row:
    """One network in one mode.

    Args:
        model: its name.
        precision: float32 (with TF32 products) or bfloat16 autocast.
        compiled: by `torch.compile` with dynamic shapes.
        training, inference: jets a second.
        share: of the device's rate in one large matrix product of that precision, in training (three forward
            passes' operations a step).
        memory_gb: most memory at once in a training step.
        synchronisations: of host and device in one training step, once warm; None without a GPU.
        problem: why there are no figures.
    """

    model: str
    precision: str
    compiled: bool
    training: float | None = None
    inference: float | None = None
    share: float | None = None
    memory_gb: float | None = None
    synchronisations: int | None = None
    problem: str | None = None


@dataclass
class Suite:
    """What was measured, and on what."""

    device: str
    torch: str
    jets: int
    constituents: float
    matrix_rate: dict[str, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    not_reached: list[str] = field(default_factory=list)


def measure(
    batch: JetBatch, device: torch.device, *, models: tuple[str, ...] = OURS + PEERS, rounds: int = 10,
    limit: float = 540.0, compile_them: bool = True, small: bool = False,
) -> Suite:  # fmt: skip
    """Measures all networks on one batch.

    Args:
        batch: jets with labels, on the CPU.
        device: where to measure.
        models: names; peers are those of `PEERS`.
        rounds: timed steps, after two that are not counted; medians are kept.
        limit: seconds after which no further row is begun.
        compile_them: also under `torch.compile`.
        small: small sizes of our networks, to try the script.
    """
    begun = time.monotonic()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    suite = Suite(name, torch.__version__, len(batch), float(batch.counts.double().mean()))
    suite.matrix_rate = {
        p: _matrix_rate(device, p, 4096 if device.type == "cuda" else 512) for p in PRECISIONS
    }
    flops: dict[str, float] = {}
    for compiled in (False, True) if compile_them else (False,):
        for model in models:
            for precision in PRECISIONS:
                if time.monotonic() - begun > limit:
                    suite.not_reached.append(f"{model}, {precision}{', compiled' if compiled else ''}")
                    continue
                row = Row(model, precision, compiled)
                try:
                    network = _network(model, small)
                    if model not in flops:
                        flops[model] = count_flops(network, batch.take(torch.arange(min(64, len(batch)))))
                    _measure_row(row, network, batch, device, rounds)
                    rate = suite.matrix_rate[precision]
                    row.share = None if row.training is None else 3 * flops[model] * row.training / rate
                except Exception as problem:
                    row.problem = f"{type(problem).__name__}: {' '.join(str(problem).split())[:160]}"
                suite.rows.append(row)
    return suite


class PackageNetwork(nn.Module):
    """A network of the `lgatr` package on jets padded to the largest of the batch."""

    def __init__(self, name: str) -> None:
        import lgatr  # noqa: F401  (a row says that it is not installed)
        from bench_lgatr import Padded

        super().__init__()
        self.network = Padded(name)

    def forward(self, batch: JetBatch) -> Tensor:
        """Logits, [B, 2]."""
        from bench_lgatr import padded

        return self.network(padded(batch, 0.05))  # type: ignore[no-any-return]


def _network(name: str, small: bool) -> nn.Module:
    if name.startswith("package_"):
        return PackageNetwork(name.removeprefix("package_"))
    if name in PEERS:
        import weaver_models  # noqa: F401  (registers the peers)
    if small:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from small_taggers import SMALL

        return create(name, **SMALL.get(name, {}))
    return create(name)


def _measure_row(row: Row, network: nn.Module, batch: JetBatch, device: torch.device, rounds: int) -> None:
    network = network.to(device)
    jets = batch.to(device)
    assert jets.labels is not None
    target = jets.labels
    forward: Callable[[JetBatch], Tensor] = torch.compile(network, dynamic=True) if row.compiled else network
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, foreach=True)
    cast = torch.autocast(device.type, torch.bfloat16) if row.precision == "bfloat16" else nullcontext()

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        with cast:
            logits = forward(jets)
        F.cross_entropy(logits.float(), target).backward()
        optimizer.step()

    def infer() -> None:
        with torch.no_grad(), cast:
            forward(jets)

    network.train()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    row.training = len(batch) / _seconds(train, device, rounds)
    if device.type == "cuda":
        row.memory_gb = torch.cuda.max_memory_allocated(device) / 2**30
        row.synchronisations = count_synchronisations(train)
    network.eval()
    row.inference = len(batch) / _seconds(infer, device, rounds)


def count_synchronisations(step: Callable[[], Any]) -> int:
    """How often a step makes the host wait for the GPU."""
    with _sync_warnings(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        step()
    return sum("synchroniz" in str(w.message) for w in told)


@contextmanager
def _sync_warnings() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _seconds(step: Callable[[], Any], device: torch.device, rounds: int) -> float:
    """Median seconds of a step."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    seconds = []
    for i in range(rounds + 2):
        wait()
        start = time.perf_counter()
        step()
        wait()
        if i >= 2:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _matrix_rate(device: torch.device, precision: str, side: int) -> float:
    """Operations a second of one large matrix product."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / _seconds(lambda: a @ a, device, 5)


def _jets(file: Path | None, number: int) -> JetBatch:
    """The first jets of a file, or of those that hepml carries."""
    import hepml

    jets = hepml.read_jets(str(file or shipped_folder() / "data" / "toptag" / "test.root"))
    batch = JetBatch.from_awkward(jets[:number])
    return replace(batch, labels=torch.arange(len(batch)) % 2)  # a step takes as long for any labels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "file", nargs="?", type=Path, help="ROOT file of jets; the shipped ones where left out"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu_suite.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--models", nargs="+", default=list(OURS + PEERS))
    parser.add_argument("--limit", type=float, default=540.0, help="seconds")
    parser.add_argument("--quick", action="store_true", help="small networks, few jets, eager")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU here; --device cpu --quick tries the script")
    torch.set_float32_matmul_precision("high")
    suite = measure(
        _jets(arguments.file, 16 if arguments.quick else arguments.batch),
        torch.device(arguments.device),
        models=tuple(arguments.models),
        rounds=1 if arguments.quick else 10,
        limit=arguments.limit,
        compile_them=not arguments.quick,
        small=arguments.quick,
    )
    arguments.output.write_text(json.dumps(asdict(suite), indent=2) + "\n")
    print(f"{suite.device}, torch {suite.torch}, {suite.jets} jets of {suite.constituents:.1f} constituents")
    for row in suite.rows:
        mode = f"{row.model}, {row.precision}{', compiled' if row.compiled else ''}"
        if row.problem:
            print(f"{mode:<45} {row.problem}")
            continue
        print(
            f"{mode:<45} training {row.training:>10,.0f}  inference {row.inference:>10,.0f} jets/s"
            f"  share {row.share:6.1%}  memory {row.memory_gb or 0:5.2f} GB  syncs {row.synchronisations}"
        )
    for missed in suite.not_reached:
        print(f"{missed:<45} not reached in {arguments.limit:.0f} s")


if __name__ == "__main__":
    main()
