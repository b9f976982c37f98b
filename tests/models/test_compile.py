"""Every tagger's definition compiles into one graph with dynamic shapes: no graph break, and the same
scores."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo
from cloud import cloud
from small_taggers import NAMES, random_tagger

# Why a tagger does not compile as a whole yet, each by what stops it.
NOT_YET = {
    "dgcnn": "edges of torch_geometric: their number depends on the data",
    "efp": "the plan of polynomials is made from strings",
    "efp_mlp": "the plan of polynomials is made from strings",
    "efp_mlp_safe": "the plan of polynomials is made from strings",
    "ensemble": "its members by default compute jet observables, as mlp",
    "gat": "edges of torch_geometric: their number depends on the data",
    "gcn": "edges of torch_geometric: their number depends on the data",
    "graph_network": "edges of torch_geometric: their number depends on the data",
    "lgn": "jets of similar size are taken together, as many groups as the data has",
    "mlp": "jet observables are computed in groups of jets, as many as the data has",
    "p_cnn": "constituents are sorted only where they are not sorted yet",
    "perceptron": "as mlp",
    "recnn": "trees: as many steps as the highest has levels",
    "recnn_gated": "trees: as many steps as the highest has levels",
    "rnn": "constituents are sorted only where they are not sorted yet",
    "topodnn": "constituents are sorted only where they are not sorted yet",
    "lundnet": "trees: a jet's declusterings are as many as its constituents tell",
    "treenin": "trees: as many steps as the highest has levels",
}
COMPILED = [name for name in NAMES if name not in NOT_YET]
# A few by default, of which each stands for a kind; all of them by `-m slow`.
QUICK = ("particlenet", "lorentznet")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in COMPILED]
)
def test_a_tagger_compiles_into_one_graph_with_dynamic_shapes(name: str) -> None:
    torch._dynamo.reset()
    model = random_tagger(name).eval()
    batches = [cloud(dtype=torch.float32), cloud((9, 21, 33, 4, 17), seed=5, dtype=torch.float32)]
    graphs = 0

    def counted(graph: torch.fx.GraphModule, _: object) -> object:
        nonlocal graphs
        graphs += 1
        return graph.forward

    with (
        torch.no_grad(),
        torch._dynamo.config.patch(capture_scalar_outputs=True, capture_dynamic_output_shape_ops=True),
    ):
        compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counted)
        for batch in batches:
            assert batch.sizes  # which a batch brings to a device
            assert torch.allclose(compiled(batch), model(batch), atol=1e-5)
    assert graphs <= 2, "one graph, and another where a first one was specialised"


def test_what_does_not_compile_is_a_registered_tagger() -> None:
    assert set(NOT_YET) <= set(NAMES)
