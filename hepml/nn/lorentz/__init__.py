"""Lorentz-equivariant layers and the numerics under them."""

from hepml.nn.lorentz.pairs import Pairs
from hepml.nn.lorentz.products import plain_product
from hepml.nn.lorentz.references import REFERENCES, reference_vectors
from hepml.nn.lorentz.scalars import signed_log

__all__ = ["REFERENCES", "Pairs", "plain_product", "reference_vectors", "signed_log"]
