"""Which format a file of jets has that is no ROOT tree. Its content decides, not its name alone; a file of
no known format is refused with what it holds."""

from __future__ import annotations

from pathlib import Path

from hepml.data.formats.flat import FlatFile

HDF5 = (".h5", ".hdf5", ".hdf")


def open_flat(path: str) -> FlatFile | None:
    """The format of a file, or None for one that another reader takes (ROOT, Parquet, our own npz).

    Raises:
        FileError: missing or damaged. LayoutError: of a known container, but with unknown content.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        from hepml.data.formats.padded import EnergyFlow, is_energyflow

        return EnergyFlow(path) if is_energyflow(path) else None
    if suffix in HDF5:
        from hepml.data.formats.hdf5 import open_hdf5

        return open_hdf5(path)
    return None
