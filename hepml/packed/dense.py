"""Names of `hepml.packed.rectangle` as they were."""

from hepml.packed.rectangle import mask_of, rows_in_dense, to_dense, to_packed

__all__ = ["mask_of", "rows_in_dense", "to_dense", "to_packed"]
