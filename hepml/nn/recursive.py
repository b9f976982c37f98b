"""Folding a forest of binary trees from the leaves to the roots, level by level, for all jets at once.

A node's embedding depends on its two children's, so a batch takes as many steps as its highest tree has
levels. Cells are pure functions of arrays and weights; `hepml.nn.kernels.fold` folds in one buffer of all
nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hepml.nn import kernels
from hepml.nn.kernels.fold import Cell, fold_by_levels


def fold(
    cell: Cell,
    leaves: Tensor,
    inputs: Tensor,
    children: Tensor,
    levels: Sequence[int],
    weights: Sequence[Tensor],
) -> Tensor:
    """Embeddings of all nodes.

    Args:
        cell: (pair [K, 2H], inputs [K, C], *weights) -> [K, H], each row for itself; `pair` is [h_L, h_R].
        leaves: [N, H] embeddings of the leaves.
        inputs: [M, C] inputs of the merges.
        children: [M, 2] nodes that each merge joins (see `hepml.representations.trees.Forest`).
        levels: merges on each level, from the lowest.
        weights: what the cell needs beside.

    Returns:
        [N + M, H].
    """
    if kernels.allows("fold", leaves, accelerator=True, autocast=True):
        return fold_by_levels(cell, leaves, inputs, children, tuple(levels), weights)
    embedding, start = leaves, 0
    for size in levels:
        merges = slice(start, start + size)
        pair = embedding.index_select(0, children[merges].flatten()).view(size, -1)
        merged = cell(pair, inputs[merges], *weights)
        embedding = torch.cat((embedding, merged.to(leaves.dtype)))
        start += size
    return embedding


def simple_cell(pair: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
    """h = relu(W_h [h_L, h_R, u] + b), with `inputs` the part W_u u + b, taken for all merges at once, and
    `weight` [H, 2H] the rest."""
    return torch.relu_(torch.addmm(inputs, pair, weight.t()))


def gated_cell(
    pair: Tensor,
    u: Tensor,
    reset_weight: Tensor,
    reset_bias: Tensor,
    new_weight: Tensor,
    new_bias: Tensor,
    mix_weight: Tensor,
    mix_bias: Tensor,
) -> Tensor:
    """The gated recursive unit of arXiv:1702.00748.

    [r_L, r_R, r_N] = sigmoid(W_r [h_L, h_R, u] + b_r)
    h~ = relu(W_h [r_L h_L, r_R h_R, r_N u] + b_h)
    [z_H, z_L, z_R, z_N] = softmax over the four, unit by unit, of W_z [h~, h_L, h_R, u] + b_z
    h = z_H h~ + z_L h_L + z_R h_R + z_N u
    """
    given = torch.cat((pair, u), dim=1)
    reset = torch.sigmoid(F.linear(given, reset_weight, reset_bias))
    new = torch.relu(F.linear(reset * given, new_weight, new_bias))
    every = torch.cat((new.to(given.dtype), given), dim=1)
    share = F.linear(every, mix_weight, mix_bias).view(len(u), 4, -1).softmax(dim=1)
    return (share * every.view(len(u), 4, -1)).sum(dim=1)


def networked_cell(
    pair: Tensor,
    inputs: Tensor,
    weight: Tensor,
    first: Tensor,
    first_bias: Tensor,
    second: Tensor,
    second_bias: Tensor,
) -> Tensor:
    """The simple cell with a network of two layers on top of it (network in network)."""
    h = simple_cell(pair, inputs, weight)
    return torch.relu(F.linear(torch.relu(F.linear(h, first, first_bias)), second, second_bias))
