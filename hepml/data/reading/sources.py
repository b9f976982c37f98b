"""Where jets come from: paths, globs, folders and lists become single files, and ROOT files become trees.

Everything that can be wrong with a file before a branch is read is found here and said in one line: a missing
file, something that is no ROOT file, a truncated one, a tree that is not there.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepml.data.reading import remote
from hepml.errors import FileError, HepmlError, LayoutError, did_you_mean, nearest
from hepml.redaction import lacks_secret, redact, reveal

Files = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

SUFFIXES = (".root", ".npz", ".h5", ".hdf5", ".hdf", ".parquet", ".arrow", ".feather")
_REMOTE = re.compile(r"^[a-z][a-z0-9+]*://")
_TREE = re.compile(r"^(?P<path>.+?\.root(?:\.\d+)?):(?P<tree>[^:]+)$")
_CYCLE = re.compile(r"^(?P<name>.+?)(?:;(?P<cycle>\d+|\*))?$")


@dataclass(frozen=True)
class Source:
    """One file, and the tree in it where one was named.

    Args:
        path: local path or URL.
        tree: name of the tree, or None for the one that the layout names or the only one there is. A path of
            folders (`/dir/tree`) and a cycle (`tree;1`) may belong to it, as ROOT writes them; the newest
            cycle is read without one.
        shown: the URL of which `path` is a copy.
        content: of a remote file, what tells its content from another's.
    """

    path: str
    tree: str | None = None
    shown: str | None = None
    content: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The path or URL as it was given."""
        return self.shown or self.path

    @property
    def identity(self) -> tuple[Any, ...] | None:
        """What tells the file's content from another's without reading it; None where it is not there."""
        if self.content is not None:
            return self.content
        if self.is_remote or not os.path.exists(self.path):
            return None
        stat = os.stat(self.path)
        return stat.st_size, stat.st_mtime_ns

    @property
    def place(self) -> str:
        """Where the file is, however its path is spelt."""
        return self.path if self.is_remote else os.path.realpath(self.path)

    @property
    def is_remote(self) -> bool:
        return bool(_REMOTE.match(self.path))

    @property
    def is_npz(self) -> bool:
        return self.suffix == ".npz"

    @property
    def suffix(self) -> str:
        """The file's ending, in small letters."""
        return remote.suffix_of(self.path) if self.is_remote else Path(self.path).suffix.lower()

    def __str__(self) -> str:
        return redact(self.name)


def expand(files: Files | Source | Iterable[Source]) -> list[Source]:
    """Single files from a path, glob, folder, `file.root:tree`, or a list of those; in sorted order within
    each item.

    Raises:
        FileError: a path that does not exist (names the nearest file beside it), a glob or folder without
            ROOT or npz files.
    """
    if isinstance(files, Source):
        return [files]
    items: Iterable[Any] = [files] if isinstance(files, str | os.PathLike) else files
    sources: list[Source] = []
    for item in items:
        sources += [item] if isinstance(item, Source) else _expand_one(os.fspath(item))
    if not sources:
        raise FileError("no input files", mend="name at least one ROOT or npz file")
    return sources


def open_root(source: Source) -> Any:
    """The opened ROOT file (an uproot directory); the caller closes it.

    Raises:
        FileError: missing, not a ROOT file, or shorter than its own header says.
    """
    import uproot

    from hepml.data.reading.uproot_classes import restore_classes

    if source.suffix in (".parquet", ".arrow", ".feather"):
        from hepml.data.formats.arrow import ArrowFile

        if not Path(source.path).is_file():
            raise _missing(source.path)
        return ArrowFile(source.path)
    if not source.is_remote:
        path = Path(source.path)
        if not path.is_file():
            raise _missing(source.path)
        with open(path, "rb") as stream:
            magic = stream.read(4)
        if not magic:
            raise FileError("the file is empty", where=str(source), mend="copy or generate it again")
        if magic != b"root":
            raise FileError(
                f"not a ROOT file: it begins with {magic!r}, not b'root'",
                where=str(source),
                mend="give a ROOT, HDF5, Parquet, Arrow or npz file",
            )
    restore_classes()
    try:
        directory = remote.opened(source.path) if source.is_remote else uproot.open(source.path)
    except HepmlError:
        raise
    except Exception as problem:
        raise FileError(
            f"the ROOT file cannot be read ({_brief(problem)})",
            where=str(source),
            mend="it is broken or truncated; copy or generate it again",
        ) from problem
    if not int(getattr(directory, "_fSeekKeys", 1)):
        directory.close()
        raise FileError(
            "the file lists no contents: it was never closed, as when the job that wrote it was killed",
            where=str(source),
            mend="copy or generate it again",
        )
    if not source.is_remote:
        size, claimed = Path(source.path).stat().st_size, int(directory.file.fEND)
        if size < claimed:
            directory.close()
            raise FileError(
                f"the file is truncated: {size} of {claimed} bytes are there",
                where=str(source),
                mend="copy or generate it again",
            )
    return directory


def trees_of(directory: Any, where: str) -> dict[str, str]:
    """Names and kinds (`TTree`, `RNTuple`) of the trees in an opened ROOT file, the newest cycle of each."""
    if (table := getattr(directory, "table", None)) is not None:
        return dict(table)
    try:
        kinds = directory.classnames(recursive=True, cycle=False)
    except Exception as problem:
        raise FileError(
            f"the file's contents cannot be listed ({_brief(problem)})",
            where=where,
            mend="it is broken or truncated; copy or generate it again",
        ) from problem
    return {
        name: "RNTuple" if "RNTuple" in kind else "TTree"
        for name, kind in kinds.items()
        if kind in ("TTree", "TNtuple", "TNtupleD") or "RNTuple" in kind
    }


@contextmanager
def refusing_damage(where: str) -> Iterator[None]:
    """What uproot and its decompressors raise on a damaged file, as one line that names the file."""
    try:
        yield
    except HepmlError:
        raise
    except Exception as problem:  # struct, cramjam, numpy, uproot: each has its own
        raise FileError(
            f"the file is damaged ({_brief(problem)})", where=where, mend="copy or generate it again"
        ) from problem


def open_tree(directory: Any, source: Source, wanted: str | None = None) -> tuple[str, Any]:
    """The tree to read: the one named with the file, else `wanted`, else the only one there is.

    Raises:
        LayoutError: no such tree, no tree at all, or several without a name.
    """
    from hepml.data.reading.checksums import check_when_read

    asked = source.tree or wanted
    trees = trees_of(directory, str(source))
    if asked is None:
        if len(trees) != 1:
            raise LayoutError(
                f"{len(trees)} trees ({', '.join(sorted(trees))})" if trees else "there is no tree",
                where=str(source),
                mend="name one, as FILE.root:TREE" if trees else "give a file with a TTree or RNTuple",
            )
        asked = next(iter(trees))
    name = _key(directory, asked, trees, str(source))
    try:
        return name, check_when_read(directory[name])
    except Exception as problem:
        raise FileError(
            f"tree '{name}' cannot be read ({_brief(problem)})",
            where=str(source),
            mend="the file is broken or truncated; copy or generate it again",
        ) from problem


def _key(directory: Any, asked: str, trees: Mapping[str, str], where: str) -> str:
    """The key under which the file holds the tree that was asked for, with the cycle where one was given.

    Raises:
        LayoutError: no such tree, or no such cycle of it.
    """
    match = _CYCLE.match(re.sub(r";\d+/", "/", asked.strip("/")))
    name, cycle = (match["name"], match["cycle"]) if match else (asked, None)
    if name not in trees:
        raise LayoutError(
            f"tree '{asked}' not found",
            where=where,
            mend=did_you_mean(name, trees, noun="trees at hand"),
        )
    if cycle in (None, "*"):
        return name
    cycles = sorted(
        int(key.rpartition(";")[2])
        for key in directory.keys(recursive=True, cycle=True)
        if key.rpartition(";")[0] == name
    )
    if int(str(cycle)) not in cycles:
        raise LayoutError(
            f"tree '{name}' has no cycle {cycle}",
            where=where,
            mend="cycles at hand: " + ", ".join(map(str, cycles)),
        )
    return f"{name};{cycle}"


def _expand_one(item: str) -> list[Source]:
    item = os.path.expanduser(reveal(item))
    if lacks_secret(item):
        raise FileError(
            "the secret in this address is kept in no file", where=item, mend="give the files again"
        )
    tree = None
    if (match := _TREE.match(item)) and not os.path.exists(item):
        item, tree = match["path"], match["tree"]
    if _REMOTE.match(item):
        return [_remote_source(item, tree)]
    if os.path.isfile(item):
        return [Source(item, tree)]
    if os.path.isdir(item):
        # hidden files are what somebody is writing there, or was
        inside = sorted(
            str(p) for p in Path(item).rglob("*") if p.suffix in SUFFIXES and not p.name.startswith(".")
        )
        if not inside:
            raise FileError("no file of jets in this folder", where=item, mend="name another folder")
        return [Source(path, tree) for path in inside]
    if glob.has_magic(item):
        matched = sorted(p for p in glob.glob(item, recursive=True) if os.path.isfile(p))
        if not matched:
            raise FileError(
                "no file matches this pattern", where=item, mend="check the folder and the pattern"
            )
        return [Source(path, tree) for path in matched]
    raise _missing(item)


def _remote_source(url: str, tree: str | None) -> Source:
    if "*" in url:
        raise FileError(
            "patterns are for local files; a server has no folders to look into",
            where=url,
            mend="list the addresses",
        )
    path, content = remote.settled(url)
    return Source(path, tree, None if path == url else url, content)


def _missing(path: str) -> FileError:
    folder = Path(path).parent
    if not folder.is_dir():
        return FileError(f"no such file: {path}", mend=f"the folder {folder} does not exist either")
    close = nearest(Path(path).name, (p.name for p in folder.iterdir()))
    mend = f"did you mean '{folder / close[0]}'?" if close else "check the path"
    return FileError(f"no such file: {path}", mend=mend)


def _brief(problem: BaseException) -> str:
    """The first line of somebody else's error, short enough for one of ours."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    return f"{type(problem).__name__}: {text[:120]}" if text else type(problem).__name__
