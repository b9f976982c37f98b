"""Files that torch wrote, read so that damage shows: the checksums of the zip, a digest of the weights, and
nothing unpickled but tensors and plain values.

torch.load does not look at the checksums that its own zip archives carry, and loads other weights where a bit
has flipped. Checkpoints of hepml also carry a digest of what they hold, which covers what a zip does not: a
file put together from two others.
"""

from __future__ import annotations

import argparse
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor

from hepml.data.reading.arrays import lists_all
from hepml.errors import FileError, ModelError

DIGEST = "hepml_digest"


def read_archive(path: Path, what: str) -> Any:
    """The content of a file that torch wrote, tensors on the CPU.

    Args:
        path: the file.
        what: what it should be, for messages, as `checkpoint`.

    Raises:
        FileError: no such file, not a file that torch wrote, damaged or truncated.
        ModelError: Python objects in it, which are not loaded.
    """
    if not path.is_file():
        raise FileError(f"no file {path}", mend=f"give the {what}")
    damaged = FileError(
        f"the {what} is damaged or truncated",
        where=str(path),
        mend="copy it again, or go back to another one",
    )
    try:
        _check_zip(path, damaged)
        # Training scripts leave their arguments beside the weights: plain values by name, which run nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileError:
        raise
    except pickle.UnpicklingError as problem:
        if "Unsupported global" in str(problem) or "Unsupported class" in str(problem):
            raise ModelError(
                f"the {what} holds Python objects beside weights, which are not loaded",
                where=str(path),
                mend="save model.state_dict() alone",
            ) from None
        raise _unreadable(path, what, problem) from None
    except MemoryError:
        raise damaged from None
    except OSError as problem:
        raise FileError(f"cannot read the {what} ({problem.strerror or problem})", where=str(path)) from None
    except Exception as problem:  # torch, zipfile, pickle and struct each have their own
        raise _unreadable(path, what, problem) from None
    if isinstance(content, dict) and DIGEST in content and content[DIGEST] != digest(content):
        raise damaged
    return content


def digest(content: Mapping[str, Any]) -> str:
    """A digest of the weights of a checkpoint and of what it says about the model."""
    h = xxhash.xxh3_128()
    state = content.get("state_dict", content)
    if isinstance(state, Mapping):
        for name in sorted(state, key=str):
            value = state[name]
            h.update(str(name).encode())
            if isinstance(value, Tensor):
                h.update(f"{value.dtype}{tuple(value.shape)}".encode())
                h.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
            elif name != DIGEST:
                h.update(repr(value).encode())
    h.update(json.dumps(content.get("hepml"), sort_keys=True, default=str).encode())
    return h.hexdigest()


def _check_zip(path: Path, damaged: FileError) -> None:
    """Every byte of the archive against its checksums; files that are no archive (torch before 1.6) have
    none."""
    with open(path, "rb") as stream:
        first = stream.read(4)
    if not first:
        raise damaged
    if not first.startswith(b"PK") and not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            held = sum(member.file_size for member in archive.infolist())
            whole = lists_all(archive, path)
            if not whole or held > path.stat().st_size or archive.testzip() is not None:
                raise damaged
    except FileError:
        raise
    except Exception:  # zipfile raises a dozen kinds on a broken archive
        raise damaged from None


def _unreadable(path: Path, what: str, problem: Exception) -> FileError:
    first = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:120]
    return FileError(
        f"not a {what}, or a damaged one ({first})", where=str(path), mend="give a file written by torch.save"
    )
