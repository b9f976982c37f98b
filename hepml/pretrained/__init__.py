"""Published weights as hepml models.

`load(path)` reads a file of weights as their authors published them, recognises the network by the names and
shapes of its parameters, and returns the hepml model that computes the same function.
"""

from hepml.pretrained.loading import RECIPES, Recipe, load

__all__ = ["RECIPES", "Recipe", "load"]


def __dir__() -> list[str]:
    return sorted(__all__)
