"""Published jet files as our ROOT files in the JetClass branch layout, chunk by chunk in bounded memory.

Three formats are read: the HDF5 table of the top-tagging reference data set (arXiv:1902.09914), the npz files
of EnergyFlow's quark-gluon jets (arXiv:1810.05165), and our own npz. `convert_formats` reads them, this file
turns momenta into branches and writes. Of the top-tagging table only constituents and the label are read:
`truthE`, `truthPX`, `truthPY`, `truthPZ` tell the class and must never become inputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from hepml import outputs
from hepml.data.public.convert_formats import Piece, Source, open_source
from hepml.data.public.jetclass_tree import make_tree
from hepml.data.reading.remote import local_copy
from hepml.errors import ConfigError, DataError, FileError

_CHUNK = 10_000


def convert(
    files: Sequence[Path | str],
    output: Path | str,
    *,
    classes: Sequence[str] | None = None,
    max_jets: int | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
    chunk: int = _CHUNK,
) -> dict[str, Any]:
    """Writes the jets of some files as one ROOT tree, whole or not at all.

    Constituents are ordered by pT and those without energy (padding) are left out; `part_deta` has JetClass's
    sign.

    Args:
        files: of one format.
        output: a `.root` file.
        classes: names of the labels 0, 1, …; those of the format where left out.
        max_jets: the first so many only.
        tell: called with jets written and jets in all.
        chunk: jets at a time.

    Returns:
        {"output", "jets", "constituents", "empty", "classes": {name: jets}, "files": {path: jets},
        "unknown_ids", "dropped": {reason: constituents}}.

    Raises:
        FileError: a file that cannot be read, or the output that cannot be written; nothing is left under its
            name then.
        ConfigError: files of different formats, or too few class names.
        DataError: NaN momenta, labels that have no name.
    """
    output = Path(output)
    if output.suffix != ".root":
        raise ConfigError(
            f"'{output.name}' does not end in .root", where="--output", mend="name a .root file"
        )
    files = [local_copy(str(file)) if "://" in str(file) else file for file in files]
    outputs.refuse_inputs(output, files)
    sources = [open_source(Path(file)) for file in files]
    if not sources:
        raise ConfigError(
            "no file to convert", where="command line", mend="hepml convert train.h5 -o train.root"
        )
    if len({source.kind for source in sources}) > 1:
        kinds = ", ".join(f"{s.path.name}: {s.kind}" for s in sources[:4])
        raise ConfigError(
            f"files of different formats ({kinds})",
            where="command line",
            mend="convert them one format at a time",
        )
    names = _class_names(sources, classes)
    total = sum(source.jets for source in sources)
    total = total if max_jets is None else min(total, max_jets)
    report: dict[str, Any] = {
        "output": str(output),
        "jets": 0,
        "constituents": 0,
        "empty": 0,
        "unknown_ids": 0,
        "dropped": {},
        "classes": dict.fromkeys(names, 0),
        "files": {},
    }
    _write(output, _branches(sources, names, chunk, total, report, tell), report)
    return report


def _branches(
    sources: Sequence[Source],
    names: Sequence[str],
    chunk: int,
    total: int,
    report: dict[str, Any],
    tell: Callable[[int, int], None],
) -> Iterator[dict[str, Any]]:
    """The branches of one chunk after the other; counts go to the report."""
    for source in sources:
        written = 0
        for piece in source.pieces(chunk):
            left = total - report["jets"]
            if left <= 0:
                break
            piece = piece.head(left)
            _check(piece, source.path, written, names)
            yield _columns(piece, names)
            counts = np.diff(piece.offsets)
            written += len(counts)
            report["jets"] += len(counts)
            report["constituents"] += int(counts.sum())
            report["empty"] += int((counts == 0).sum())
            report["unknown_ids"] += piece.unknown_ids
            for reason, number in piece.dropped.items():
                report["dropped"][reason] = report["dropped"].get(reason, 0) + number
            for k, name in enumerate(names):
                report["classes"][name] += int((piece.labels == k).sum())
            tell(report["jets"], total)
        report["files"][str(source.path)] = written
    if report["jets"] != total:
        raise DataError(
            f"{report['jets']} jets came of {total} that the files announce",
            mend="a file is truncated: copy it again",
        )


def _columns(piece: Piece, names: Sequence[str]) -> dict[str, Any]:
    counts = np.diff(piece.offsets)
    jet_of = np.repeat(np.arange(len(counts)), counts)
    p = piece.four_momenta
    jet = np.stack([np.bincount(jet_of, p[:, i], minlength=len(counts)) for i in range(4)], axis=1)
    eta, jet_eta = _eta(p), _eta(jet)
    phi, jet_phi = np.arctan2(p[:, 2], p[:, 1]), np.arctan2(jet[:, 2], jet[:, 1])
    side = np.where(jet_eta < 0, -1.0, 1.0)
    parts = {
        "px": p[:, 1],
        "py": p[:, 2],
        "pz": p[:, 3],
        "energy": p[:, 0],
        "deta": (eta - jet_eta[jet_of]) * side[jet_of],
        "dphi": (phi - jet_phi[jet_of] + np.pi) % (2 * np.pi) - np.pi,
        **piece.columns,
    }
    kept = {
        name: values if values.dtype == bool else values.astype(np.float32) for name, values in parts.items()
    }
    jets = {
        "jet_pt": np.hypot(jet[:, 1], jet[:, 2]),
        "jet_eta": jet_eta,
        "jet_phi": jet_phi,
        "jet_energy": jet[:, 0],
        "jet_nparticles": counts,
        **{f"label_{name}": piece.labels == k for k, name in enumerate(names)},
        **({} if piece.weights is None else {"weight": piece.weights}),
    }
    part = ak.zip({name: ak.unflatten(values, counts) for name, values in kept.items()})
    return {"part": part, **{name: np.asarray(values, dtype=np.float32) for name, values in jets.items()}}


def _write(path: Path, chunks: Iterator[dict[str, Any]], report: dict[str, Any]) -> None:
    import uproot

    try:
        with (
            outputs.writing(path) as temporary,
            uproot.recreate(temporary, compression=uproot.ZSTD(5)) as file,
        ):
            tree = None
            for branches in chunks:
                if tree is None:
                    tree = make_tree(file, branches)
                tree.extend(branches)
            if tree is None:
                raise DataError("the files have no jets", mend="give files with some")
            file["hepml_conversion"] = json.dumps(report)
    except OSError as problem:
        raise FileError(
            f"cannot write the jets ({problem.strerror or problem})",
            where=str(path),
            mend="make room, or another --output",
        ) from problem


def _check(piece: Piece, path: Path, first: int, names: Sequence[str]) -> None:
    finite = np.isfinite(piece.four_momenta).all(axis=1)
    if not finite.all():
        jet = first + int(np.searchsorted(piece.offsets, int(np.argmin(finite)), side="right")) - 1
        raise DataError(
            "NaN or infinite momenta", where=f"{path}, jet {jet}", mend="this file is damaged: fetch it again"
        )
    if len(piece.labels) and not (piece.labels.min() >= 0 and piece.labels.max() < len(names)):
        raise DataError(
            f"label {int(piece.labels.max())} has no name among {', '.join(names)}",
            where=str(path),
            mend="give --classes",
        )


def _class_names(sources: Sequence[Source], asked: Sequence[str] | None) -> tuple[str, ...]:
    needed = max(len(source.classes) for source in sources)
    if asked is not None:
        if len(asked) < needed or len(set(asked)) < len(asked):
            raise ConfigError(
                f"{len(asked)} class names for {needed} classes",
                where="--classes",
                mend="one name a class, in label order",
            )
        return tuple(asked)
    named = {source.classes for source in sources}
    if len(named) > 1 and len({classes[: min(map(len, named))] for classes in named}) > 1:
        raise ConfigError(
            "the files name their classes differently", where=str(sources[1].path), mend="give --classes"
        )
    return max(named, key=len)


def _eta(p: np.ndarray) -> np.ndarray:
    """Pseudorapidity of [N, 4] momenta; 0 without transverse momentum."""
    pt = np.hypot(p[:, 1], p[:, 2])
    out: np.ndarray = np.arcsinh(np.divide(p[:, 3], pt, out=np.zeros(len(p)), where=pt > 0))
    return out
