"""The statistics of batch norms, measured again with the weights as they are.

Running averages describe the weights of the last ten steps or so. While weights move fast, above all where
an epoch has few steps, they lag behind, and a model is validated with statistics that none of its weights
had. Measured over some batches with the weights of one moment they fit (arXiv:2105.07576, section 3).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

from hepml.data.batch import JetBatch
from hepml.data.loader import JetLoader
from hepml.nn.norm import Standardise
from hepml.training.random_state import random_state, restore_random_state


def learning_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Batch norms in training mode that keep running statistics: frozen ones are in evaluation."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.training
        and module.running_mean is not None
    ]


@torch.no_grad()
def measure_norms(
    model: nn.Module, batches: Iterable[JetBatch], forward: Callable[[JetBatch], object] | None = None
) -> int:
    """Sets the running statistics of a model's batch norms to their mean over `batches`.

    Batches pass through the model in training mode one after the other; weights and the random state stay as
    they are, and so do norms that no batch has enough rows for.

    Args:
        model: in training mode; norms in evaluation are left alone.
        batches: on the model's device.
        forward: what is done with a batch; the model's own pass where left out.

    Returns:
        How many norms were measured.

    Examples:
        >>> model = hepml.models.create('particlenet_lite').train()
        >>> jets = hepml.data.JetDataset.open('data/toptag/val.root', model.inputs, max_jets=64)
        >>> hepml.training.measure_norms(model, hepml.data.JetLoader(jets, batch_size=32))
        9
    """
    norms, before = learning_norms(model), random_state()
    counts = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    kept = [(norm.momentum, count.clone()) for norm, count in zip(norms, counts, strict=True)]
    apart = [m for m in model.modules() if isinstance(m, Standardise) and m.training]
    try:
        for module in apart:  # what they learn once they have learnt
            module.eval()
        for norm, count in zip(norms, counts, strict=True):
            norm.momentum = None  # torch keeps the mean over all batches since the count was zero then
            count.zero_()
        for batch in batches:
            (forward or model)(batch)
        return sum(int(count) > 0 for count in counts)
    finally:
        for norm, count, (momentum, before_it) in zip(norms, counts, kept, strict=True):
            norm.momentum = momentum
            count.copy_(before_it)
        for module in apart:
            module.train()
        restore_random_state(before)


def first_batches(loader: JetLoader, number: int) -> Iterator[JetBatch]:
    """The first batches of a loader's epoch, whose own position stays where it is."""
    again = copy.copy(loader)
    again.load_state_dict({**loader.state_dict(), "position": 0})
    return itertools.islice(iter(again), number)
