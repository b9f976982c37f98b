"""Files on other machines: `https://`, `http://` and `root://` (and whatever else fsspec has a package for).

A ROOT file on a server that answers requests for parts is read where it is. Everything else (HDF5, Parquet,
npz, servers that only hand out whole files) is copied to a temporary folder first, which lasts as long as the
process. Each request has a time limit and is tried once more.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import xxhash

from hepml.errors import FileError
from hepml.redaction import redact

T = TypeVar("T")
TIMEOUT = "HEPML_TIMEOUT"  # environment variable: seconds that a server may be silent
_SECONDS, _PAUSE = 30.0, 0.5
_BLOCK = 1 << 22
# A server's last word, after which asking again makes no difference: HTTP's, and XRootD's numbers.
_FINAL = re.compile(r"\b40[0134]\b|\[301[01]\]")
_ABSENT, _FORBIDDEN = re.compile(r"\b404\b|\[3011\]"), re.compile(r"\b40[13]\b|\[3010\]")
_LATE = re.compile(r"timed out|operation expired", re.IGNORECASE)
_NEEDED = {
    "root": ("fsspec_xrootd", "pip install 'hepml-jets[xrootd]'"),
    "xroot": ("fsspec_xrootd", "pip install 'hepml-jets[xrootd]'"),
    "http": ("aiohttp", "pip install 'hepml-jets[remote]'"),
    "https": ("aiohttp", "pip install 'hepml-jets[remote]'"),
}


def suffix_of(url: str) -> str:
    """The ending of the file's name, in small letters, whatever follows behind a question mark."""
    return Path(urlsplit(url).path).suffix.lower()


def options(url: str) -> dict[str, Any]:
    """What fsspec is told besides the address.

    Raises:
        FileError: no package here that reads such addresses.
    """
    scheme = url.partition("://")[0]
    package, mend = _NEEDED.get(scheme, (None, None))
    if package is None:
        _check_known(scheme, url)
    elif importlib.util.find_spec(package) is None:
        raise FileError(f"reading {scheme}:// needs the package {package}", where=url, mend=mend)
    seconds = timeout()
    if scheme in ("http", "https"):
        import aiohttp

        limit = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
        return {"client_kwargs": {"timeout": limit}}
    if scheme not in ("root", "xroot"):
        return {}
    # at exit XRootD looks at every object there is, and torch warns when one of its own is looked at
    warnings.filterwarnings("ignore", category=FutureWarning, module="XRootD")
    return {"timeout": max(int(seconds), 1)}


def timeout() -> float:
    """Seconds that a server may be silent."""
    try:
        return max(float(os.environ.get(TIMEOUT, _SECONDS)), 0.01)
    except ValueError:
        raise FileError(
            f"{TIMEOUT} is {os.environ[TIMEOUT]!r}, and should be a number of seconds", where="environment"
        ) from None


def tried_twice(url: str, action: Callable[[], T]) -> T:
    """What `action` returns; it is tried once more where that may help.

    Raises:
        FileError: it failed again, in one line.
    """
    for last in (False, True):
        try:
            return action()
        except FileError:
            raise
        except Exception as problem:
            if not last and not _is_final(problem):
                time.sleep(_PAUSE)
                continue
            raise FileError(_told(problem), where=url, mend=_mend(problem)) from problem
    raise AssertionError("unreachable")


def settled(url: str) -> tuple[str, tuple[str, ...]]:
    """Where to read a file, and what tells its content from another's (size, checksum, time of change).

    Returns:
        the address itself, or the path of a copy.

    Raises:
        FileError: not there, not allowed, no answer.
    """
    system, path = _system(url)
    info = tried_twice(url, lambda: _info(system, path))
    identity = _identity(info)
    if suffix_of(url) not in _COPIED and tried_twice(url, lambda: len(_head(system, path))) == _HEAD:
        return url, identity
    return str(_copy(url, system, path, identity)), identity


def local_copy(url: str) -> Path:
    """The path of a copy, for what reads files of this machine only.

    Raises:
        FileError: as `settled`.
    """
    system, path = _system(url)
    info = tried_twice(url, lambda: _info(system, path))
    return _copy(url, system, path, _identity(info))


def opened(url: str) -> Any:
    """A remote ROOT file as an uproot directory."""
    import uproot

    known = options(url)
    # a mapping, since uproot would look for a colon and an object's name in the address
    return tried_twice(url, lambda: uproot.open({url: None}, **known))


_HEAD = 4  # bytes that a server is asked for to see whether it hands out parts
_COPIED = frozenset({".npz", ".h5", ".hdf5", ".hdf", ".parquet", ".arrow", ".feather"})


def _system(url: str) -> tuple[Any, str]:
    """The file system that an address belongs to (its server is part of it for some), and the path there."""
    import fsspec

    known = options(url)
    system, path = tried_twice(url, lambda: fsspec.core.url_to_fs(url, **known))
    return system, str(path)


def _info(system: Any, path: str) -> dict[str, Any]:
    try:
        return dict(system.info(path))
    except FileNotFoundError as problem:  # fsspec says so of whatever went wrong
        raise (problem.__cause__ or problem) from None


def _identity(info: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(info.get(k)) for k in ("size", "ETag", "Last-Modified", "mtime"))


def _head(system: Any, path: str) -> bytes:
    return bytes(system.cat_file(path, start=0, end=_HEAD))


def _copy(url: str, system: Any, path: str, identity: tuple[str, ...]) -> Path:
    name = Path(unquote(urlsplit(url).path)).name or "file"
    place = _folder() / xxhash.xxh3_64_hexdigest(repr((url, identity)).encode()) / name
    if place.is_file():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{name}.part")

    def fetch() -> None:
        with system.open(path, mode="rb", block_size=0) as stream, open(partial, "wb") as out:
            while block := stream.read(_BLOCK):
                out.write(block)
        size = identity[0]
        if size.isdigit() and partial.stat().st_size != int(size):
            raise ConnectionError(f"{partial.stat().st_size} of {size} bytes came")

    tried_twice(url, fetch)
    partial.rename(place)
    return place


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hepml-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _check_known(scheme: str, url: str) -> None:
    import fsspec

    try:
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError) as problem:
        raise FileError(
            f"no way to read {scheme}:// here ({' '.join(str(problem).split())[:120]})",
            where=url,
            mend="give an https:// or root:// address, or copy the file",
        ) from problem


def _is_final(problem: Exception) -> bool:
    return isinstance(problem, FileNotFoundError) or bool(_FINAL.search(str(problem)))


def _told(problem: Exception) -> str:
    """What went wrong, in a clause."""
    name, text = type(problem).__name__, redact(" ".join(str(problem).split()))[:120]
    if isinstance(problem, FileNotFoundError) or _ABSENT.search(text):
        return "no such file on the server"
    if _FORBIDDEN.search(text):
        return "the server does not let us read this file"
    if isinstance(problem, TimeoutError) or "Timeout" in name or _LATE.search(text):
        return f"the server did not answer within {timeout():g} s, twice"
    return f"the file cannot be fetched ({name}: {text})" if text else f"the file cannot be fetched ({name})"


def _mend(problem: Exception) -> str:
    if _is_final(problem):
        return "check the address and your access to it"
    return f"check the address and the network, or copy the file first ({TIMEOUT} sets the limit in seconds)"
