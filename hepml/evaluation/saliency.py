"""What a tagger looks at: saliency of each constituent's inputs, the edges and attention that it joins
constituents by, its first filters.

Everything here takes a model and a `JetBatch` and returns tensors; `hepml.evaluation.plots.jets` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hepml import progress
from hepml.data.batch import JetBatch
from hepml.errors import ModelError
from hepml.nn.edgeconv import EdgeConv
from hepml.nn.modes import evaluation_mode

MOMENTA = ("energy", "px", "py", "pz")
# Jets that are differentiated at a time.
_JETS = 32


@dataclass(frozen=True)
class Saliency:
    """How much each input of each constituent moves a number that the model gives for its jet.

    Args:
        names: the F inputs: constituent features, and energy, px, py, pz where the model's answer follows
            from momenta by a gradient.
        gradient_x_input: [ΣN, F] value times derivative, the change to first order if that input went to
            zero.
        integrated: [ΣN, F] integrated gradients (arXiv:1703.01365) from inputs of zero, which are average
            constituents where features are standardised. They sum to `target - baseline` of their jet, up to
            the rule's error.
        target: [B] the number.
        baseline: [B] the same with all inputs at zero; NaN where the model has no answer to that.
        undefined: entries whose derivative is NaN or infinite; they are zero above.
    """

    names: tuple[str, ...]
    gradient_x_input: Tensor
    integrated: Tensor
    target: Tensor
    baseline: Tensor
    undefined: int = 0

    def of_constituents(self, kind: str = "integrated") -> Tensor:
        """Sum over the inputs of each constituent, [ΣN]."""
        out: Tensor = getattr(self, kind).sum(dim=1)
        return out

    def incompleteness(self, batch: JetBatch) -> float:
        """|sum of integrated gradients - (target - baseline)| over |target - baseline|, each summed over the
        jets that have a baseline; 0 if exact, NaN where no jet has one."""
        sums = batch.four_momenta.new_zeros(len(batch)).index_add_(0, batch.jet_of, self.of_constituents())
        known = torch.isfinite(self.baseline)
        if not known.any():
            return math.nan
        wanted = (self.target - self.baseline)[known]
        scale = float(wanted.abs().sum())
        return float((sums[known] - wanted).abs().sum()) / scale if scale > 0 else 0.0


@dataclass(frozen=True)
class EdgeMap:
    """The edges that one layer joined the constituents of a jet by.

    Args:
        layer: its name in the model.
        edges: [2, E] as (source, target), rows of the jet.
        weights: [E] attention on each edge, averaged over heads, or None where the layer has none.
    """

    layer: str
    edges: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True)
class Filters:
    """The weights that a model meets its inputs with.

    Args:
        layer: name of the layer.
        kernels: [C', C, k, k] or [C', C, k] of a convolution, [C', C] of a linear map.
        inputs: names of its C inputs, or empty where they are not constituent features.
    """

    layer: str
    kernels: Tensor
    inputs: tuple[str, ...]


def saliency(
    model: nn.Module,
    batch: JetBatch,
    target: Callable[[Tensor], Tensor],
    *,
    features: Sequence[str],
    steps: int = 16,
) -> Saliency:
    """Gradient x input and integrated gradients of a number a jet.

    Args:
        model: from a `JetBatch` to [B, outputs]; evaluated in evaluation mode.
        batch: the jets, on the model's device and in its dtype.
        target: from outputs [B, C] to the number [B].
        features: the constituent features that the model takes.
        steps: points at which the integral from zero to the inputs is taken (midpoint rule).

    Raises:
        ModelError: the outputs do not follow from the constituents by any gradient.
    """
    parts = []
    for low in range(0, len(batch), _JETS):
        progress.tell("jets explained", low, len(batch))
        some = batch.take(torch.arange(low, min(low + _JETS, len(batch))))
        parts.append(_saliency(model, some, target, tuple(features), steps))
    progress.tell("jets explained", len(batch), len(batch))
    first = parts[0]
    return Saliency(
        first.names,
        torch.cat([p.gradient_x_input for p in parts]),
        torch.cat([p.integrated for p in parts]),
        torch.cat([p.target for p in parts]),
        torch.cat([p.baseline for p in parts]),
        sum(p.undefined for p in parts),
    )


def _saliency(
    model: nn.Module,
    batch: JetBatch,
    target: Callable[[Tensor], Tensor],
    features: tuple[str, ...],
    steps: int,
) -> Saliency:
    x = batch.select(features).detach() if features else None
    p = batch.four_momenta.detach()

    def at(share: float, *, momenta: bool) -> tuple[Tensor, list[Tensor | None]]:
        """The number and its gradient at `share` of the inputs; of the momenta too where it follows from
        them."""
        q = (p * share if momenta else p).clone().requires_grad_()
        leaves = [q]
        changed = replace(batch, four_momenta=q)
        if x is not None:
            leaves.append((x * share).requires_grad_())
            changed = replace(changed, features=leaves[1], feature_names=features)
        with torch.enable_grad():
            value = target(model(changed))
            if not value.requires_grad:
                return value.detach(), [None] * len(leaves)
            return value.detach(), list(torch.autograd.grad(value.sum(), leaves, allow_unused=True))

    with evaluation_mode(model):
        value, (by_momenta, *by_features) = at(1.0, momenta=False)
        moved = by_momenta is not None
        columns = [(x, by_features[0])] if x is not None and by_features[0] is not None else []
        if by_momenta is not None:
            columns.append((p, by_momenta))
        if not columns:
            raise ModelError(
                f"no output of this {type(model).__name__} has a gradient with respect to the constituents",
                mend="saliency needs a model that is differentiable in its inputs",
            )
        names = (features if columns[0][0] is x else ()) + (MOMENTA if moved else ())
        inputs = torch.cat([c for c, _ in columns], dim=1)
        gradient = torch.cat([g for _, g in columns], dim=1)
        total = torch.zeros_like(gradient)
        for k in range(steps):
            _, (of_momenta, *of_features) = at((k + 0.5) / steps, momenta=moved)
            parts = [
                g
                for g in (of_features[0] if of_features else None, of_momenta if moved else None)
                if g is not None
            ]
            total += torch.cat(parts, dim=1)
        with torch.no_grad():
            baseline, _ = at(0.0, momenta=moved)
    undefined = int((~torch.isfinite(gradient)).sum() + (~torch.isfinite(total)).sum())
    clean = {"nan": 0.0, "posinf": 0.0, "neginf": 0.0}
    return Saliency(
        names,
        inputs * gradient.nan_to_num(**clean),
        inputs * total.nan_to_num(**clean) / steps,
        value,
        torch.where(torch.isfinite(baseline), baseline, torch.nan),
        undefined,
    )


def edge_maps(model: nn.Module, jet: JetBatch) -> list[EdgeMap]:
    """The edges of every graph layer (ParticleNet's EdgeConv, PyG's convolutions) in one jet, in the order of
    the layers.

    Args:
        model: any model; one without graph layers has no edges.
        jet: a batch of one jet.

    Raises:
        ModelError: more than one jet.
    """
    if len(jet) != 1:
        raise ModelError(f"edges are drawn one jet at a time, not {len(jet)}", mend="batch.take([i])")
    from torch_geometric.nn import MessagePassing

    maps: dict[str, EdgeMap] = {}
    hooks = []

    def neighbours(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            x, near = arguments[:2]
            there = near < len(x)
            target = torch.arange(len(x), device=near.device)[:, None].expand_as(near)
            maps[name] = EdgeMap(name, torch.stack((near[there], target[there])))

        return hook

    def edges(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            index = named.get("edge_index", arguments[1] if len(arguments) > 1 else None)
            if isinstance(index, Tensor):
                maps[name] = EdgeMap(name, index)

        return hook

    def attention(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], result: Any) -> None:
            if isinstance(arguments[0], Tensor) and isinstance(result, Tensor):
                weights = result.detach().reshape(arguments[0].shape[1], -1).mean(dim=1)
                maps[name] = EdgeMap(name, arguments[0], weights)

        return hook

    for name, module in model.named_modules():
        if isinstance(module, EdgeConv):
            hooks.append(module.register_forward_pre_hook(neighbours(name)))
        elif isinstance(module, MessagePassing):
            hooks.append(module.register_forward_pre_hook(edges(name), with_kwargs=True))
            hooks.append(module.register_edge_update_forward_hook(attention(name)))
    if not hooks:
        return []
    try:
        with evaluation_mode(model), torch.no_grad():
            model(jet)
    finally:
        for handle in hooks:
            handle.remove()
    return list(maps.values())


def filters(model: nn.Module, features: Sequence[str] = ()) -> Filters | None:
    """The first convolution with a kernel wider than one, else the first linear map on constituent features;
    None for neither."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d) and max(module.kernel_size) > 1:
            known = tuple(features) if module.in_channels == len(features) else ()
            return Filters(name, module.weight.detach(), known)
    for name, module in model.named_modules():
        if features and isinstance(module, nn.Linear):
            if module.in_features == len(features):
                return Filters(name, module.weight.detach(), tuple(features))
            if module.in_features == 2 * len(
                features
            ):  # EdgeConv: of a constituent and of its neighbour's difference to it
                return Filters(
                    name,
                    module.weight.detach(),
                    (*features, *(f"neighbour's {feature}" for feature in features)),
                )
    return None
