"""The one gate of the hand-written passes, and the switch that closes it.

Every layer states what it computes in ordinary operations; a kernel computes the same faster, or in less
memory. Before a layer hands its work to a kernel it asks `allows`. What speaks against any kernel is decided
here (a compiler or an exporter is reading the layer, another device, autocast, the switch); what speaks
against a single one (dropout, batch norms that are half frozen) is decided by the layer that asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, get_args

import torch
from torch import Tensor

Kernel = Literal[
    "dropout",
    "edge_messages",
    "flow",
    "fold",
    "lorentznet_messages",
    "pair_sums",
    "pelican_network",
    "pieces",
    "scalar_vector",
]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)

_closed: ContextVar[frozenset[Kernel]] = ContextVar("hepml_kernels_closed", default=frozenset())


@contextmanager
def disabled(*kernels: Kernel) -> Iterator[None]:
    """Every layer computes by its definition within this block, or by all kernels but these.

        with hepml.nn.kernels.disabled():
            logits = model(batch)

    Args:
        kernels: the kernels not to use, of `KERNELS`; all of them where none is named.

    Raises:
        ValueError: no such kernel.
    """
    unknown = set(kernels) - set(KERNELS)
    if unknown:
        raise ValueError(f"no kernel is called {sorted(unknown)}; there are {', '.join(KERNELS)}")
    token = _closed.set(_closed.get() | frozenset(kernels or KERNELS))
    try:
        yield
    finally:
        _closed.reset(token)


def allows(kernel: Kernel, x: Tensor, *, accelerator: bool = False, autocast: bool = False) -> bool:
    """Whether this kernel may be used on x.

    Args:
        kernel: which.
        x: what it would be given: its device counts, and its dtype where it is not an index.
        accelerator: the kernel works on every device, not on the CPU alone.
        autocast: the kernel knows what to do under autocast.
    """
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if kernel in _closed.get():
        return False
    if x.device.type != "cpu" and not accelerator:
        return False
    device = x.device.type
    return autocast or not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device))
