"""Writes jets as a ROOT TTree in the JetClass branch layout, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from hepml import outputs
from hepml.data.public.jetclass_tree import make_tree
from hepml.errors import FileError
from hepml.generation.columns import Columns, jets_in, take

RECORD = "hepml_generation"
_STEP = 20_000


def write_jets(path: Path, columns: Columns, record: dict[str, Any]) -> None:
    """Writes `tree` and, beside it, how it was made as a JSON string named `hepml_generation`.

    Args:
        path: final name; a temporary file beside it is renamed to it at the end.
        columns: branches by name, constituents packed, `npart` counting them.
        record: settings, versions, seed, cross-sections.

    Raises:
        FileError: the file cannot be written; nothing is left under its final name.
    """
    import uproot

    try:
        with (
            outputs.writing(path) as temporary,
            uproot.recreate(temporary, compression=uproot.ZSTD(5)) as file,
        ):
            tree = make_tree(file, _tree(columns))
            for start in range(0, jets_in(columns), _STEP):
                stop = min(start + _STEP, jets_in(columns))
                tree.extend(_tree(take(columns, np.arange(start, stop))))
            file[RECORD] = json.dumps(record)
    except OSError as error:
        raise FileError(
            f"cannot write the jets ({error.strerror or error})",
            where=str(path),
            mend="make room or choose another output; the chunks are saved, so the same command only "
            "has to write",
        ) from error


def _tree(columns: Columns) -> dict[str, Any]:
    count = columns["npart"]
    fields = {
        name.removeprefix("part_"): ak.unflatten(a, count)
        for name, a in columns.items()
        if name.startswith("part_")
    }
    jets = {name: a for name, a in columns.items() if not name.startswith("part_") and name != "npart"}
    return {"part": ak.zip(fields), **jets}
