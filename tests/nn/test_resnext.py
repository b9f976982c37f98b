"""The ResNeXt block is a sum over its paths."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from hepml.nn.resnext import PictureBatchNorm, ResNeXtBlock


def test_grouped_convolution_equals_the_sum_over_paths() -> None:
    torch.manual_seed(0)
    block = ResNeXtBlock(6, 6, 8, groups=4).double().eval()
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        total = torch.zeros_like(x)
        for path in range(4):  # two channels each: 1x1 down, 3x3, 1x1 up
            own = slice(2 * path, 2 * path + 2)
            down = block.reduce(x)[:, own]
            middle = F.conv2d(down, block.transform[0].weight[own], padding=1)
            middle = torch.relu(middle / (1 + block.transform[1].eps) ** 0.5)  # a fresh norm in evaluation
            total += F.conv2d(middle, block.expand[0].weight[:, own])
        expected = torch.relu(x + total / (1 + block.expand[1].eps) ** 0.5)
        assert torch.allclose(block(x), expected, rtol=0, atol=1e-12)


def test_the_first_block_of_a_stage_may_change_the_shape() -> None:
    block = ResNeXtBlock(4, 10, 6, groups=3, stride=2, first=True)
    assert block(torch.zeros(2, 4, 8, 8)).shape == (2, 10, 4, 4)


def test_one_value_a_channel_leaves_running_statistics_as_they_are() -> None:
    norm = PictureBatchNorm(3)
    for x in (torch.randn(1, 3, 1, 1), torch.zeros(0, 3, 4, 4)):
        assert norm(x).shape == x.shape
    assert torch.equal(norm.running_mean, torch.zeros(3))
    norm(torch.randn(1, 3, 2, 2) + 5)
    assert (norm.running_mean > 0.1).all()
