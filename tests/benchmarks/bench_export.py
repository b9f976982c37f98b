"""Exported taggers in onnxruntime against torch and against weaver's own exports, one thread.

    python tests/benchmarks/bench_export.py JETS.npz [--names pfn particlenet part] [--rounds 5]

Weaver's networks are exported as its `train.py --export-onnx` does (tracing, dynamic sizes), ours by
`hepml export`, with the same weights; equal probabilities are checked first. Ours has its preprocessing
inside, weaver's is given features made ready. Processor time, in turns, the least of the rounds: what else
runs on the machine then counts least.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from hepml import models
from hepml.data.batch import JetBatch
from hepml.inference.exporting import export
from hepml.inference.exporting.session import ExportedTagger
from hepml.inference.prediction import score

SIZES = (1, 256)


class _Probabilities(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.network(*inputs).softmax(1)


def weavers(name: str) -> tuple[nn.Module, nn.Module] | None:
    """weaver's network as a tagger, and ours with its weights; None for taggers that weaver has not."""
    if name not in ("particlenet", "part"):
        return None
    import weaver_models  # noqa: F401  (registers)

    from hepml.models import part, particlenet

    torch.manual_seed(1)
    theirs = models.create(f"weaver_{name}").eval()
    if name == "part":
        theirs.network.trimmer.enabled = False  # type: ignore[union-attr]
    module = particlenet if name == "particlenet" else part
    ours = models.create(
        name, **({"rounded_masses": True, "pair_activation": False} if name == "part" else {})
    )
    ours.load_state_dict(module.weaver_state_dict_to_hepml(theirs.network.state_dict()))  # type: ignore[union-attr]
    return theirs, ours.eval()


def their_inputs(name: str, theirs: nn.Module, batch: JetBatch) -> dict[str, np.ndarray]:
    """weaver's inputs, trimmed to the longest jet."""
    from hepml.data.features import KINEMATIC

    x, p, mask = theirs.padded(batch.leading(128))  # type: ignore[operator]
    longest = int(batch.counts.max())
    x, p, mask = (t[:, :, :longest].contiguous() for t in (x, p, mask))
    points = x[:, [KINEMATIC.index("delta_eta"), KINEMATIC.index("delta_phi")]]
    found = {"points": points, "features": x} if name == "particlenet" else {"features": x, "vectors": p}
    return {k: v.numpy() for k, v in {**found, "mask": mask}.items()}


def export_theirs(name: str, theirs: nn.Module, path: Path, batch: JetBatch) -> None:
    given = {k: torch.from_numpy(v) for k, v in their_inputs(name, theirs, batch).items()}
    order = ("points", "features", "mask") if name == "particlenet" else ("features", "vectors", "mask")
    torch.onnx.export(
        _Probabilities(theirs.network).eval(),  # type: ignore[arg-type]
        tuple(given[k] for k in order),
        str(path),
        input_names=list(order),
        output_names=["softmax"],
        dynamic_axes={k: {0: "N", 2: f"n_{k}"} for k in order},
        opset_version=15,
        dynamo=False,
    )


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(opened: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    found: np.ndarray = opened.run(None, inputs)[0]
    return found


def least(work: dict[str, Callable[[], Any]], rounds: int, jets: int) -> dict[str, float]:
    """Milliseconds of processor time a jet, the least of so many rounds in turns."""
    found = dict.fromkeys(work, np.inf)
    for _ in range(rounds):
        for name, run in work.items():
            start = time.process_time()
            run()
            found[name] = min(found[name], time.process_time() - start)
    return {name: 1e3 * seconds / jets for name, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("jets", type=Path)
    parser.add_argument("--names", nargs="+", default=["pfn", "particlenet", "part"])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(arguments.jets) as given:
        jets = JetBatch.from_arrays(given["four_momenta"].astype(np.float32), given["offsets"])
    print("| tagger | jets at a time | onnxruntime | torch, packed | weaver's export | difference |")
    print("|---|---|---|---|---|---|")
    for name in arguments.names:
        with tempfile.TemporaryDirectory() as scratch:
            pair = weavers(name)
            model = pair[1] if pair else models.create(name).eval()
            export(model, Path(scratch) / "ours.onnx")
            ours, tagger = session(Path(scratch) / "ours.onnx"), ExportedTagger(Path(scratch) / "ours.onnx")
            theirs = None
            if pair:
                export_theirs(name, pair[0], Path(scratch) / "theirs.onnx", jets[:3])
                theirs = session(Path(scratch) / "theirs.onnx")
            for size in SIZES:
                some = jets[5 : 5 + size]
                inputs = tagger.padded(some)
                work: dict[str, Callable[[], Any]] = {
                    "ours": partial(_run, ours, inputs),
                    "torch": partial(score, model, some, size),
                }
                wanted, apart = work["torch"](), 0.0
                if theirs is not None and pair:
                    work["theirs"] = partial(_run, theirs, their_inputs(name, pair[0], some))
                    apart = float(np.abs(work["theirs"]() - wanted).max())
                apart = max(apart, float(np.abs(work["ours"]() - wanted).max()))
                found = least(work, arguments.rounds * (20 if size == 1 else 1), size)
                cells = " | ".join(
                    f"{found[k]:.3g}" if k in found else "-" for k in ("ours", "torch", "theirs")
                )
                print(f"| `{name}` | {size} | {cells} | {apart:.1e} |", flush=True)


if __name__ == "__main__":
    main()
