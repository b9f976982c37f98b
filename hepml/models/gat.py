"""GAT: graph attention on the nearest neighbours of each constituent (arXiv:1710.10903; v2,
arXiv:2105.14491), by `torch_geometric`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hepml.models.catalogue import register
from hepml.models.graph_network import GraphNetwork
from hepml.representations.graph import EDGE_FEATURES, EdgeKind


@register("gat", paper="arXiv:1710.10903", symmetries=("permutation", "azimuthal-rotation"))
def gat(
    outputs: int = 2,
    features: str | Sequence[str] = "kinematic",
    version: Literal[1, 2] = 2,
    heads: int = 4,
    widths: Sequence[int] = (64, 64, 64),
    edges: EdgeKind = "knn",
    neighbours: int = 16,
    radius: float = 0.2,
    edge_columns: Sequence[str] = EDGE_FEATURES,
    embed: int = 64,
    attention_dropout: float = 0.0,
    head: Sequence[int] = (64,),
    dropout: float = 0.1,
    max_constituents: int | None = None,
) -> GraphNetwork:
    """GAT: each layer averages over neighbours with weights that it computes from both ends and the edge
    between them.

    Version 1 scores an edge by LeakyReLU(a . [W x_i, W x_j, W_e e_ij]); version 2 by a . LeakyReLU(W [x_i,
    x_j, e_ij]), whose ranking of neighbours can depend on i. Symmetry: permutations of the constituents,
    rotations about the beam.

    Args:
        version: of the attention.
        heads: joined; they share each width.
        attention_dropout: of attention weights, in training.
        outputs, features, widths, edges, neighbours, radius, edge_columns, embed, head, dropout,
            max_constituents: as for `graph_network`.
    """
    return GraphNetwork(
        outputs,
        "GATConv" if version == 1 else "GATv2Conv",
        {"heads": heads, "dropout": attention_dropout},
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
