"""Statistics of a training step that is distributed over several processes.

A norm that is `synchronised` measures the rows of all ranks, so that several processes take the step that one
would take with all the jets. torch's own SyncBatchNorm does this on GPUs only, and knows nothing of packed
rows or of the places where statistics are computed in closed form; here one function combines what each rank
has measured, on any device, and every norm of hepml asks it.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


class AcrossRanks(nn.Module):
    """What norms have in common whose statistics may be those of all ranks."""

    synchronised: bool = False
    _tie: Tensor | None = None

    def rows_of_all_ranks(self, rows: Tensor) -> Tensor:
        """Those of all ranks, [M, C], where the module is synchronised; for small tables that are learnt
        without gradients."""
        return gathered(rows) if self.synchronised else rows

    def of_all_ranks(self, mean: Tensor, variance: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, biased variance and number of rows over all ranks, from those of this one; asked on every
        rank alike, also by one that has no rows."""
        mean, variance, count = combined(mean, variance, rows)
        if rows == 0 and torch.is_grad_enabled():
            self._tie = 0 * (mean.sum() + variance.sum())
        return mean, variance, count


class AcrossRanksNorm(AcrossRanks, nn.modules.batchnorm._BatchNorm):
    """The same for batch norms."""

    def learn_of_all_ranks(self, mean: Tensor, variance: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """(gain, bias), each [C], of the map gain x + bias that the norm is in a training step, and the
        running statistics moved towards those of all ranks.

        Args:
            mean, variance: [C] of this rank's rows; the variance is the biased one.
            rows: of this rank.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        mean, variance, count = self.of_all_ranks(mean, variance, rows)
        enough = count > 1  # with fewer, as on one rank, running statistics are used and kept as they are
        known = self.running_mean.clone(), self.running_var.clone()
        with torch.no_grad():
            self.num_batches_tracked.add_(enough)
            share = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.double()
            share = (enough * share).to(self.running_mean.dtype)
            unbiased = variance * (count / (count - 1).clamp_min(1)).to(variance.dtype)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        mean, variance = torch.where(enough, mean, known[0]), torch.where(enough, variance, known[1])
        return gain_and_bias(self.weight, self.bias, mean, variance, self.eps)


def gain_and_bias(
    weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """(gain, bias) of the map gain x + bias that a batch norm with these statistics is, each [C]."""
    gain = weight * torch.rsqrt(variance + eps)
    return gain, bias - gain * mean


def synchronise(model: nn.Module, wanted: bool = True) -> tuple[int, int]:
    """Has the norms of a model measure all ranks from now on, or each its own.

    Returns:
        how many measure all ranks, and how many the jets of each rank: those of other libraries always do.
    """
    own = [m for m in model.modules() if isinstance(m, AcrossRanks)]
    for module in own:
        module.synchronised = wanted
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    foreign = sum(not isinstance(m, AcrossRanks) for m in norms)
    return (len(own), foreign) if wanted else (0, foreign + len(own))


def ties(model: nn.Module) -> Tensor | float:
    """Zero, to be added to the loss of a step: what keeps a rank that had no rows for a norm in the exchange
    of the backward pass, in which the others would wait for it for ever."""
    total: Tensor | float = 0.0
    for module in model.modules():
        if isinstance(module, AcrossRanks) and module._tie is not None:
            total, module._tie = total + module._tie, None
    return total


@torch.compiler.disable  # type: ignore[untyped-decorator]
def combined(mean: Tensor, variance: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance and number of rows over all ranks, with gradients to each rank's own.

    Args:
        mean, variance: [C] of this rank; anything, and unused, where it has no rows.
        rows: of this rank.
    """
    if rows == 0:  # a graph like that of the others nevertheless
        mean = torch.zeros_like(mean, requires_grad=torch.is_grad_enabled())
        variance = torch.zeros_like(variance, requires_grad=torch.is_grad_enabled())
    exact = torch.promote_types(mean.dtype, torch.float64)
    own = torch.full((1,), float(rows), dtype=exact, device=mean.device)
    if not dist.is_initialized():
        return mean, variance, own[0]
    # two sums instead of one: the sum of squares would lose what a large mean leaves of a variance
    total = _summed(torch.cat((own, rows * mean.to(exact))))
    count = total[0].detach()
    overall = total[1:] / count.clamp_min(1)
    spread = _summed(rows * (variance.to(exact) + (mean.to(exact) - overall).square()))
    return overall.to(mean.dtype), (spread / count.clamp_min(1)).to(variance.dtype), count


@torch.compiler.disable  # type: ignore[untyped-decorator]
@torch.no_grad()
def gathered(rows: Tensor) -> Tensor:
    """The rows of all ranks, in their order."""
    if not dist.is_initialized():
        return rows
    own = torch.tensor(len(rows), device=rows.device)
    lengths = [torch.zeros_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, own)
    many = [int(length) for length in lengths]
    padded = rows.new_zeros((max(many), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in many]
    dist.all_gather(parts, padded)
    return torch.cat([part[:n] for part, n in zip(parts, many, strict=True)])


def _summed(own: Tensor) -> Tensor:
    """The sum over ranks, whose gradient is the sum of theirs."""
    total = _reduced(own.detach())
    if not own.requires_grad:
        return total
    summed = own - own.detach() + total
    summed.register_hook(_reduced)
    return summed


def _reduced(own: Tensor) -> Tensor:
    total = own.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
