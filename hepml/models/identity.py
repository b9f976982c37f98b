"""What a model says about itself: which registered model it is, with which hyperparameters, and what it was
trained for. Read here, and nowhere by attribute names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from hepml.objectives import Objective


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
    """

    name: str | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    objective: Objective | str | None = None
    classes: tuple[str, ...] = ()
    target: str | None = None
    layout: Any = None
    standards: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bare_classes(self) -> tuple[str, ...]:
        """Class names without the prefix `label_`."""
        return tuple(name.removeprefix("label_") for name in self.classes)


def identity_of(model: Any) -> Identity:
    """What a model says about itself: any module may be asked, a user's own is nameless."""
    return Identity(
        name=getattr(model, "hepml_name", None),
        hyperparameters=getattr(model, "hepml_hyperparameters", None) or {},
        objective=getattr(model, "hepml_objective", None),
        classes=tuple(str(name) for name in getattr(model, "hepml_classes", None) or ()),
        target=getattr(model, "hepml_target", None),
        layout=getattr(model, "hepml_layout", None),
        standards=getattr(model, "hepml_standards", None) or {},
    )


def identify(model: nn.Module, **known: Any) -> nn.Module:
    """Writes fields of `Identity` on a model, as the attributes `hepml_name` and so on that scripts read;
    returns the model."""
    for name, value in known.items():
        if name not in Identity.__dataclass_fields__:
            raise TypeError(f"an identity has no '{name}'")
        setattr(model, f"hepml_{name}", value)
    return model
