"""Chunks on disk: a killed run continues from them, and the final file is assembled from them in order.

A sidecar directory `FILE.root.parts/` beside the output holds one compressed numpy file a chunk and the
settings that they were made with. Every file is written under a temporary name and renamed, so a chunk is
either there and whole or not there.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hepml import outputs
from hepml.errors import FileError
from hepml.generation.chunk import Chunk

_COLUMN = "column:"


@dataclass(frozen=True)
class PartStore:
    """The sidecar directory of one output file."""

    folder: Path

    @classmethod
    def beside(cls, output: Path) -> PartStore:
        """The store that belongs to an output file."""
        return cls(output.with_name(output.name + ".parts"))

    def open(self, settings: dict[str, Any], resume: bool) -> None:
        """Makes the directory, or takes up the one that is there.

        Args:
            settings: everything that the chunks depend on.
            resume: keep chunks of an earlier, unfinished run; otherwise they are thrown away.

        Raises:
            FileError: the directory cannot be written, or its chunks were made with other settings.
        """
        record = self.folder / "settings.json"
        try:
            if self.folder.exists() and not resume:
                self.discard()
            if record.exists():
                before = json.loads(record.read_text())
                different = sorted(k for k in {*before, *settings} if before.get(k) != settings.get(k))
                if different:
                    raise FileError(
                        f"unfinished run with another {' and '.join(different)}",
                        where=str(self.folder),
                        mend="finish it with its own settings, or start anew with resume switched off",
                    )
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            outputs.write_bytes(record, json.dumps(settings, indent=1).encode())
        except OSError as error:
            raise FileError(
                f"cannot write here ({error.strerror or error})",
                where=str(self.folder),
                mend="choose another output",
            ) from error
        except json.JSONDecodeError as error:
            raise FileError(
                "unreadable settings of an unfinished run", where=str(record), mend="remove the directory"
            ) from error

    def path(self, process: str, number: int) -> Path:
        """File of one chunk."""
        return self.folder / f"{process}-{number:05d}.npz"

    def save(self, process: str, number: int, chunk: Chunk) -> None:
        """Writes a chunk, whole or not at all."""
        path = self.path(process, number)
        columns = {_COLUMN + name: values for name, values in (chunk.columns or {}).items()}
        try:
            with outputs.writing(path, wait=True) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(
                    stream,
                    allow_pickle=False,
                    slice_of=chunk.slice_of,
                    factor=chunk.factor,
                    draw=chunk.draw,
                    events=chunk.events,
                    cross_section=chunk.cross_section,
                    **columns,
                )
        except OSError as error:
            raise FileError(
                f"cannot save a chunk ({error.strerror or error})",
                where=str(path),
                mend="make room or choose another output; the run goes on from the chunks that are saved",
            ) from error

    def load(self, process: str, number: int) -> Chunk | None:
        """A saved chunk, or None where there is none or it cannot be read (it is then recomputed)."""
        path = self.path(process, number)
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                names = [name for name in stored.files if name.startswith(_COLUMN)]
                columns = {name.removeprefix(_COLUMN): stored[name] for name in names}
                others = ("slice_of", "factor", "draw", "events", "cross_section")
                return Chunk(columns or None, *(stored[name] for name in others))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)
            return None

    def discard(self) -> None:
        """Removes the directory and all in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
