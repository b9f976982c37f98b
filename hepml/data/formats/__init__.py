"""File formats: from a file to flat columns, whatever it is written in (ROOT events, HDF5, Parquet, npz)."""
