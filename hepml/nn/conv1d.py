"""Convolutions along the sequence of a jet's constituents, padded to a fixed length of which only a part is
ever computed.

Behind its last constituent a jet padded with zeros is the same as every other: some way behind it, whatever a
stack of convolutions and normalisations makes of it is what they make of zeros alone. So a batch of padded
sequences is held as a `Padded`: the steps in which its jets may differ, and one *silent* sequence, made of
zeros at the input and taken through the same layers at full length, whose remaining steps all of them share.
Results are those of the padded network but for rounding, in training too; of the 128 steps of a top-tagging
jet more than half are never computed. Channels come last in memory, which is what convolutions on a CPU are
fastest on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hepml.nn.norm import PackedBatchNorm


@dataclass(frozen=True)
class Padded:
    """B sequences of one length L, of which all but the first W steps are alike.

    Args:
        own: [B, W, C] the first W steps of each, W ≤ L.
        silent: [1, L, C] the sequence of zeros; each sequence goes on with its steps from W on.
    """

    own: Tensor
    silent: Tensor

    @property
    def shared(self) -> Tensor:
        """[1, L - W, C] the steps that all sequences share."""
        return self.silent[:, self.own.shape[1] :]

    def map(self, function: Callable[[Tensor], Tensor]) -> Padded:
        """The same function on every step."""
        return Padded(function(self.own), function(self.silent))

    def __add__(self, other: Padded) -> Padded:
        """Sum of two sets of sequences; it is as wide as the wider one."""
        width = max(self.own.shape[1], other.own.shape[1])
        return Padded(self.window(0, width) + other.window(0, width), self.silent + other.silent)

    def window(self, first: int, last: int) -> Tensor:
        """Steps `first` to `last` of each, [B, last - first, C]; zeros before the beginning and after
        step L."""
        (jets, width, channels), length = self.own.shape, self.silent.shape[1]
        if first == 0 and last <= width:
            return self.own[:, :last]
        parts = [
            self.own[:, max(first, 0) : min(last, width)],
            self.shared[:, : max(last - width, 0)].expand(jets, -1, -1),
        ]
        before, after = max(-first, 0), max(last - length, 0)
        if before:
            parts.insert(0, self.own.new_zeros(()).expand(jets, before, channels))
        if after:
            parts.append(self.own.new_zeros(()).expand(jets, after, channels))
        return torch.cat(parts, dim=1)

    def mean(self) -> Tensor:
        """Mean over all L steps, [B, C]."""
        return (self.own.sum(1) + self.shared.sum(1)) / self.silent.shape[1]


class PaddedConv1d(nn.Conv1d):
    """`nn.Conv1d` on `Padded` sequences, for odd kernels with half as much zero padding (sizes 3 and 1, or 1
    and 0)."""

    def forward(self, input: Padded) -> Padded:  # type: ignore[override]
        stride, reach = self.stride[0], self.kernel_size[0] // 2
        length = (input.silent.shape[1] - 1) // stride + 1
        # Output o sees steps stride·o - reach to stride·o + reach; the first that sees none of the own steps
        # is shared.
        width = min(length, (input.own.shape[1] + reach + stride - 1) // stride)
        return Padded(
            self._convolve(input, width), self._convolve(Padded(input.silent, input.silent), length)
        )

    def _convolve(self, input: Padded, outputs: int) -> Tensor:
        stride, reach = self.stride[0], self.kernel_size[0] // 2
        if outputs == 0:
            return input.own.new_zeros((input.own.shape[0], 0, self.out_channels))
        x = input.window(-reach, stride * (outputs - 1) + reach + 1)
        # A picture of one row: a convolution of three-dimensional tensors would be taken with channels first.
        y = F.conv2d(x.transpose(1, 2)[:, :, None], self.weight[:, :, None], self.bias, (1, stride))
        return y[:, :, 0].transpose(1, 2)


class PaddedBatchNorm(PackedBatchNorm):
    """Batch normalisation of `Padded` sequences with statistics over all B·L steps, padding included, as the
    padded network takes them."""

    def forward(self, input: Padded) -> Padded:  # type: ignore[override]
        jets, length = input.own.shape[0], input.silent.shape[1]
        across = self.training and self.synchronised
        if not self.training or (jets * length < 2 and not across):
            gain, bias = self.gain_and_bias()
            return input.map(lambda x: torch.addcmul(bias, x, gain))
        dtype = self.weight.dtype
        mean = input.map(lambda x: x.to(dtype)).mean().sum(0) / max(jets, 1)
        centred = input.map(lambda x: x - mean)
        variance = centred.map(torch.square).mean().sum(0) / max(jets, 1)
        if across:
            gain, bias = self.learn_of_all_ranks(mean, variance, jets * length)
            return input.map(lambda x: torch.addcmul(bias, x, gain))
        self.remember(mean.detach(), variance.detach(), jets * length)
        gain = self.weight * torch.rsqrt(variance + self.eps)
        return centred.map(lambda x: torch.addcmul(self.bias, x, gain))
