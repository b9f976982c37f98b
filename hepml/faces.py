"""The public interface of a package: its names, imported when first used, and shown by `dir` with nothing
else.

A package's `__init__` hands `__getattr__` and `__dir__` of a `Face` on as its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any


class Face:
    """The public names of a package.

    Args:
        package: its name.
        names: public name to the module that holds it.
        modules: public modules of the package.
    """

    def __init__(self, package: str, names: Mapping[str, str], modules: Sequence[str] = ()) -> None:
        self.package, self.names, self.modules = package, dict(names), tuple(modules)

    def all(self) -> list[str]:
        """For `__all__`."""
        return sorted([*self.names, *self.modules])

    def get(self, name: str) -> Any:
        """For `__getattr__`."""
        if name in self.names:
            return getattr(importlib.import_module(self.names[name]), name)
        if name in self.modules:
            return importlib.import_module(f"{self.package}.{name}")
        raise AttributeError(f"module '{self.package}' has no attribute '{name}'")

    def show(self) -> list[str]:
        """For `__dir__`."""
        return self.all()
