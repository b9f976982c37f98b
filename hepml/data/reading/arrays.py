"""npz files, read so that damage shows: what each array says of itself against what is there, and no Python
objects.

numpy reads an npz by unpacking a zip; on a damaged one it raises a dozen kinds of exceptions, or asks for as
much memory as a damaged header says.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hepml.errors import DataError, FileError, HepmlError

MOST_CLASSES = 1000  # labels without names; a larger one is a damaged or a wrong number
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Header(NamedTuple):
    """What an array says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """All arrays of an npz file.

    Raises:
        FileError: not an npz file, damaged or truncated.
        DataError: an array of Python objects.
    """
    headers = read_headers(path)
    with refusing(path), np.load(path, allow_pickle=False) as arrays:
        return {name: np.asarray(arrays[name]) for name in headers}


def read_array(path: Path | str, name: str) -> np.ndarray:
    """One array of an npz file; errors as in `read_arrays`."""
    with refusing(path), np.load(path, allow_pickle=False) as arrays:
        return np.asarray(arrays[name])


def read_headers(path: Path | str) -> dict[str, Header]:
    """Shapes and types of the arrays in an npz file, without reading them; each as long as it says it is.

    Raises:
        FileError: not an npz file, damaged or truncated.
        DataError: an array of Python objects.
    """
    headers: dict[str, Header] = {}
    with refusing(path), zipfile.ZipFile(path) as archive:
        if not lists_all(archive, Path(path)):
            raise broken(path, "its list of arrays is not whole")
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in headers:
                raise broken(path, f"it holds '{member.filename}'" + " twice" * (name in headers))
            with archive.open(member) as stream:
                header = read_header(stream)
                if header.dtype.hasobject:
                    raise DataError(
                        f"array '{name}' holds Python objects, which are not loaded",
                        where=str(path),
                        mend="save arrays of numbers or text",
                    )
                if stream.tell() + _bytes_of(header) != member.file_size:
                    raise broken(path, f"array '{name}' is not as long as it says")
            headers[name] = header
    return headers


def lists_all(archive: zipfile.ZipFile, path: Path) -> bool:
    """Whether a zip has as many members as it says it has: damage to one entry of its list can swallow the
    next, which zipfile does not notice."""
    end = 22 + len(archive.comment)
    with open(path, "rb") as stream:
        stream.seek(-end, 2)
        entries = int.from_bytes(stream.read(12)[10:12], "little")
    return entries in (0xFFFF, len(archive.infolist()))  # 0xFFFF: the number stands elsewhere


def read_header(stream: Any) -> Header:
    """The header of an array at the beginning of a stream."""
    version = np.lib.format.read_magic(stream)
    if version not in _READERS:
        raise ValueError(f"array format {version}")
    shape, fortran, dtype = _READERS[version](stream)
    if any(length < 0 for length in shape):
        raise ValueError(f"shape {shape}")
    return Header(tuple(shape), dtype, fortran)


@contextmanager
def refusing(path: Path | str) -> Iterator[None]:
    """Whatever goes wrong with a damaged file inside, as one line that names it."""
    try:
        yield
    except HepmlError:
        raise
    except FileNotFoundError:
        raise FileError("no such file", where=str(path), mend="check the path") from None
    except Exception as problem:  # zipfile, zlib, struct, tokenize and numpy each have their own
        raise broken(path, problem) from None


def broken(path: Path | str, problem: object) -> FileError:
    """The line for a file that is not what it should be."""
    message = " ".join(str(problem).split())[:120] or type(problem).__name__
    return FileError(f"not an npz file, or a damaged one ({message})", where=str(path), mend="copy it again")


def check_momenta(four_momenta: Header, where: str) -> None:
    """Raises DataError where the four-momenta are no numbers [ΣN, 4]."""
    shape, dtype, _ = four_momenta
    if len(shape) != 2 or shape[1] != 4 or dtype.kind not in "fiu":
        raise DataError(
            f"four_momenta have shape {shape} and type {dtype}",
            where=where,
            mend="give numbers [ΣN, 4] as (E, px, py, pz)",
        )


def whole_offsets(offsets: np.ndarray, constituents: int, where: str) -> np.ndarray:
    """Offsets [B + 1] as integers that rise from 0 to the number of constituents.

    Raises:
        DataError: others; says what is wrong with them.
    """
    mend = f"offsets are whole numbers that rise from 0 to the number of constituents, {constituents}"
    if offsets.ndim != 1 or not len(offsets) or offsets.dtype.kind not in "iuf":
        raise DataError(
            f"offsets have shape {offsets.shape} and type {offsets.dtype}", where=where, mend=mend
        )
    if not _are_whole(offsets):
        raise DataError("offsets are not whole numbers", where=where, mend=mend)
    if offsets[0] != 0 or offsets[-1] != constituents:
        raise DataError(
            f"offsets go from {offsets[0]} to {offsets[-1]}, there are {constituents} constituents",
            where=where,
            mend=mend,
        )
    if (offsets[1:] < offsets[:-1]).any():
        jet = int(np.argmax(offsets[1:] < offsets[:-1]))
        raise DataError(f"offsets fall at jet {jet}", where=where, mend=mend)
    return offsets.astype(np.int64)


def whole_labels(labels: np.ndarray, jets: int, classes: int | None, where: str) -> np.ndarray:
    """Labels [B] as integers: the index of a class, or -1 for none and -2 for several.

    Args:
        classes: how many have a name, or None.

    Raises:
        DataError: labels that are no such thing; says which.
    """
    mend = "give one class index a jet: 0, 1, …"
    if labels.ndim != 1 or labels.dtype.kind not in "iufb":
        raise DataError(f"labels have shape {labels.shape} and type {labels.dtype}", where=where, mend=mend)
    if len(labels) != jets:
        raise DataError(f"{len(labels)} labels for {jets} jets", where=where, mend=mend)
    if not _are_whole(labels):
        jet = int(np.argmin(np.isfinite(labels) & (labels == np.rint(labels))))
        raise DataError(f"jet {jet} has label {labels[jet]}, no whole number", where=where, mend=mend)
    if not len(labels):
        return np.zeros(0, dtype=np.int64)
    most = MOST_CLASSES if classes is None else classes
    for extreme in (labels.max(), labels.min()):
        if not -2 <= extreme < most:
            named = "" if classes is None else f", there are {classes} classes"
            raise DataError(
                f"jet {int(np.argmax(labels == extreme))} has label {extreme}{named}",
                where=where,
                mend=mend if classes is not None else mend + ", or name the classes in `classes`",
            )
    return labels.astype(np.int64)


def one_number_a_jet(values: np.ndarray, name: str, jets: int, where: str) -> np.ndarray:
    """Values [B].

    Raises:
        DataError: of another shape, or no numbers.
    """
    if values.shape != (jets,) or values.dtype.kind not in "iufb":
        raise DataError(
            f"{name} have shape {values.shape} and type {values.dtype}, there are {jets} jets",
            where=where,
            mend="give one number a jet",
        )
    return values


def names_in(arrays: Mapping[str, np.ndarray], where: str) -> tuple[str, ...] | None:
    """The class names in the array `classes`; None where there is none.

    Raises:
        DataError: an array that is no list of different names.
    """
    if "classes" not in arrays:
        return None
    given = arrays["classes"]
    if given.ndim != 1 or given.dtype.kind not in "US":
        raise DataError(
            f"classes have shape {given.shape} and type {given.dtype}", where=where, mend="give names as text"
        )
    names = tuple(c.decode(errors="replace") if isinstance(c, bytes) else str(c) for c in given.tolist())
    if len(set(names)) < len(names):
        raise DataError("a class is named twice", where=where, mend="give each class a name of its own")
    return names


def _are_whole(values: np.ndarray) -> bool:
    if values.dtype.kind != "f":
        return True
    return bool((np.isfinite(values) & (values == np.rint(values))).all())


def _bytes_of(header: Header) -> int:
    size = header.dtype.itemsize
    for length in header.shape:
        size *= length
    return size
