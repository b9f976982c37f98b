"""HDF5 files run no code and end no process: pickled objects are refused, and a crash of the library is one
line."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chaos.formats import write_table

import hepml
from hepml.data.reading.crashes import try_first
from hepml.data.reading.no_objects import plain
from hepml.errors import FileError, HepmlError

h5py = pytest.importorskip("h5py")
pandas = pytest.importorskip("pandas")
pytest.importorskip("tables")


class _Opens:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    ("node", "attribute"),
    [
        ("/", "TITLE"),
        ("table", "non_index_axes"),
        ("table/table", "FIELD_0_FILL"),
        ("table/table", "index_kind"),
    ],
)
def test_a_pickled_object_in_an_attribute_is_never_loaded(tmp_path: Path, node: str, attribute: str) -> None:
    path, run = tmp_path / "jets.h5", tmp_path / "run"
    write_table(path)
    assert len(hepml.read_jets(path)) == 20
    with h5py.File(path, "a") as file:
        file[node].attrs[attribute] = np.bytes_(pickle.dumps(_Opens(run), 0))
    with contextlib.suppress(HepmlError):
        hepml.read_jets(path)
    assert not run.exists()


def test_a_column_of_objects_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "jets.h5"
    frame = pandas.DataFrame(
        {"E_0": [2.0], "PX_0": [1.0], "PY_0": [1.0], "PZ_0": [1.0], "is_signal_new": [1]}
    )
    frame["which"] = [_Opens(tmp_path / "run")]
    with pytest.warns(pandas.errors.PerformanceWarning):
        frame.to_hdf(path, key="table", format="fixed")
    with pytest.raises(HepmlError, match="Python object"):
        hepml.read_jets(path)
    assert not (tmp_path / "run").exists()


def test_plain_values_are_unpickled() -> None:
    value = [(1, ["E_0", "PX_0"]), {"names": [None]}, np.float64(2.5), np.int32(3)]
    assert plain(pickle.dumps(value)) == value
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.eval"):
        plain(pickle.dumps(eval))


def test_a_reader_that_crashes_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(b"x")
    with pytest.raises(FileError, match="crashes on it"):
        try_first(path, lambda whole: os.kill(os.getpid(), signal.SIGSEGV))
    try_first(path, lambda whole: 1 / 0)  # what it raises is said by whoever reads it next
