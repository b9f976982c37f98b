"""GCN: graph convolutions on the nearest neighbours of each constituent (arXiv:1609.02907), by
`torch_geometric`'s `GCNConv`."""

from __future__ import annotations

from collections.abc import Sequence

from hepml.models.catalogue import register
from hepml.models.graph_network import GraphNetwork
from hepml.representations.graph import EdgeKind


@register("gcn", paper="arXiv:1609.02907", symmetries=("permutation", "azimuthal-rotation"))
def gcn(
    outputs: int = 2,
    features: str | Sequence[str] = "kinematic",
    widths: Sequence[int] = (64, 64, 64),
    edges: EdgeKind = "knn",
    neighbours: int = 16,
    radius: float = 0.2,
    edge_columns: Sequence[str] = (),
    embed: int = 64,
    head: Sequence[int] = (64,),
    dropout: float = 0.1,
    max_constituents: int | None = None,
) -> GraphNetwork:
    """GCN: each layer averages a linear map of a constituent and its neighbours, x'_i = sum_j W x_j /
    sqrt(d_i d_j).

    Symmetry: permutations of the constituents, rotations about the beam. Arguments as for
    `graph_network`; with `edge_columns` the average is weighted by a learnt function of the edge's
    features, without them it is the published one.
    """
    return GraphNetwork(
        outputs,
        "GCNConv",
        None,
        features,
        widths,
        edges,
        neighbours,
        radius,
        edge_columns=edge_columns,
        embed=embed,
        head=head,
        dropout=dropout,
        max_constituents=max_constituents,
    )
