"""Jets from first principles: Pythia 8, a parametric detector, FastJet, ROOT files in the JetClass layout.

`generate` makes a file; `recipes` lists what can be made. Needs the extra `generate`.
"""

from hepml.generation.production import GenerationReport, generate
from hepml.generation.recipes import Process, Recipe, Slice, recipes

__all__ = ["GenerationReport", "Process", "Recipe", "Slice", "generate", "recipes"]


def __dir__() -> list[str]:
    return sorted(__all__)
