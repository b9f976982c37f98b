"""Checks for taggers, yours as well as ours: `assert_invariant(model, "lorentz")` in a test of your own.

    from hepml.testing import assert_invariant, measure

    assert_invariant(model, "permutation")
    assert_invariant(model, "lorentz", tolerance=1e-9)
    print(measure(model, "boost-x", gammas=(2, 10, 100)))

A model is any `nn.Module` on a `JetBatch`.
"""

from hepml.testing.groups import GROUPS, Element
from hepml.testing.invariance import Deviation, assert_invariant, measure
from hepml.testing.jets import sample_jets

__all__ = ["GROUPS", "Deviation", "Element", "assert_invariant", "measure", "sample_jets"]


def __dir__() -> list[str]:
    return sorted(__all__)
