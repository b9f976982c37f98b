"""P-CNN on a padded rectangle, layer by layer from its published description: what hepml's is compared
with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PaddedPCNN(nn.Module):
    """A state dict of `hepml.models.p_cnn.ParticleCNN` fits it."""

    def __init__(
        self, columns: int, outputs: int, stem: int, stages: Sequence[Sequence[int]], head: int
    ) -> None:
        super().__init__()
        self.fts_conv = nn.Sequential(
            nn.BatchNorm1d(columns), nn.Conv1d(columns, stem, 3, padding=1), nn.BatchNorm1d(stem), nn.ReLU()
        )
        self.resnet_units, last = nn.ModuleDict(), stem
        for i, widths in enumerate(stages):
            units = []
            for j, width in enumerate(widths):
                unit = nn.Module()
                stride = 2 if i and not j else 1
                unit.conv1 = nn.Conv1d(last, width, 3, stride=stride, padding=1)
                unit.conv2 = nn.Conv1d(width, width, 3, padding=1)
                unit.bn1, unit.bn2 = nn.BatchNorm1d(width), nn.BatchNorm1d(width)
                if stride == 2 or last != width:
                    unit.conv_sc = nn.Conv1d(last, width, 1, stride=stride, bias=False)
                units.append(unit)
                last = width
            self.resnet_units[f"resnet_unit_{i}"] = nn.Sequential(*units)
        self.fc = nn.Sequential(nn.Sequential(nn.Linear(last, head), nn.ReLU()), nn.Linear(head, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, L] to [B, outputs]."""
        x = self.fts_conv(x)
        for stage in self.resnet_units.values():
            for unit in stage:
                y = torch.relu(unit.bn2(unit.conv2(torch.relu(unit.bn1(unit.conv1(x))))))
                x = y + (unit.conv_sc(x) if hasattr(unit, "conv_sc") else x)
        return self.fc(x.mean(-1))
