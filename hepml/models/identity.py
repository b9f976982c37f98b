"""What a model says about itself: which registered model it is, with which hyperparameters, and what it was
trained for. It is one attribute, `hepml_identity`; scripts read its parts as `hepml_name`, `hepml_classes`
and so on. `Tagger` is the base of all registered models: a module that carries one and takes a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from hepml.data.inputs import Inputs
from hepml.errors import ModelError
from hepml.objectives import Objective

if TYPE_CHECKING:
    from torch import Tensor

    from hepml.data.batch import JetBatch


@dataclass(frozen=True)
class Identity:
    """A model's identity; what is not known is empty.

    Args:
        name: in the registry.
        hyperparameters: that it was created with.
        objective: its head, or the name of one.
        classes: names in the order of the outputs.
        target: the regressed column.
        layout: of the files it was trained on.
        standards: what it standardises its inputs by (`hepml.models.standardised`).
        pretext: whether it was trained on a pretext task, so that its outputs have learnt nothing.
    """

    name: str | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    objective: Objective | str | None = None
    classes: tuple[str, ...] = ()
    target: str | None = None
    layout: Any = None
    standards: Mapping[str, Any] = field(default_factory=dict)
    pretext: bool = False

    @property
    def bare_classes(self) -> tuple[str, ...]:
        """Class names without the prefix `label_`."""
        return tuple(name.removeprefix("label_") for name in self.classes)


_ATTRIBUTE = "hepml_identity"


def identity_of(model: Any) -> Identity:
    """What a model says about itself: any module may be asked, a user's own is nameless."""
    known: Identity = getattr(model, _ATTRIBUTE, None) or Identity()
    return known


def identify(model: nn.Module, **known: Any) -> nn.Module:
    """Writes fields of `Identity` on a model; returns the model. A module of a user's own, which is no
    `Tagger`, also gets `hepml_name` and so on as attributes."""
    for name in known:
        if name not in Identity.__dataclass_fields__:
            raise TypeError(f"an identity has no '{name}'")
    if "classes" in known:
        known["classes"] = tuple(str(name) for name in known["classes"] or ())
    setattr(model, _ATTRIBUTE, replace(identity_of(model), **known))
    if not isinstance(model, Tagger):
        for name, value in known.items():
            setattr(model, f"hepml_{name}", value)
    return model


def inputs_of(model: nn.Module) -> Inputs:
    """What a model asks of the data.

    Raises:
        ModelError: it does not say.
    """
    inputs = getattr(model, "inputs", None)
    if not isinstance(inputs, Inputs):
        raise ModelError(
            f"a {type(model).__name__} does not say what it needs of the data",
            mend="give it an attribute `inputs`",
        )
    return inputs


def _part(name: str) -> Any:
    """A field of the identity under the name that scripts know."""

    def read(model: Tagger) -> Any:
        return getattr(model.hepml_identity, name)

    def write(model: Tagger, value: Any) -> None:
        identify(model, **{name: value})

    return property(read, write, doc=f"`Identity.{name}`.")


class Tagger(nn.Module):
    """Base of the registered models: takes a `JetBatch`, and knows what it is.

    Subclasses set `inputs`, which says what they read, and write `forward(batch) -> [B, outputs]`.

    Examples:
        >>> model = hepml.models.create('mlp', hidden=(4,))
        >>> isinstance(model, hepml.models.Tagger) and model.inputs.four_momenta in (True, False)
        True
    """

    inputs: Inputs
    hepml_identity: Identity = Identity()

    if TYPE_CHECKING:

        def __call__(self, batch: JetBatch) -> Tensor:
            """The parameters of q(z|x), [B, outputs]."""

    hepml_name: str | None = _part("name")
    hepml_hyperparameters: Mapping[str, Any] = _part("hyperparameters")
    hepml_objective: Any = _part("objective")
    hepml_classes: tuple[str, ...] = _part("classes")
    hepml_target: str | None = _part("target")
    hepml_layout: Any = _part("layout")
    hepml_standards: Mapping[str, Any] = _part("standards")
