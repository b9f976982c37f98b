"""RecNN against the recursion it is described by, node by node and jet by jet, with the same weights; and
clustering against FastJet.

    python tests/benchmarks/bench_recnn.py toptag_reference_1000.npz [--jets 64] [--batches 64 1000]

Scores and gradients are compared first. CPU time of one thread, the sides in turns (ours ten times a turn),
medians. Trees are ready in the batch; the recursion is torch, as a first implementation is written.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.data.trees import trees
from hepml.models import create
from hepml.models.recnn import RecursiveNetwork
from hepml.representations.trees import forest, node_inputs


def recursion(model: RecursiveNetwork, batch: JetBatch) -> Tensor:
    """The network of arXiv:1702.00748 as a recursive function of one node."""
    view = forest(batch, model.tree)
    x, n, children = node_inputs(view, batch), view.leaves, view.children.tolist()

    def embedding(node: int) -> Tensor:
        u = torch.relu(model.w_u(x[node : node + 1]))
        if node < n:
            return u
        left, right = children[node - n]
        hl, hr = embedding(left), embedding(right)
        if model.w_r is None or model.w_z is None:
            return torch.relu(model.w_h(torch.cat((hl, hr, u), dim=1)))
        given = torch.cat((hl, hr, u), dim=1)
        new = torch.relu(model.w_h(torch.sigmoid(model.w_r(given)) * given))
        every = torch.cat((new, given), dim=1)
        return (model.w_z(every).view(4, -1).softmax(0) * every.view(4, -1)).sum(0, keepdim=True)

    return torch.cat([model.head(embedding(root)) for root in view.roots.tolist()])


def timed(function: Callable[[], object], times: int = 1) -> float:
    """CPU seconds of one of so many calls."""
    begun = time.process_time()
    for _ in range(times):
        function()
    return (time.process_time() - begun) / times


def step(function: Callable[[], Tensor], model: nn.Module) -> Tensor:
    model.zero_grad()
    out = function()
    out.square().mean().backward()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file")
    parser.add_argument(
        "--jets", type=int, default=64, help="jets of the recursion, whose rate does not depend on it"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 1000], help="jets a batch of ours")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(asked.file) as file:
        whole = JetBatch.from_arrays(file["four_momenta"], file["offsets"])
    some = whole.take(torch.arange(asked.jets))
    print(f"{asked.jets} jets of {float(some.counts.double().mean()):.1f} constituents on average")

    def carried(batch: JetBatch, name: str) -> JetBatch:
        return JetBatch(batch.four_momenta, batch.offsets, extras={name: batch.extra(name)})

    for name, tree in (("recnn", "kt"), ("recnn_gated", "cambridge_aachen"), ("recnn", "descending_pt")):
        torch.manual_seed(0)
        model = create(name, tree=tree)
        batch = carried(some, f"tree_{tree}")
        a, b = step(lambda: model(batch), model), None  # noqa: B023 - called at once
        ours = [p.grad.clone() for p in model.parameters()]
        b = step(lambda: recursion(model, batch), model)  # noqa: B023
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        for p, g in zip(model.parameters(), ours, strict=True):
            torch.testing.assert_close(p.grad, g, rtol=1e-3, atol=1e-4 * float(g.abs().max()))
        batches = {n: carried(whole.take(torch.arange(n)), f"tree_{tree}") for n in asked.batches}
        base: dict[str, list[float]] = {"forward": [], "training": []}
        rates: dict[tuple[str, int], list[float]] = {}
        for _ in range(asked.rounds):
            with torch.no_grad():
                base["forward"].append(timed(lambda: recursion(model, batch)) / asked.jets)  # noqa: B023
                for n, own in batches.items():
                    seconds = timed(lambda: model(own), 10) / n  # noqa: B023
                    rates.setdefault(("forward", n), []).append(seconds)
            base["training"].append(timed(lambda: step(lambda: recursion(model, batch), model)) / asked.jets)  # noqa: B023
            for n, own in batches.items():
                seconds = timed(lambda: step(lambda: model(own), model), 10) / n  # noqa: B023
                rates.setdefault(("training", n), []).append(seconds)
        for (what, n), seconds_a_jet in rates.items():
            fast, slow = statistics.median(seconds_a_jet), statistics.median(base[what])
            print(
                f"{name} on {tree}, {what}: recursion {1 / slow:.0f} jets/s, ours {1 / fast:.0f} in "
                f"batches of {n}, {slow / fast:.0f}x"
            )
    _clustering(whole, asked.rounds)


def _clustering(batch: JetBatch, rounds: int) -> None:
    """All jets' kT trees; FastJet's as (children of every merge) through its history, which its Python side
    walks jet by jet."""
    import fastjet
    from fastjet import _swig

    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 100.0)
    rows, ends = batch.four_momenta.double().tolist(), batch.offsets.tolist()

    def cluster_only() -> None:
        for a, b in pairwise(ends):
            _swig.ClusterSequence([fastjet.PseudoJet(x, y, z, e) for e, x, y, z in rows[a:b]], definition)

    def with_trees() -> None:
        for a, b in pairwise(ends):
            jets = [fastjet.PseudoJet(x, y, z, e) for e, x, y, z in rows[a:b]]
            sequence = _swig.ClusterSequence(jets, definition)
            waiting = list(sequence.inclusive_jets(0.0))
            while waiting:
                jet = waiting.pop()
                left, right = fastjet.PseudoJet(), fastjet.PseudoJet()
                if jet.has_parents(left, right):
                    waiting += (left, right)

    sides = {
        "FastJet, one jet at a time, without reading the tree": cluster_only,
        "FastJet, with the tree": with_trees,
        "hepml, batched": lambda: trees(batch.four_momenta, batch.offsets, "kt"),
    }
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, function in sides.items():
            spent[name].append(timed(function))
    for name, seconds in spent.items():
        print(f"kT trees, {name}: {len(batch) / statistics.median(seconds):8.0f} jets/s")


if __name__ == "__main__":
    main()
