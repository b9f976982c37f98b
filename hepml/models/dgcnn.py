"""DGCNN: dynamic graph convolution on the cloud of constituents (arXiv:1801.07829), by `torch_geometric`'s
`EdgeConv`."""

from __future__ import annotations

from collections.abc import Sequence

from hepml.models.catalogue import register
from hepml.models.graph_network import GraphNetwork


@register("dgcnn", paper="arXiv:1801.07829", symmetries=("permutation", "azimuthal-rotation"))
def dgcnn(
    outputs: int = 2,
    features: str | Sequence[str] = "kinematic",
    widths: Sequence[int] = (64, 64, 128),
    neighbours: int = 16,
    fusion: int = 256,
    head: Sequence[int] = (128,),
    dropout: float = 0.1,
    max_constituents: int | None = None,
) -> GraphNetwork:
    """DGCNN: EdgeConv with a maximum over neighbours, which are searched again in the space of each layer's
    features.

    x'_i = max_j h(x_i, x_j - x_i) over the k nearest neighbours and i itself, h one linear map with batch
    norm and leaky ReLU; the results of all layers are joined, mapped once more, and pooled by mean and
    maximum. The paper's network for 3D shapes is `widths=(64, 64, 128, 256), neighbours=20, fusion=1024,
    head=(512, 256), dropout=0.5`.

    Symmetry: permutations of the constituents, rotations about the beam. Arguments as for `graph_network`.
    """
    return GraphNetwork(
        outputs,
        "EdgeConv",
        {"aggr": "max"},
        features,
        widths,
        "knn",
        neighbours,
        self_loops=True,
        dynamic=True,
        edge_columns=(),
        normalise=False,
        embed=0,
        fusion=fusion,
        head=head,
        dropout=dropout,
        max_constituents=max_constituents,
    )
