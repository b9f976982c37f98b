"""LGN as its authors' program saves it (arXiv:2006.04780): names and shapes to `hepml.models.lgn`.

That program has the indices of an irrep the other way round, (k, n) where hepml has (n, k), and stacks the
products that a level mixes in the order in which Python 3.7 walks a set of irreps, so that this order is part
of what the weights mean. The weight of a plain message is multiplied by 1 + i there, and the other message is
a product of feature and momentum, not of momentum and feature, which may differ by a sign. Particles have the
scalars |m| and ±1 (beam or not), and jets are padded with zero momenta that nothing masks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from hepml.models.lgn import SCALAR
from hepml.nn.lorentz.clebsch_gordan import decomposition, exchange_sign
from hepml.nn.lorentz.irreps import Irrep
from hepml.nn.lorentz.zonal import VECTOR

# The order of irreps in the authors' program, written as hepml writes them. After a level scalars come last:
# they leave the features for the network on scalars, and come back.
ORDER: tuple[Irrep, ...] = ((0, 0), (0, 2), (1, 1), (2, 2), (2, 0))
LARGEST = 2
CONSTITUENTS = 126
ACTIVATION = "leakyrelu"
_MIX = "lgn_cg.atom_levels.{}.cat_mix.mix_reps.weights."

Product = tuple[str, Irrep, Irrep]


def read(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor], tuple[str, ...] | None]:
    """Hyperparameters, renamed state and classes.

    Raises:
        ValueError: irreps or scalars that the released configuration does not have.
        KeyError: a parameter that is not there.
    """
    levels = _count(state, r"lgn_cg\.atom_levels\.(\d+)\.")
    channels = [state[f"rad_funcs.rad_funcs.{i}.linear.0.weight"].shape[0] // 2 for i in range(levels)]
    channels.append(state[_MIX.format(levels - 1) + "(0, 0)"].shape[1])
    layers = _count(state, r"lgn_cg\.mlp_levels\.0\.linear\.(\d+)\.")
    vectors = "input_func_atom.weights.(1, 1)" in state
    scalars = state["input_func_atom.weights.(0, 0)" if vectors else "input_func_atom.lin.weight"].shape[-1]
    if scalars not in (1, 2):
        raise ValueError(f"{scalars} scalars a particle, where 1 (no beams) and 2 (with beams) are known")
    outputs = state["output_layer_atom.lin.weight"].shape[0]
    hyperparameters = {
        "outputs": outputs,
        "channels": tuple(channels),
        "maxdim": LARGEST + 1,
        "basis": state["rad_funcs.rad_funcs.0.a"].numel() // 2,
        "mlp_depth": layers - 1,
        "mlp_width": state["lgn_cg.mlp_levels.0.linear.0.weight"].shape[0] // (2 * channels[1]),
        "references": ("beam",) if scalars == 2 else (),
        "scale": 0.005,
        "vectors": vectors,
        **_padded(CONSTITUENTS, scalars == 2),
    }
    renamed = _inputs(state, vectors)
    irreps = [SCALAR, VECTOR] if vectors else [SCALAR]
    held = [(irreps, channels[0])]
    for level, (before, after) in enumerate(pairwise(channels)):
        renamed |= _radial(state, level) | _network(state, level, layers)
        irreps_of = _irreps(state, level)
        for key in irreps_of:
            weight = state[_MIX.format(level) + f"({key[1]}, {key[0]})"]
            renamed[f"levels.{level}.weights.{key[0]}_{key[1]}"] = _mixing(weight, key, irreps, before)
        irreps = [key for key in irreps_of if key != SCALAR] + [SCALAR]
        held.append((irreps, after))
    renamed["head.weight"] = _head(state["output_layer_atom.lin.weight"], held)
    renamed["head.bias"] = state["output_layer_atom.lin.bias"]
    return hyperparameters, renamed, ("QCD", "top") if outputs == 2 else None


def settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters that shapes do not tell, from the training arguments in the file.

    Raises:
        ValueError: arguments of a network that hepml does not have.
    """
    for name, known in (("activation", ACTIVATION), ("beam_mass", 1), ("full_scalars", False)):
        if arguments.get(name, known) != known:
            raise ValueError(f"it was trained with {name} {arguments[name]}, where {known} is known")
    values: dict[str, Any] = {"scale": float(arguments["scale"])} if "scale" in arguments else {}
    if isinstance(arguments.get("nobj"), int):
        values |= _padded(arguments["nobj"], bool(arguments.get("add_beams", True)))
    return values


def _padded(constituents: int, beams: bool) -> dict[str, int]:
    return {"max_constituents": constituents, "nodes": constituents + (2 if beams else 0)}


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    numbers = [int(match[1]) for name in state if (match := re.match(pattern, name))]
    if not numbers:
        raise KeyError(re.sub(r"\\|\(\\d\+\)", "", pattern))
    return 1 + max(numbers)


def _irreps(state: Mapping[str, Tensor], level: int) -> list[Irrep]:
    """The irreps that a level makes, as hepml writes them and in the authors' order."""
    start = _MIX.format(level)
    numbers = [
        re.fullmatch(r"\((\d+), (\d+)\)", name[len(start) :]) for name in state if name.startswith(start)
    ]
    keys = [(int(match[2]), int(match[1])) for match in numbers if match]
    if strange := [key for key in keys if key not in ORDER]:
        raise ValueError(f"irreps {strange}, where those up to (2, 2) are known (maxdim 3)")
    return sorted(keys, key=ORDER.index)


def _inputs(state: Mapping[str, Tensor], vectors: bool) -> dict[str, Tensor]:
    """Scalars a particle are |m| and ±1; hepml has 0 and 1 where there is a bias."""
    if not vectors:
        weight, bias = state["input_func_atom.lin.weight"], state["input_func_atom.lin.bias"]
        beams = weight[:, 1:]
        return {
            "embedding.weight": torch.cat((weight[:, :1], 2 * beams), dim=1),
            "embedding.bias": bias - beams.sum(1),
        }
    return {
        "embedding.weight": state["input_func_atom.weights.(0, 0)"].transpose(0, 1).flatten(0, 1),
        "vectors": state["input_func_atom.weights.(1, 1)"][:, :, 0].T,
    }


def _radial(state: Mapping[str, Tensor], level: int) -> dict[str, Tensor]:
    theirs, ours = f"rad_funcs.rad_funcs.{level}.", f"levels.{level}.radial."
    out = {ours + name: state[theirs + name].flatten() for name in ("a", "b", "c")}
    for kind in ("weight", "bias"):
        real, imaginary = state[f"{theirs}linear.0.{kind}"].unflatten(0, (-1, 2)).unbind(1)
        out[f"{ours}zeroth.{kind}"] = torch.stack((real - imaginary, real + imaginary), dim=1).flatten(0, 1)
        out[f"{ours}first.{kind}"] = state[f"{theirs}linear.1.{kind}"]
    return out


def _network(state: Mapping[str, Tensor], level: int, layers: int) -> dict[str, Tensor]:
    return {
        f"levels.{level}.mlp.{2 * i}.{kind}": state[f"lgn_cg.mlp_levels.{level}.linear.{i}.{kind}"]
        for i in range(layers)
        for kind in ("weight", "bias")
    }


def _mixing(weight: Tensor, key: Irrep, irreps: list[Irrep], channels: int) -> Tensor:
    """Weights of the products of a level, in hepml's order.

    Shapes: [2, C', products · C] -> [C', products · C, 2].
    """
    theirs = [
        product for a in irreps for product in ((("plain", a, SCALAR),) if a == key else ()) + _moved(a, key)
    ] + _rest(key, irreps)
    ordered = sorted(irreps)
    ours = [("plain", key, SCALAR)] if key in irreps else []
    ours += [product for a in ordered for product in _moved(a, key)] + _rest(key, ordered)
    if weight.shape[-1] != channels * len(theirs):
        raise ValueError(
            f"{weight.shape[-1]} products in the irrep {key}, where a level makes {channels * len(theirs)}"
        )
    blocks = dict(zip(theirs, weight.permute(1, 2, 0).split(channels, dim=1), strict=True))
    signs = {p: exchange_sign(p[1], p[2], key) if p[0] == "moved" else 1 for p in ours}
    return torch.cat([signs[product] * blocks[product] for product in ours], dim=1)


def _moved(a: Irrep, key: Irrep) -> tuple[Product, ...]:
    return (("moved", a, VECTOR),) if key in decomposition(VECTOR, a, LARGEST) else ()


def _rest(key: Irrep, irreps: list[Irrep]) -> list[Product]:
    own: list[Product] = [("own", key, SCALAR)] if key in irreps else []
    return own + [("square", a, b) for a in irreps for b in irreps if key in decomposition(a, b, LARGEST)]


def _head(weight: Tensor, held: list[tuple[list[Irrep], int]]) -> Tensor:
    """Invariants stand level by level in hepml, irrep by irrep there. Shapes: [outputs, 2 Σ C]."""
    theirs = [(level, key, count) for key in ORDER for level, (keys, count) in enumerate(held) if key in keys]
    blocks = {
        (level, key): block
        for (level, key, _), block in zip(
            theirs, weight.split([2 * count for _, _, count in theirs], dim=1), strict=True
        )
    }
    return torch.cat(
        [blocks[level, key] for level, (keys, _) in enumerate(held) for key in sorted(keys)], dim=1
    )
