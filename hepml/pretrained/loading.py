"""`load`: a published file of weights to a hepml model in evaluation mode.

Each network that is recognised has one recipe in `RECIPES`: how to know it by its parameters' names, and how
to read its configuration from their shapes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hepml.errors import ConfigError, ModelError
from hepml.models import create
from hepml.models.identity import identify
from hepml.objectives import objective
from hepml.pretrained import files, lgn, lorentznet, lundnet, part, treenin, weaver
from hepml.pretrained.published import named

log = logging.getLogger(__name__)

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How to recognise and read one kind of published weights.

    Args:
        name: the registered hepml model.
        origin: whose files these are, for messages.
        key: a parameter's name that only this network has.
        read: from the state dict to the hyperparameters that its shapes tell, the state dict under hepml's
            names, and what outputs stand for, in order, where that is known.
        settings: from the training arguments that a file holds to hyperparameters that shapes do not tell.

    Examples:
        >>> hepml.pretrained.RECIPES[0].origin
        'LorentzNet (arXiv:2201.08187)'
    """

    name: str
    origin: str
    key: str
    read: Callable[[State], tuple[dict[str, Any], dict[str, Tensor], tuple[str, ...] | None]]
    settings: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None


RECIPES = (
    Recipe("lorentznet", "LorentzNet (arXiv:2201.08187)", "LGEBs.0.phi_e.0.weight", lorentznet.read),
    Recipe(
        "particlenet", "ParticleNet of weaver-core", "edge_convs.0.convs.0.weight", weaver.read_particlenet
    ),
    Recipe("lundnet", "LundNet (arXiv:2012.08526)", "edge_convs.0.theta.weight", lundnet.read),
    Recipe("treenin", "TreeNiN (arXiv:1902.09914)", "transform.fc_N2.weight", treenin.read),
    Recipe(
        "lgn",
        "Lorentz Group Network (arXiv:2006.04780)",
        "rad_funcs.rad_funcs.0.linear.0.weight",
        lgn.read,
        lgn.settings,
    ),
    Recipe("part", "Particle Transformer of weaver-core", "pair_embed.embed.0.weight", part.read),
)


def load(path: str | PathLike[str], **hyperparameters: Any) -> nn.Module:
    """A published network as a hepml model, in evaluation mode, on the CPU.

    Recognised are the networks in `RECIPES`; prefixes that training scripts leave (`module.`, `mod.`, …) do
    not matter. A checkpoint or run directory of hepml's own is handed to `hepml.load_model`.

    Args:
        path: file of weights, or the name of published ones that are here (`hepml pretrained list`).
        hyperparameters: what the shapes cannot tell, where it is not as published, such as `neighbours=` of a
            ParticleNet.

    Returns:
        the model; beside its `inputs` it has what a trained model has: `hepml_name`, `hepml_hyperparameters`,
        `hepml_objective` and `hepml_classes` (`class_0`, … where the names are not known).

    Raises:
        FileError: no such file, or one that torch cannot read.
        ModelError: weights that are not recognised, or do not fit the network they were recognised as; says
            what was found.

    Examples:
        >>> import torch
        >>> torch.save(hepml.models.create("particlenet").state_dict(), "weights.pt")
        >>> hepml.pretrained.load("weights.pt").hepml_name
        'particlenet'
    """
    where = named(fspath(path))
    if where.is_dir():
        return _load_own(where)
    content = files.read(where)
    if isinstance(content, Mapping) and "hepml" in content:  # also where it is of no use: the trainer says so
        return _load_own(where)
    state = files.state_of(content)
    if not state:
        content_text = f"a {type(content).__name__}"
        if isinstance(content, Mapping):
            content_text += " with " + ", ".join(str(k) for k in list(content)[:6])
        raise ModelError(
            f"no parameters found, but {content_text}", where=str(where), mend="save model.state_dict()"
        )
    recipe = next((r for r in RECIPES if r.key in state), None)
    if recipe is None:
        names = list(state)
        raise ModelError(
            f"weights of an unknown network: {len(names)} tensors, {', '.join(names[:4])}, …",
            where=str(where),
            mend="recognised are " + " and ".join(r.origin for r in RECIPES),
        )
    return _build(recipe, state, files.arguments_of(content), hyperparameters, where)


def _build(
    recipe: Recipe, state: State, arguments: Mapping[str, Any], given: Mapping[str, Any], where: Path
) -> nn.Module:
    try:
        hyperparameters, renamed, classes = recipe.read(state)
        if recipe.settings is not None:
            hyperparameters |= recipe.settings(arguments)
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(
            f"weights that look like {recipe.origin} but are not complete: {error}", where=str(where)
        ) from error
    try:
        model = create(recipe.name, **{**hyperparameters, **given})
        missing, unexpected = model.load_state_dict(renamed, strict=False)
    except ConfigError as error:
        raise ModelError(f"{recipe.origin}: {error}", where=str(where)) from error
    except RuntimeError as error:  # shapes
        first = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
        raise ModelError(f"weights do not fit {recipe.origin}: {first}", where=str(where)) from error
    if missing or unexpected:
        differences = [f"lacks {n}" for n in missing[:3]] + [f"has {n}" for n in unexpected[:3]]
        raise ModelError(
            f"weights do not fit {recipe.origin}: the file " + ", ".join(differences),
            where=str(where),
            mend=f"{len(missing)} parameters missing, {len(unexpected)} unknown",
        )
    outputs = hyperparameters["outputs"]
    names = classes if classes is not None else tuple(f"class_{i}" for i in range(outputs))
    head = objective("bernoulli") if outputs == 1 else objective("categorical", classes=outputs)
    identify(model, objective=head, classes=names)
    log.info("%s: %s, %s", where, recipe.origin, hyperparameters)
    return model.eval()


def _load_own(where: Path) -> nn.Module:
    import hepml  # the trainer's room is above this one; only the public name is used, when it is needed

    log.warning("%s is hepml's own, not published weights: hepml.load_model reads it", where)
    model: nn.Module = hepml.load_model(where)
    return model
