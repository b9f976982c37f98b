"""Batch norms that are not the identity, so that nothing that reads them is trivially zero or one."""

from __future__ import annotations

import torch
from torch import nn


def stir_norms(model: nn.Module) -> None:
    """Draws statistics, gains and biases of all batch norms."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight, 1, 0.3)
            torch.nn.init.normal_(module.bias, 0, 0.3)
