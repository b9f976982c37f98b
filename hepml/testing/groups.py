"""The groups: which changes of a jet a model may be asked to ignore.

Each group is a function that makes random elements, and an element is a function from jets to jets. Elements
act in float64 and round once to the dtype of the jets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hepml import kinematics
from hepml.data import features as feature_table
from hepml.data.batch import JetBatch
from hepml.errors import ModelError


@dataclass(frozen=True)
class Element:
    """One element of a group.

    Args:
        description: in words, for messages.
        act: jets to changed jets, in the same order.
        gamma: its Lorentz factor; 1 where it does not boost.
        size: how far it is from the identity by construction, for groups whose elements only approach it
            (soft emissions).

    Examples:
        >>> same = hepml.testing.Element('nothing', lambda jets: jets)
        >>> same.gamma
        1.0
    """

    description: str
    act: Callable[[JetBatch], JetBatch]
    gamma: float = 1.0
    size: float = 0.0


Elements = Callable[[torch.Generator, Sequence[float], int, torch.dtype], Iterator[Element]]

AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
SOFTNESS = {torch.float64: 1e-12, torch.float32: 1e-6}  # share of the jet's momentum in a soft emission


def _permutations(
    g: torch.Generator, gammas: Sequence[float], repeats: int, dtype: torch.dtype
) -> Iterator[Element]:
    def act(batch: JetBatch, keys: Tensor) -> JetBatch:
        # Random keys sorted within jets: sorting key + jet keeps every constituent in its jet.
        order = torch.argsort(keys[: len(batch.four_momenta)] + batch.jet_of.cpu()).to(batch.device)
        return batch.permute(order)

    for k in range(repeats):
        seed = int(torch.randint(2**31, (), generator=g))

        def shuffle(batch: JetBatch, seed: int = seed) -> JetBatch:
            own = torch.Generator().manual_seed(seed)
            return act(batch, torch.rand(len(batch.four_momenta), generator=own, dtype=torch.float64))

        yield Element(f"permutation {k}", shuffle)


def _matrix(description: str, matrix: Tensor, gamma: float = 1.0) -> Element:
    return Element(description, lambda batch: transformed(batch, matrix), gamma)


def _random_rotation(g: torch.Generator) -> tuple[str, Tensor]:
    axis = torch.randn(3, generator=g, dtype=torch.float64)
    angle = 6.283 * float(torch.rand((), generator=g, dtype=torch.float64))
    return f"rotation by {angle:.3f} about {_words(axis)}", kinematics.rotation(axis, angle)


def _rotations(
    g: torch.Generator, gammas: Sequence[float], repeats: int, dtype: torch.dtype
) -> Iterator[Element]:
    for _ in range(repeats):
        yield _matrix(*_random_rotation(g))


def _azimuthal(
    g: torch.Generator, gammas: Sequence[float], repeats: int, dtype: torch.dtype
) -> Iterator[Element]:
    for _ in range(repeats):
        angle = 6.283 * float(torch.rand((), generator=g, dtype=torch.float64))
        axis = torch.tensor(AXES["z"], dtype=torch.float64)
        yield _matrix(f"rotation by {angle:.3f} about the beam", kinematics.rotation(axis, angle))


def _boosts_along(name: str) -> Elements:
    def elements(
        g: torch.Generator, gammas: Sequence[float], repeats: int, dtype: torch.dtype
    ) -> Iterator[Element]:
        for gamma in gammas:
            for sign in (1.0, -1.0):
                axis = sign * torch.tensor(AXES[name], dtype=torch.float64)
                words = f"boost along {'-' if sign < 0 else ''}{name} with gamma {gamma:g}"
                yield _matrix(words, kinematics.boost(axis, gamma), gamma)

    return elements


def _lorentz(
    g: torch.Generator, gammas: Sequence[float], repeats: int, dtype: torch.dtype
) -> Iterator[Element]:
    yield from _rotations(g, gammas, repeats, dtype)
    for gamma in gammas:
        for _ in range(repeats):
            axis = torch.randn(3, generator=g, dtype=torch.float64)
            words, rotation = _random_rotation(g)
            boost = kinematics.boost(axis, gamma)
            yield _matrix(
                f"boost along {_words(axis)} with gamma {gamma:g} after a {words}", boost @ rotation, gamma
            )


def _soft(g: torch.Generator, gammas: Sequence[float], repeats: int, dtype: torch.dtype) -> Iterator[Element]:
    softness = SOFTNESS.get(dtype, 1e-3)
    for _ in range(repeats):
        tilt = 0.2 * torch.randn(3, generator=g, dtype=torch.float64)

        def emit(batch: JetBatch, tilt: Tensor = tilt) -> JetBatch:
            jets = batch.jets.double()
            momentum = torch.linalg.vector_norm(jets[:, 1:], dim=-1, keepdim=True)
            direction = jets[:, 1:] + momentum * tilt.to(jets.device)
            k = softness * jets[:, :1] * direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
            k = torch.cat((torch.linalg.vector_norm(k, dim=-1, keepdim=True), k), dim=-1)
            return _inserted(batch, k.to(batch.dtype))

        yield Element(f"soft emission of {softness:g} of the jet's energy", emit, size=softness)


def _collinear(
    g: torch.Generator, gammas: Sequence[float], repeats: int, dtype: torch.dtype
) -> Iterator[Element]:
    for _ in range(repeats):
        at, z = torch.rand(2, generator=g, dtype=torch.float64).tolist()
        z = 0.1 + 0.8 * z

        def split(batch: JetBatch, at: float = at, z: float = z) -> JetBatch:
            has = batch.counts > 0
            which = (batch.offsets[:-1] + (at * batch.counts).long())[has]
            p = batch.four_momenta.clone()
            branch = p.new_zeros((len(batch), 4))
            branch[has] = (1 - z) * p[which]
            p[which] = z * p[which]
            return _inserted(_with(batch, p), branch, only=has)

        yield Element(f"collinear splitting of a constituent into {z:.2f} and {1 - z:.2f}", split)


def _infrared_and_collinear(
    g: torch.Generator, gammas: Sequence[float], repeats: int, dtype: torch.dtype
) -> Iterator[Element]:
    yield from _soft(g, gammas, repeats, dtype)
    yield from _collinear(g, gammas, repeats, dtype)


GROUPS: dict[str, Elements] = {
    "permutation": _permutations,
    "rotation": _rotations,
    "azimuthal-rotation": _azimuthal,
    "boost-x": _boosts_along("x"),
    "boost-y": _boosts_along("y"),
    "boost-z": _boosts_along("z"),
    "lorentz": _lorentz,
    "soft": _soft,
    "collinear": _collinear,
    "irc-safe": _infrared_and_collinear,
}


def transformed(batch: JetBatch, matrix: Tensor) -> JetBatch:
    """The jets seen from another frame: momenta of constituents and jets change by the [4, 4] matrix, columns
    that do not follow from momenta stay, and those that do are recomputed when a model asks for them.

    Raises:
        ModelError: stored features without names, of which nobody can say how they change.
    """
    p = kinematics.transform(batch.four_momenta.double(), matrix).to(batch.dtype)
    jets = batch.jet_momenta
    return replace(
        _with(batch, p),
        jet_momenta=None if jets is None else kinematics.transform(jets.double(), matrix).to(jets.dtype),
    )


def _with(batch: JetBatch, four_momenta: Tensor) -> JetBatch:
    """The jets with other momenta and all features that momenta do not tell."""
    if batch.features is not None and not batch.feature_names:
        raise ModelError(
            "the batch has features without names, of which nobody can say how they change",
            mend="give feature_names, or a batch of four-momenta alone",
        )
    kept = [
        i
        for i, name in enumerate(batch.feature_names)
        if not set(feature_table.lookup(name).needs) & set(feature_table.MOMENTUM_COLUMNS)
    ]
    return replace(
        batch,
        four_momenta=four_momenta,
        features=batch.features[:, kept] if kept and batch.features is not None else None,
        feature_names=tuple(batch.feature_names[i] for i in kept),
        raw=feature_table.not_from_momenta(batch.raw),
    )


def _inserted(batch: JetBatch, p: Tensor, only: Tensor | None = None) -> JetBatch:
    """One more constituent [B, 4] at the end of each jet, or of those in the mask `only` [B]; features are
    recomputed from momenta."""
    more = torch.ones(len(batch), dtype=torch.int64, device=batch.device) if only is None else only.long()
    offsets = torch.nn.functional.pad((batch.counts + more).cumsum(0), (1, 0))
    out = p.new_empty((int(offsets[-1]), 4))
    new = (offsets[1:] - 1)[more.bool()]
    old = torch.ones(len(out), dtype=torch.bool, device=batch.device)
    old[new] = False
    out[old], out[new] = batch.four_momenta, p[more.bool()]
    return replace(batch, four_momenta=out, offsets=offsets, features=None, feature_names=(), raw={})


def _words(axis: Tensor) -> str:
    return "(" + ", ".join(f"{x:.2f}" for x in (axis / axis.norm()).tolist()) + ")"
