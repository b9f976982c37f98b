"""Measured invariance: how far a model's output moves when its jets are changed by elements of a group."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hepml.data.batch import JetBatch
from hepml.errors import ModelError, did_you_mean
from hepml.testing.groups import GROUPS, Element
from hepml.testing.jets import sample_jets

log = logging.getLogger(__name__)

# Boosts that a dtype can carry: with naive products, gamma² epsilon of E² is lost (see `default_tolerance`).
GAMMAS: dict[torch.dtype, tuple[float, ...]] = {
    torch.float64: (2.0, 10.0, 100.0, 1000.0, 4000.0),
    torch.float32: (1.5, 3.0, 10.0),
}
BASE = {torch.float64: 1e-9, torch.float32: 1e-3}
# Rounding of E² after a boost, in units of gamma² epsilon of a product: jets are narrow, E² is some thousand
# times a typical p_i·p_j.
NARROWNESS = 1e4


@dataclass(frozen=True)
class Deviation:
    """The largest measured change of a model's output under a group.

    Args:
        group: its name.
        relative: |f(g x) - f(x)| over |f(x)|, the largest over outputs, jets and elements.
        jet: the jet in which it was found.
        element: the element of the group under which it was found, in words.
        before, after: outputs of that jet.
        by_gamma: the largest deviation at each Lorentz factor (1 for elements that do not boost).

    Examples:
        >>> model = hepml.models.create('mlp', hidden=(4,)).double()
        >>> hepml.testing.measure(model, 'boost-x', gammas=(2,)).group
        'boost-x'
    """

    group: str
    relative: float
    jet: int
    element: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    by_gamma: dict[float, float] = field(default_factory=dict)

    def __float__(self) -> float:
        return self.relative

    def __str__(self) -> str:
        return f"{self.group}: relative deviation {self.relative:.2e} (jet {self.jet}, {self.element})"


def default_tolerance(dtype: torch.dtype, gamma: float = 1.0) -> float:
    """The relative deviation that rounding alone may cause in a model with ordinary arithmetic.

    1e-9 (float64) or 1e-3 (float32), and under a boost the rounding of E² beside it. A model that keeps more
    digits, as hepml's Lorentz-equivariant ones do, is held to a tolerance of its own.
    """
    boosted = NARROWNESS * torch.finfo(dtype).eps * gamma**2 if gamma > 1 else 0.0
    return BASE.get(dtype, 1e-1) + boosted


def measure(
    model: nn.Module,
    group: str,
    batch: JetBatch | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    gammas: Sequence[float] | None = None,
    repeats: int = 3,
    seed: int = 0,
) -> Deviation:
    """The deviation of a model's output under random elements of a group.

    A copy of the model is evaluated in evaluation mode and in `dtype`; the model itself stays as it is.

    Args:
        model: from a `JetBatch` to [B, outputs].
        group: one of `GROUPS`.
        batch: jets to measure on; `sample_jets()` where left out. Features that follow from momenta are made
            anew after each change.
        dtype: of the measurement.
        gammas: Lorentz factors of the boosts.
        repeats: elements of each kind.
        seed: of the elements.

    Raises:
        ModelError: an unknown group, or a model that is not one from jets to [B, outputs].

    Examples:
        >>> model = hepml.models.create('mlp', hidden=(4,)).double()
        >>> float(hepml.testing.measure(model, 'permutation')) < 1e-6
        True
    """
    _, worst = _measure(model, group, batch, dtype, gammas, repeats, seed, tolerance=None)
    return worst


def assert_invariant(
    model: nn.Module,
    group: str,
    batch: JetBatch | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    tolerance: float | None = None,
    gammas: Sequence[float] | None = None,
    repeats: int = 3,
    seed: int = 0,
) -> Deviation:
    """Asserts that a model's output does not change under a group; returns and logs the deviation that was
    measured.

    Args:
        model, group, batch, dtype, gammas, repeats, seed: as for `measure`.
        tolerance: largest relative deviation, the same at every gamma; `default_tolerance` where left out.

    Raises:
        AssertionError: it does change; names the deviation, the jet and the element.

    Examples:
        >>> model = hepml.models.create('mlp', hidden=(4,)).double()
        >>> deviation = hepml.testing.assert_invariant(model, 'azimuthal-rotation', tolerance=1e-6)
        >>> deviation.relative < 1e-6
        True
    """
    violation, worst = _measure(model, group, batch, dtype, gammas, repeats, seed, tolerance)
    log.info("%s, %s", type(model).__name__, worst)
    if violation is not None:
        deviation, allowed = violation
        raise AssertionError(
            f"{type(model).__name__} is not invariant under {group}: relative deviation "
            f"{deviation.relative:.3g} > {allowed:.3g} "
            f"in jet {deviation.jet} under {deviation.element}: outputs {_shown(deviation.before)} became "
            f"{_shown(deviation.after)}"
        )
    return worst


def _measure(
    model: nn.Module,
    group: str,
    batch: JetBatch | None,
    dtype: torch.dtype,
    gammas: Sequence[float] | None,
    repeats: int,
    seed: int,
    tolerance: float | None,
) -> tuple[tuple[Deviation, float] | None, Deviation]:
    """The worst violation of the tolerance, if there is one, with the tolerance; and the largest
    deviation."""
    if group not in GROUPS:
        raise ModelError(f"unknown group '{group}'", mend=did_you_mean(group, GROUPS))
    model = copy.deepcopy(model).to(dtype).eval()
    batch = (sample_jets() if batch is None else batch).to(dtype)
    parameter = next(model.parameters(), None)
    if parameter is not None:
        batch = batch.to(parameter.device)
    before = _outputs(model, batch)
    elements = GROUPS[group](
        torch.Generator().manual_seed(seed), gammas or GAMMAS.get(dtype, (1.5, 3.0)), repeats, dtype
    )
    worst: Deviation | None = None
    violation: tuple[Deviation, float] | None = None
    by_gamma: dict[float, float] = {}
    for element in elements:
        deviation = _deviation(group, element, before, _outputs(model, element.act(batch)))
        by_gamma[element.gamma] = max(by_gamma.get(element.gamma, 0.0), deviation.relative)
        allowed = default_tolerance(dtype, element.gamma) if tolerance is None else tolerance
        if worst is None or deviation.relative > worst.relative:
            worst = deviation
        if deviation.relative > allowed and (
            violation is None or deviation.relative / allowed > violation[0].relative / violation[1]
        ):
            violation = deviation, allowed
    assert worst is not None, "a group without elements"
    return violation, Deviation(**{**worst.__dict__, "by_gamma": by_gamma})


def _outputs(model: nn.Module, batch: JetBatch) -> Tensor:
    with torch.no_grad():
        out = model(batch)
    if not isinstance(out, Tensor) or out.shape[:1] != (len(batch),):
        raise ModelError(
            f"{type(model).__name__} returned "
            f"{tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__} for {len(batch)} jets",
            mend="return one row of outputs a jet",
        )
    return out.detach().double().reshape(len(batch), -1).cpu()


def _deviation(group: str, element: Element, before: Tensor, after: Tensor) -> Deviation:
    size = before.abs().amax(dim=1)
    size = torch.maximum(size, size.mean()).clamp_min(torch.finfo(torch.float32).tiny)
    relative = (after - before).abs().amax(dim=1) / size
    relative = torch.where(torch.isfinite(relative), relative, math.inf)
    jet = int(relative.argmax())
    return Deviation(
        group,
        float(relative[jet]),
        jet,
        element.description,
        tuple(before[jet].tolist()),
        tuple(after[jet].tolist()),
    )


def _shown(outputs: Sequence[float]) -> str:
    text = ", ".join(f"{x:.6g}" for x in outputs[:4])
    return f"({text}{', …' if len(outputs) > 4 else ''})"
