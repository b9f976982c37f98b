"""Outputs: written under a temporary name of their own, brought to the disk, renamed last, and never over an
input.

Every file or folder that hepml writes as a whole goes through here. One writer at a time owns a final name (a
lock that the kernel lets go of when the process ends, however it ends); whoever owns it also removes what a
killed predecessor left under temporary names. Modes follow the umask, so that shared folders stay shared.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hepml.errors import FileError
from hepml.paths import RUN_CONFIG

_OWN_RUN_FILES = ("*.yaml", "*.json", "*.jsonl", "checkpoints/*")  # what a run folder is read for
_NAME = re.compile(r"^[^/=]+=(?=.)")
_SHARED_PAUSE = 0.05  # seconds between tries for a lock that is waited for


@contextmanager
def writing(path: Path | str, *, wait: bool = False, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its name when the block ends well, and is removed
    otherwise.

    Args:
        path: the final name; where it is a symbolic link, the file it points to is replaced.
        wait: wait for another writer of the same name instead of refusing.
        durable: bring the content to the disk before the rename.

    Raises:
        FileError: another process is writing this file.
        OSError: of the file system; callers say what to do about it.
    """
    final = Path(os.path.realpath(path))
    with owning(final, wait=wait):
        temporary = temporary_name(final)
        try:
            yield temporary
            if durable:
                _to_disk(temporary)
            os.replace(temporary, final)
            if durable:
                _to_disk(final.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_bytes(path: Path | str, data: bytes, *, durable: bool = True) -> None:
    """Writes a file, whole or not at all.

    Raises:
        FileError: the disk is full or the folder cannot be written; whatever stood under the final name still
            stands there.
    """
    path = Path(path)
    try:
        with writing(path, wait=True, durable=durable) as temporary:
            temporary.write_bytes(data)
    except OSError as problem:
        raise cannot_write(path, problem) from None


def cannot_write(path: Path, problem: OSError) -> FileError:
    """The line for a file system that refuses."""
    return FileError(
        f"cannot write {path.name}: {problem.strerror or problem}",
        where=str(path.parent),
        mend="free some space, or choose another output",
    )


@contextmanager
def building(home: Path) -> Iterator[Path | None]:
    """A temporary folder that takes the name `home` when the block ends well, or None where `home` is there
    (another process built it while this one waited).

    Raises:
        OSError: of the file system.
    """
    sweep_folder(home.parent)
    with owning(home, wait=True):
        if home.is_dir():
            yield None
            return
        partial = temporary_name(home)
        partial.mkdir()
        try:
            yield partial
            for file in partial.rglob("*"):
                _to_disk(file)
            partial.rename(home)
            _to_disk(home.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def owning(final: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds the lock of a final name, and removes what dead owners left of it.

    Raises:
        FileError: another process holds it, and `wait` is not set.
    """
    handle = _lock(final, wait)
    try:
        if handle is not None:
            sweep(final)
        yield
    finally:
        if handle is not None:
            _lock_of(final).unlink(missing_ok=True)  # while it is held: see `_lock`
            os.close(handle)


def sweep(final: Path) -> None:
    """Removes temporaries of a name whose lock the caller holds: their writers are dead."""
    for left in final.parent.glob(f".{glob.escape(final.stem)}.*.tmp{glob.escape(final.suffix)}"):
        if _pattern(final).fullmatch(left.name):
            _remove(left)


def sweep_folder(folder: Path) -> None:
    """Removes the temporary folders below a folder that no living process is building."""
    for left in folder.glob(".*.tmp"):
        name = re.fullmatch(r"\.(.+)\.\d+-[0-9a-f]+\.tmp", left.name)
        if name is None or not left.is_dir():
            continue
        with contextlib.suppress(FileError), owning(folder / name[1]):
            pass


def temporary_name(final: Path) -> Path:
    """A name beside `final` that no other writer has; hidden, so that no glob for data finds it."""
    return final.with_name(f".{final.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp{final.suffix}")


def refuse_inputs(output: Path | str | None, inputs: Iterable[Any], *, option: str = "--output") -> None:
    """Refuses an output that is one of the files a command reads: also by another path to it, a symbolic or
    hard link, a glob or a folder.

    Args:
        output: where a command is about to write.
        inputs: paths, globs, folders, `FILE:tree`, `NAME=FILES`, run folders; None is skipped.
        option: how the user gave the output.

    Raises:
        FileError: the output is an input.
    """
    if output is None:
        return
    target = _identity(Path(output))
    if target is None:  # nothing stands there yet
        return
    for word in inputs:
        for path in _files_of(word):
            if _identity(path) == target:
                raise FileError(
                    "the output is one of the inputs, which it would replace",
                    where=f"{option} {output}"
                    if str(path) == str(output)
                    else f"{option} {output} is {path}",
                    mend="choose another name for the output",
                )


def _files_of(word: Any) -> Iterator[Path]:
    if word is None or isinstance(word, bool):
        return
    if isinstance(word, list | tuple):
        for one in word:
            yield from _files_of(one)
        return
    text = os.path.expanduser(str(word))
    if "://" in text:
        return
    for candidate in _readings(text):
        paths = [candidate] if os.path.exists(candidate) else glob.glob(candidate, recursive=True)
        for name in paths:
            path = Path(name)
            yield path
            if path.is_dir():
                yield from _inside(path)
        if paths:
            return


def _readings(text: str) -> Iterator[str]:
    """What a word may mean: itself, without `:tree`, without `NAME=`."""
    for word in dict.fromkeys((text, _NAME.sub("", text))):
        yield word
        head = word
        while ":" in head:
            head = head.rpartition(":")[0]
            if head:
                yield head


def _inside(folder: Path) -> Iterator[Path]:
    if (folder / RUN_CONFIG).is_file() and (folder / "checkpoints").is_dir():  # a run, not a folder of data
        for pattern in _OWN_RUN_FILES:
            yield from folder.glob(pattern)
        return
    for place, _, files in os.walk(folder):
        yield from (Path(place) / file for file in files)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path.expanduser())
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _lock_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.writing")


def _lock(final: Path, wait: bool) -> int | None:
    """An open, locked file descriptor; None where the file system knows no locks (names are unique then)."""
    path = _lock_of(final)
    while True:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            os.close(handle)
            if problem.errno not in (errno.EAGAIN, errno.EACCES):
                path.unlink(missing_ok=True)
                return None
            if not wait:
                raise FileError(
                    "another process is writing this file",
                    where=str(final),
                    mend="wait until it ends, or choose another output",
                ) from None
            time.sleep(_SHARED_PAUSE)
            continue
        # an owner removes the lock's file before it lets go: what was locked may have no name any more
        with contextlib.suppress(OSError):
            if os.fstat(handle).st_ino == os.stat(path).st_ino:
                return handle
        os.close(handle)


def _pattern(final: Path) -> re.Pattern[str]:
    return re.compile(rf"\.{re.escape(final.stem)}\.\d+(?:-[0-9a-f]+)?\.tmp{re.escape(final.suffix)}")


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Brings a file or folder to the disk; file systems that cannot are taken as they are."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
    finally:
        os.close(handle)
