"""Residual blocks with grouped convolutions for pictures: the aggregated transformations of ResNeXt
(arXiv:1611.05431)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hepml.nn.across_ranks import AcrossRanksNorm


class PictureBatchNorm(nn.BatchNorm2d, AcrossRanksNorm):
    """Batch normalisation of pictures [B, C, H, W]; with fewer than two values a channel in training the
    running statistics are used and kept as they are."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and self.synchronised:
            x = input.to(torch.promote_types(input.dtype, self.weight.dtype))
            rows = x.numel() // x.shape[1]
            mean = x.sum((0, 2, 3)) / max(1, rows)
            variance = (x - mean[:, None, None]).square().sum((0, 2, 3)) / max(1, rows)
            gain, bias = self.learn_of_all_ranks(mean, variance, rows)
            return torch.addcmul(bias[:, None, None], x, gain[:, None, None]).to(input.dtype)
        if self.training and input.numel() < 2 * input.shape[1]:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


class ResNeXtBlock(nn.Module):
    """relu(x + T(x)) with T = 1x1 to `width` channels, 3x3 in `groups` groups, 1x1 to `outputs` channels,
    each with its batch norm.

    With as many groups as ResNeXt has paths this equals the sum over its paths. In the first block of a
    stage, x goes through a linear map of each pixel and a batch norm, whether its shape changes or not.

    Args:
        inputs, outputs: channels.
        width: channels of the grouped convolution.
        groups: must divide `width`.
        stride: of the grouped convolution; 2 halves height and width.
        first: whether it begins a stage; only such a block may change the shape.
    """

    shortcut: nn.Module

    def __init__(
        self, inputs: int, outputs: int, width: int, groups: int, stride: int = 1, first: bool = False
    ) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), PictureBatchNorm(width), nn.ReLU()
        )
        self.transform = nn.Sequential(
            nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False),
            PictureBatchNorm(width),
            nn.ReLU(),
        )
        self.expand = nn.Sequential(nn.Conv2d(width, outputs, 1, bias=False), PictureBatchNorm(outputs))
        self.shortcut = nn.Identity()
        if first:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), PictureBatchNorm(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        return torch.relu(self.expand(self.transform(self.reduce(x))) + self.shortcut(x))
