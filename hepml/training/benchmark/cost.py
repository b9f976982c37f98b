"""What a tagger costs: floating-point operations of a forward pass, and jets a second in training and
inference.

Operations are counted by `torch.utils.flop_counter` while real jets pass through the model, a multiplication
and an addition being two. It sees every matrix product that is carried out, so that a model which does less
than its definition (ParticleNet's first edge layer is split here) counts for less. Three things would hide
products from it, and are switched off while counting: fused recurrent cells, fused attention, and CPU-only
kernels inside autograd functions, which only training uses (the count is taken in evaluation). Elementwise
work, sums and gathers are not counted, which is the field's convention. Beside a speed stands what the same
processor does with nothing but one large product, so that operations times speed can be given as a share of
it.
"""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hepml.data.batch import JetBatch
from hepml.errors import DataError
from hepml.inference.prediction import head_of


def count_flops(model: nn.Module, batch: JetBatch, *, ready: bool = False) -> float:
    """Floating-point operations a jet of a forward pass in evaluation, on the CPU.

    Args:
        model: any tagger; it is left as it was.
        batch: jets that the model takes; the number depends on how many constituents they have.
        ready: leave out what makes the views that come with the batch from loading (polynomials, say).

    Raises:
        DataError: no jets.
    """
    if not len(batch):
        raise DataError("no jets to count operations on", mend="give a batch with some")
    where = next((p.device for p in model.parameters()), torch.device("cpu"))
    counted = model if where.type == "cpu" else copy.deepcopy(model).cpu()
    training, learning = counted.training, [p for p in counted.parameters() if p.requires_grad]
    counted.eval().requires_grad_(
        False
    )  # the counter's hooks want a graph wherever a parameter is an argument
    first = next(counted.parameters(), None)
    jets = (batch if ready else replace(batch, extras={})).to("cpu")
    jets = jets if first is None else jets.to(first.dtype)
    counter = FlopCounterMode(display=False)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # oneDNN's flags warn about GPUs that are not here
            with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH), counter:
                counted(jets)
    finally:
        counted.train(training)
        for parameter in learning:
            parameter.requires_grad_(True)
    return counter.get_total_flops() / len(batch)


def inference_speed(
    model: nn.Module, batches: Sequence[JetBatch], *, seconds: float = 3.0, bf16: bool = False
) -> float:
    """Jets a second of a forward pass: by the clock on a GPU, by the processor time of one thread on a CPU.

    Args:
        model: on the device to be measured.
        batches: some, taken in turn; already of the size that is asked for.
        seconds: how long to measure at least, after a warm-up; whole rounds of the batches are taken.
        bf16: in mixed precision.
    """
    model.eval()

    def step(batch: JetBatch) -> None:
        with torch.inference_mode(), torch.autocast(_device(model).type, torch.bfloat16, enabled=bf16):
            model(batch)

    return _speed(model, batches, step, seconds)


def training_speed(
    model: nn.Module, batches: Sequence[JetBatch], *, seconds: float = 3.0, bf16: bool = False
) -> float:
    """Jets a second of forward pass, loss, backward pass and AdamW step; the weights are not those of the
    model given."""
    trained = copy.deepcopy(model).train()
    head = head_of(model)
    optimizer = torch.optim.AdamW([p for p in trained.parameters() if p.requires_grad], lr=1e-6)

    def step(batch: JetBatch) -> None:
        assert batch.labels is not None
        with torch.autocast(_device(trained).type, torch.bfloat16, enabled=bf16):
            outputs = trained(batch)
        loss = head.negative_log_likelihood(outputs.float() if bf16 else outputs, batch.labels).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return _speed(trained, batches, step, seconds)


def matmul_rate(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.5) -> float:
    """Floating-point operations a second of one large matrix product: on one thread of a CPU by processor
    time, or on a GPU.

    Args:
        device: where.
        dtype: of the matrices, 1,024 square on a CPU and 8,192 on a GPU.
        seconds: how long to measure at least; the median of rounds counts.
    """
    gpu = device.type == "cuda"
    side = 8192 if gpu else 1024
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    out = torch.empty_like(a)
    threads = torch.get_num_threads()
    clock = time.perf_counter if gpu else time.process_time
    rounds: list[float] = []
    try:
        if not gpu:
            torch.set_num_threads(1)
        torch.mm(a, b, out=out)
        while sum(rounds) < seconds or len(rounds) < 3:
            _wait(device)
            began = clock()
            torch.mm(a, b, out=out)
            _wait(device)
            rounds.append(max(clock() - began, 1e-9))
    finally:
        torch.set_num_threads(threads)
    return 2 * side**3 / statistics.median(rounds)


def _speed(
    model: nn.Module, batches: Sequence[JetBatch], step: Callable[[JetBatch], Any], seconds: float
) -> float:
    device = _device(model)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    ready = [batch.to(device).to(dtype) for batch in batches]
    gpu = device.type == "cuda"
    threads = torch.get_num_threads()
    clock = time.perf_counter if gpu else time.process_time
    try:
        if not gpu:
            torch.set_num_threads(1)
        for batch in ready if gpu else ready[:1]:
            step(batch)
        _wait(device)
        jets, began = 0, clock()
        while True:  # whole rounds: batches differ in length
            for batch in ready:
                step(batch)
                jets += len(batch)
            _wait(device)
            taken = clock() - began
            if taken >= seconds:
                return jets / taken
    finally:
        torch.set_num_threads(threads)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device(model: nn.Module) -> torch.device:
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device
