"""Lorentz-equivariant layers and the numerics under them."""

from hepml.kinematics import root
from hepml.nn.lorentz.products import gram_matrix, packed_mass_squared, plain_product, resolved_mass_squared
from hepml.nn.lorentz.references import REFERENCES, reference_vectors, with_references
from hepml.nn.lorentz.scalars import signed_log
from hepml.nn.lorentz.vectors import ComponentVectors, GramVectors, Vectors
from hepml.packed.pairs import OrderedPairs as Pairs

__all__ = [
    "REFERENCES",
    "ComponentVectors",
    "GramVectors",
    "Pairs",
    "Vectors",
    "gram_matrix",
    "packed_mass_squared",
    "plain_product",
    "reference_vectors",
    "resolved_mass_squared",
    "root",
    "signed_log",
    "with_references",
]
