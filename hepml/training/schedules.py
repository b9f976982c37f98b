"""Learning-rate schedules, each a pure function of the step, so that a resumed run continues exactly.

A schedule gives the learning rate as a fraction of the configured one. `one_cycle` and `particlenet` are the
two recipes under which ParticleNet was published (arXiv:1902.08570) and is trained by its users.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Fraction = Callable[
    [float, float], float
]  # (progress in [0, 1], final fraction) -> fraction of the learning rate


def constant(progress: float, final: float) -> float:
    """Always the configured learning rate."""
    return 1.0


def cosine(progress: float, final: float) -> float:
    """Half a cosine from 1 to `final`."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def exponential(progress: float, final: float) -> float:
    """final^progress: the same factor every step."""
    out: float = max(final, 1e-8) ** progress
    return out


def one_cycle(progress: float, final: float) -> float:
    """Linear from 1/10 to 1 in the first 40 %, back to 1/10 by 80 %, then to `final`/10: ParticleNet's own
    one-cycle (arXiv:1902.08570)."""
    if progress < 0.4:
        return 0.1 + 0.9 * progress / 0.4
    if progress < 0.8:
        return 1.0 - 0.9 * (progress - 0.4) / 0.4
    return 0.1 * (1.0 + (final - 1.0) * (progress - 0.8) / 0.2)


def flat_decay(progress: float, final: float) -> float:
    """1 for the first 70 %, then an exponential decay to `final`: how ParticleNet and ParT are trained on
    JetClass (arXiv:2202.03772)."""
    return 1.0 if progress < 0.7 else max(final, 1e-8) ** ((progress - 0.7) / 0.3)


def particlenet(progress: float, final: float) -> float:
    """A linear warm-up from 1/10 over the first 10 %, the plateau to 70 %, then an exponential decay to
    `final`."""
    return 0.1 + 9.0 * progress if progress < 0.1 else flat_decay(progress, final)


SCHEDULES: dict[str, Fraction] = {
    f.__name__: f for f in (constant, cosine, one_cycle, particlenet, flat_decay, exponential)
}


def learning_rate(
    name: str, total_steps: int, *, warmup_steps: float = 0, final: float = 0.01
) -> Callable[[int], float]:
    """The fraction of the learning rate at each optimizer step, with a linear warm-up in front.

    Args:
        name: a key of `SCHEDULES`.
        total_steps: steps of the whole run.
        warmup_steps: steps over which the fraction rises linearly; the schedule covers what is left.
        final: the fraction that the schedule ends at.
    """
    schedule = SCHEDULES[name]

    def at(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = (step - warmup_steps) / max(1.0, total_steps - 1 - warmup_steps)
        return schedule(min(1.0, max(0.0, progress)), final)

    return at
