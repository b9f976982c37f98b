"""Batch statistics of the first layer of the messages, without going over its pairs.

The first layer is e_ij = a_i + b_j + U s_ij with s_ij = s_ji, over all pairs i ≠ j of each jet. With a, b and
s centred, and d_i the pairs of node i, S_i = sum_j s_ij, and B the sum of b over a jet,

    sum e² = sum_i d_i (a_i² + b_i²) + 2 sum_i a_i (B - b_i) + 2 sum_i (a_i + b_i) U S_i + sum_ij (U s_ij)²,

of which the last term is U (sum s sᵀ) Uᵀ. Everything is a sum over nodes, and differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hepml.nn.across_ranks import gain_and_bias
from hepml.nn.norm import PackedBatchNorm
from hepml.packed.pairs import OrderedPairs
from hepml.packed.segments import segment_sum


def pair_statistics(
    a: Tensor, b: Tensor, s: Tensor, products: Tensor, pairs: OrderedPairs
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over all pairs of a_i + b_j + U s_ij, each [W].

    Args:
        a, b: [M, W].
        s: [P, 2], equal for a pair and its reverse.
        products: U [W, 2].
        pairs: the pairs, one at least.
    """
    n = len(pairs)
    share = (pairs.degree.to(a.dtype) / n)[:, None]
    mean_a, mean_b, mean_s = (share * a).sum(0), (share * b).sum(0), s.mean(0)
    a, b, s = a - mean_a, b - mean_b, s - mean_s
    jet = segment_sum(b, pairs.offsets).repeat_interleave(pairs.offsets.diff(), dim=0, output_size=len(b))
    around = (a * (jet - b) + (a + b) * (pairs.sum(s) @ products.T)).sum(0) / n
    own = (share * (a.square() + b.square())).sum(0)
    variance = own + 2 * around + ((products @ (s.T @ s / n)) * products).sum(1)
    return mean_a + mean_b + products @ mean_s, variance.clamp_min(0)


def normalised(
    a: Tensor, b: Tensor, s: Tensor, products: Tensor, pairs: OrderedPairs, norm: PackedBatchNorm
) -> tuple[Tensor, Tensor, Tensor]:
    """a, b and U such that a_i + b_j + U s_ij is what `norm` makes of it: the batch norm folded into the
    layer that it follows.

    In training with more than one pair, statistics are those of the pairs, and the running ones learn from
    them.
    """
    across = norm.training and norm.synchronised
    if norm.training and (len(pairs) > 1 or across):
        with torch.autocast(a.device.type, enabled=False):
            exact = torch.promote_types(a.dtype, norm.weight.dtype)
            mean, variance = pair_statistics(a.to(exact), b.to(exact), s.to(exact), products.to(exact), pairs)
            if across:
                gain, bias = norm.learn_of_all_ranks(mean, variance, len(pairs))
            else:
                norm.remember(mean.detach(), variance.detach(), len(pairs))
                gain, bias = gain_and_bias(norm.weight, norm.bias, mean, variance, norm.eps)
    else:
        gain, bias = norm.gain_and_bias()
    return torch.addcmul(bias, a, gain), b * gain, products * gain[:, None]
