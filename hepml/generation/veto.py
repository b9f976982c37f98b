"""Gives up events early that cannot end in the window.

Most of the time of an event goes into its soft part: multiple interactions, soft radiation, hadrons. Once the
shower has come down to 20 GeV the hard jets are there, and Pythia asks a hook whether to go on. Two reasons
not to: the leading parton jet is far from the window in pT, or no resonance holds its decay partons together.
Where a parton jet is near the edge of the window only some events go on, with a larger weight (Russian
roulette): that changes no expectation value and saves half of the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCALE = 20.0  # GeV
SURVIVAL = 0.3
# Wider than the jets (0.8): neither the axis of the jet nor a quark is where the resonance points.
_CONE = 1.3


@dataclass(frozen=True)
class PartonWindow:
    """What the leading parton jet must be like for an event to go on.

    pT limits in GeV: always between `inner`, sometimes between `outer`. `resonance` is the |PDG number|
    of what must have its decay partons close together, with at least `resonance_pt` GeV, or None.
    """

    outer: tuple[float, float]
    inner: tuple[float, float]
    resonance: int | None = None
    resonance_pt: float = 0.0

    @classmethod
    def around(cls, low: float, high: float, resonance: int | None) -> PartonWindow:
        """For jets of low < pT < high: what comes later moves below 1 % of them further than this."""
        return cls((0.91 * low, 1.25 * high), (0.96 * low, 1.06 * high), resonance, 0.65 * low)


def early_veto(window: PartonWindow, rng: np.random.Generator) -> Any:
    """The hook for Pythia; `event_weights(hook, pT-hat squared)` gives the weights of the events that went
    on."""
    import pythia8mc

    class EarlyVeto(pythia8mc.UserHooks):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.pythia: Any = None
            self.jets = pythia8mc.SlowJet(-1, 0.8, 0.5 * window.outer[0], 25.0, 2, 2)
            self.weights: dict[float, float] = {}

        def canVetoPT(self) -> bool:
            return True

        def scaleVetoPT(self) -> float:
            return SCALE

        def doVetoPT(self, position: int, event: Any) -> bool:
            if position > 4:  # showers of decaying resonances come later, and one look is enough
                return False
            self.jets.analyze(event)
            leading = self.jets.pT(0) if self.jets.sizeJet() else 0.0
            if not window.outer[0] < leading < window.outer[1]:
                return True
            if window.resonance and not _held_together(self.pythia.process, event, window, pythia8mc.Vec4):
                return True
            weight = 1.0
            if not window.inner[0] < leading < window.inner[1]:
                if rng.random() >= SURVIVAL:
                    return True
                weight = 1 / SURVIVAL
            self.weights[self.pythia.infoPython().pT2Hat()] = weight
            return False

    return EarlyVeto()


def event_weights(hook: Any, pt2_hat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the events of a batch, found by the pT-hat squared of the hard process, which no two events
    share."""
    known = np.array(sorted(hook.weights.items()))
    hook.weights.clear()
    at = np.searchsorted(known[:, 0], pt2_hat)
    if not np.array_equal(known[at, 0], pt2_hat):
        raise RuntimeError("an event that the early veto has not seen")
    return np.asarray(known[at, 1], dtype=np.float64)


def _held_together(process: Any, event: Any, window: PartonWindow, vec4: Any) -> bool:
    """Whether a resonance is hard and central enough and its decay partons lie close to its direction.

    Decays are made with the hard process, before the shower has moved the resonance: they are boosted to
    where it is now.
    """
    for index in range(3, process.size()):
        resonance = process[index]
        if abs(resonance.id()) != window.resonance or resonance.status() >= 0:
            continue
        now = _last_copy(event, resonance.id())
        if now.pT() < window.resonance_pt or abs(now.eta()) > 2.3:
            continue
        if all(
            _distance(parton, resonance.p(), now.p(), vec4) < _CONE
            for parton in _decay_partons(process, index)
        ):
            return True
    return False


def _last_copy(event: Any, pdg: int) -> Any:
    for index in range(event.size() - 1, -1, -1):
        if event[index].id() == pdg:
            return event[index]
    raise RuntimeError(f"particle {pdg} of the hard process is not in the event")


def _decay_partons(process: Any, index: int) -> list[Any]:
    """Quarks and gluons from the resonance, by way of a W or not."""
    partons = []
    for number in range(index + 1, process.size()):
        particle = process[number]
        if particle.status() == 23:
            mother = particle.mother1()
            if mother == index or process[mother].mother1() == index:
                partons.append(particle)
    return partons


def _distance(parton: Any, before: Any, now: Any, vec4: Any) -> float:
    moved = vec4(parton.p())
    moved.bstback(before)
    moved.bst(now)
    turn = abs(moved.phi() - now.phi())
    return math.hypot(moved.eta() - now.eta(), min(turn, 2 * math.pi - turn))
