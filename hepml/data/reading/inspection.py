"""What a file holds: trees and branches, the layout that fits, jets of each class, the main distributions,
and what is wrong with it.

The backend of `hepml inspect`. A file whose layout is not known is no error here: the answer says so, and
which branches look like constituents. A file that cannot be opened at all is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hepml.data.formats.event_files import collections_of
from hepml.data.formats.event_scan import Census
from hepml.data.formats.opening import HDF5
from hepml.data.packing import jet_matrix
from hepml.data.reading.chunk import Chunk
from hepml.data.reading.inspected import BINS, Column, Inspection, Tree
from hepml.data.reading.npz import scan_npz
from hepml.data.reading.ranges import Range, ranges_of
from hepml.data.reading.reader import LayoutLike, Scan, iterate_chunks, scan
from hepml.data.reading.report import DataReport
from hepml.data.reading.scanning import FileScan
from hepml.data.reading.sources import Source, expand, open_root, trees_of
from hepml.data.reading.tree_reader import branches_of
from hepml.data.sampling.asked import Asked, layout_in
from hepml.data.sampling.group_weights import GroupWeights
from hepml.data.sampling.leaks import leaks, of_constituents, strongest
from hepml.data.sampling.reweighting import Reweighting
from hepml.data.sampling.samples import SampleMap
from hepml.errors import DataError, FileError, HepmlError
from hepml.redaction import redact

# Jet columns that are shown where they are known, in this order; the first ones follow from the constituents
# in any file.
MAIN = ("jet_pt", "jet_eta", "jet_phi", "jet_mass", "jet_nparticles")
FURTHER = ("jet_sdmass", "jet_tau1", "jet_tau2", "jet_tau3", "jet_tau4", "weight", "aux_pthat")

__all__ = ["Column", "Inspection", "Tree", "inspect", "inspect_together"]
LEAKS_IN = 20_000  # entries in which columns are compared with the classes


def inspect(
    file: str | os.PathLike[str],
    layout: LayoutLike = None,
    jets: str | None = None,
) -> Inspection:
    """What one file holds.

    Args:
        file: a ROOT file (`file.root:tree` for one tree of several) or an npz file.
        layout: name, mapping, YAML file or `Layout`; recognised where left out.
        jets: the jet collection of an event file whose distributions are shown.

    Raises:
        FileError: missing, unreadable, or more than one file.
        ConfigError, LayoutError: a layout that is wrong in itself.

    Examples:
        >>> hepml.data.inspect('data/toptag/val.root').layout
        'jetclass'
    """
    sources = expand(os.fspath(file))
    if len(sources) != 1:
        raise FileError(f"{len(sources)} files match", where=os.fspath(file), mend="use inspect_together")
    return _one(os.fspath(file), sources[0], layout, jets)


def inspect_together(
    files: Sequence[str | os.PathLike[str]],
    layout: LayoutLike = None,
    jets: str | None = None,
) -> Inspection:
    """What several files (paths, globs, folders) hold together; of a single one, what `inspect` says.

    A file that cannot be read as jets is named among `files` and `problems`; the others are counted.

    Raises:
        FileError: there is no such file.
        ConfigError, LayoutError: a layout that is wrong in itself.

    Examples:
        >>> hepml.data.inspect_together(['data/toptag/val.root', 'data/toptag/test.root']).jets
        4500
    """
    names = [os.fspath(file) for file in files]
    sources = expand(names)
    if len(sources) == 1:
        return _one(names[0] if len(names) == 1 else str(sources[0]), sources[0], layout, jets)
    asked, layout = Asked.of(layout), layout_in(layout)
    scanned = scan(sources, layout, jets)
    lines = tuple(
        {
            "file": str(item.source),
            "layout": _layout_name(item),
            "tree": item.tree,
            "entries": item.entries,
            "problem": None if item.problem is None else str(item.problem),
        }
        for item in scanned.files
    )
    layouts = {str(line["layout"]): None for line in lines if line["layout"]}
    start = Inspection(
        redact(f"{' '.join(names)} ({len(sources)} files)"),
        sum(os.path.getsize(s.path) for s in sources if not s.is_remote),
        {},
        layout=", ".join(layouts) or None,
        files=lines,
        problems=tuple(str(problem) for problem in scanned.problems),
    )
    readable = Scan(tuple(f for f in scanned.files if f.problem is None and f.entries))
    if not readable.files:
        return _with(start, jets=0 if layouts else None)
    shown = _distributions(readable, asked)
    if readable.files[0].events is None:
        start = _with(start, collections=(shown["collection"],))
    shown.pop("collection")
    return _with(start, **{**shown, "problems": (*start.problems, *shown["problems"])})


def _one(
    file: str,
    source: Source,
    layout: LayoutLike,
    jets: str | None,
) -> Inspection:
    """What one file holds, whose name is shown as it was given."""
    asked, layout = Asked.of(layout), layout_in(layout)
    size = None if source.is_remote else os.path.getsize(source.path)
    collections: tuple[Census, ...] = ()
    if source.suffix in HDF5 or source.is_npz:
        scanned = scan([source], layout, jets)
        flat = scanned.files[0].flat
        if scanned.files[0].problem is not None and source.suffix in HDF5:
            return Inspection(redact(file), size, {}, problems=(str(scanned.files[0].problem),))
    else:
        flat = None
    if flat is not None:
        trees = {flat.name: Tree("HDF5" if source.suffix in HDF5 else "npz", flat.jets, flat.kinds)}
    elif source.is_npz:
        entries, _, keys = scan_npz(source)
        trees = {"npz": Tree("npz", entries, keys)}
        scanned = scan([source], layout, jets)
    else:
        with open_root(source) as directory:
            trees = {
                name: Tree(kind, int((tree := directory[name]).num_entries), branches_of(tree))
                for name, kind in trees_of(directory, str(source)).items()
            }
            scanned = scan([source], layout, jets, directory)
            collections = collections_of(directory, source, scanned.files[0].tree, scanned.files[0].layout)
    item = scanned.files[0]
    if item.problem is not None and item.tree is None and source.tree is not None:
        raise item.problem  # a tree that was named is never replaced by another
    start = Inspection(redact(file), size, trees, item.tree)
    if item.problem is not None:
        if collections:  # an event file whose collection of choice cannot be read: say what there is
            return _with(start, problems=(str(item.problem),), collections=collections)
        hints = _hints(trees[item.tree].branches) if item.tree in trees else ()
        return _with(start, problems=(str(item.problem),), hints=hints)
    if item.events is not None:
        start = _with(
            start, collections=collections, units="MeV" if item.events.chosen.jets.unit != 1 else "GeV"
        )
    else:
        start = _with(start, units="GeV" if flat is None else flat.unit)
    known = _layout_name(item)
    if not item.entries:
        return _with(start, layout=known, jets=0, problems=("the tree has no entries",))
    shown = _distributions(scanned, asked)
    if item.events is None:
        start = _with(start, collections=(shown.pop("collection"),))
    else:
        shown.pop("collection")
    return _with(start, layout=known, **shown)


def _with(start: Inspection, **changes: Any) -> Inspection:
    return replace(start, **changes)


def _layout_name(item: FileScan) -> str | None:
    if item.events is not None:
        return item.events.name
    if item.flat is not None:
        return item.flat.name
    if item.problem is None and item.source.is_npz:
        return "npz"
    return item.layout.name if item.layout else None


def _distributions(scanned: Scan, how: Asked) -> dict[str, Any]:
    """Counts, ranges and histograms of all files, read chunk by chunk, with the classes of the samples that
    they belong to; columns of a reweighting before and after it."""
    report, reweighting = DataReport(), how.reweighting
    samples, told = how.map_of(scanned)
    names = scanned.classes if samples is None else samples.scanned(scanned).classes
    at_hand = [set(item.branches if item.events is None else item.events.columns) for item in scanned.files]
    common = set.intersection(*at_hand)
    asked = () if reweighting is None else tuple(reweighting.columns)
    wanted = [*MAIN, *(name for name in FURTHER if name in common)]
    wanted += [name for name in asked if name not in wanted]
    events = any(item.events is not None for item in scanned.files)
    read = [n for n in wanted if n in common] if events else list(wanted)
    read += [] if samples is None else [n for n in samples.columns(scanned) if n not in read]
    rows: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    constituents: tuple[str, ...] = ()
    ranges: dict[str, Range] = {}
    problems, weights = list(told), list[np.ndarray]()
    labelled = False
    census = Census("jets")
    try:
        for chunk in iterate_chunks(
            [item.source for item in scanned.files],
            jet_columns=read,
            bad="keep",
            report=report,
            scanned=scanned,
            weights=how.weights,
        ):
            chunk = chunk if samples is None else samples(chunk)
            constituents = tuple(chunk.constituents)
            ranges = ranges or ranges_of(chunk.constituents)
            census.jets += len(chunk)
            census.constituents += int(chunk.offsets[-1])
            census.most = max(census.most, int(chunk.counts.max(initial=0)))
            rows.append(jet_matrix(chunk, wanted))
            labels.append(np.full(len(chunk), -1) if chunk.labels is None else chunk.labels)
            weights.append(
                chunk.weights
                if how.weights and chunk.weights is not None
                else np.ones(len(chunk), dtype=np.float32)
            )
            labelled = labelled or chunk.labels is not None
    except HepmlError as problem:
        problems.append(str(problem))
    problems += [f"{reason}: {bad} jets" for reason, bad in report.bad.items()]
    problems += report.doubts()
    if report.without_constituents:
        problems.append(f"{report.without_constituents} jets without constituents")
    values = np.concatenate(rows) if rows else np.zeros((0, len(wanted)), dtype=np.float32)
    label = np.concatenate(labels) if labelled else None
    classes: dict[str, int] = {}
    if label is not None:
        counted = np.bincount(label[label >= 0], minlength=len(names))
        many = len(names) > 20
        classes = {n: int(c) for n, c in zip(names, counted, strict=False) if c or not many}
        if (label < 0).any():
            problems.append(f"{int((label < 0).sum())} jets whose labels do not sum to 1")
        if len([c for c in classes.values() if c]) == 1:
            problems.append("jets of one class only: enough to score, not to train a classifier")
    columns = {n: _column(values[:, i], label, classes, names) for i, n in enumerate(wanted) if len(values)}
    if reweighting is not None and label is not None and len(values):
        at, own = {name: values[:, i] for i, name in enumerate(wanted)}, np.concatenate(weights)
        try:
            after = own * reweighting.factors({n: at[n] for n in asked}, label, names, own)
            for n in reweighting.edges if isinstance(reweighting, GroupWeights) else asked:
                columns = {**columns, f"{n}, reweighted": _column(at[n], label, classes, names, after)}
        except DataError as problem:
            absent = isinstance(reweighting, Reweighting) and not classes.get(reweighting.to, 1)
            problems.append(f"{problem}: name its files too" if absent else str(problem))
    return {
        "leaks": _leaks(scanned, samples) if len([c for c in classes.values() if c]) > 1 else (),
        "jets": census.jets if events else scanned.entries,
        "collection": census,
        "classes": classes,
        "columns": columns,
        "constituents": constituents,
        "ranges": ranges,
        "problems": tuple(problems),
    }


def _leaks(scanned: Scan, samples: SampleMap | None) -> tuple[dict[str, Any], ...]:
    """Jet columns, and the constituents' own, of the first jets (of each file, where samples have the
    classes) that alone tell a class; the labels themselves are left out."""
    files = scanned.files[:1] if samples is None else scanned.files
    names = [n for n in files[0].jet_columns if all(n in f.jet_columns for f in files)]
    for item in files:
        own: set[str] = set()
        if item.layout is not None:
            own = {*item.layout.label_branches(item.branches).values(), str(item.layout.label)}
        if item.flat is not None:
            own.add(str(item.flat.label))
        if item.events is not None:
            cuts = (*item.events.chosen.jets.labels.values(), *item.events.layout.cuts.values())
            words = {word for cut in cuts for word in re.findall(r"[A-Za-z_]\w*", cut)}
            own |= {n for n in item.jet_columns if n in words or re.split(r"[_.:]", n)[-1] in words}
        names = [n for n in names if n not in own]
    rows = _told(scanned, files, samples, names, lambda chunk: {n: chunk.jets[n] for n in names}, LEAKS_IN)
    rows += strongest(_told(scanned, files, samples, [], of_constituents, LEAKS_IN // 5, None))
    return tuple(rows)


def _told(
    scanned: Scan,
    files: Sequence[FileScan],
    samples: SampleMap | None,
    names: Sequence[str],
    columns_of: Callable[[Chunk], dict[str, np.ndarray]],
    entries: int,
    constituents: Sequence[str] | None = (),
) -> list[dict[str, Any]]:
    """Which of the columns that `columns_of` takes of each chunk alone tell a class, by so many entries.

    Args:
        names: jet columns to read.
        constituents: constituent columns to read; None for all.
    """
    columns: dict[str, list[np.ndarray]] = {}
    labels, most = [], entries // len(files) + 1
    wanted = names if samples is None else list(dict.fromkeys([*names, *samples.columns(scanned)]))
    try:
        for item in (f for f in files if f.entries):
            for chunk in iterate_chunks(
                [item.source], item.layout, columns=constituents, jet_columns=wanted, bad="keep",
                scanned=replace(scanned, files=(item,)), entry_stop=min(item.entries, most),
                collections="all" if constituents is None else None,
            ):  # fmt: skip
                chunk = chunk if samples is None else samples(chunk)
                for n, values in columns_of(chunk).items():
                    columns.setdefault(n, []).append(values)
                labels.append(chunk.labels if chunk.labels is not None else np.full(len(chunk), -1))
    except HepmlError:  # what cannot be read is said elsewhere
        return []
    if not labels:
        return []
    joined = {n: np.concatenate(c) for n, c in columns.items() if len(c) == len(labels)}
    classes = scanned.classes if samples is None else samples.classes or scanned.classes
    return leaks({n: c for n, c in joined.items() if c.ndim == 1}, np.concatenate(labels), classes)


def _column(
    values: np.ndarray,
    label: np.ndarray | None,
    classes: Mapping[str, int],
    names: tuple[str, ...],
    weights: np.ndarray | None = None,
) -> Column:
    finite = np.isfinite(values)
    good = values[finite].astype(np.float64)
    low, high = (float(good.min()), float(good.max())) if len(good) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    whole = len(good) > 0 and high - low > BINS and bool((good == np.rint(good)).all())
    # Long tails would squeeze everything into one bin; the outermost permille goes into the outer bins.
    if len(good) > 1000:
        inner = np.quantile(good, [0.001, 0.999])
        if inner[1] > inner[0]:
            edges = np.linspace(inner[0], inner[1], BINS + 1)
    if whole:  # counts: bins of equal numbers of integers, or they would form a comb
        width = np.ceil((edges[-1] - edges[0] + 1) / BINS)
        edges = np.floor(edges[0]) - 0.5 + width * np.arange(BINS + 1)
    clipped = np.clip(values, edges[0], edges[-1])
    if label is None:
        histograms = {"jets": np.histogram(clipped[finite], edges)[0]}
    else:
        at = {name: i for i, name in enumerate(names)}
        histograms = {
            name: np.histogram(
                clipped[(own := finite & (label == at[name]))],
                edges,
                weights=None if weights is None else weights[own],
            )[0]
            for name, n in classes.items()
            if n
        }
    return Column(low, float(good.mean()) if len(good) else 0.0, high, edges, histograms)


def _hints(branches: Mapping[str, str]) -> tuple[str, ...]:
    """Groups of list branches that look like constituents, and the lines that would map them."""
    groups: dict[str, list[str]] = {}
    for name, kind in branches.items():
        if ("[" in kind or "vector<" in kind) and ("_" in name or "." in name):
            at = max(name.rfind("_"), name.rfind("."))
            groups.setdefault(name[: at + 1], []).append(name[at + 1 :])
    scored = []
    for prefix, names in groups.items():
        lower = {n.lower(): n for n in names}
        momentum = [
            lower[n] for n in ("px", "py", "pz", "e", "energy", "pt", "eta", "phi", "mass") if n in lower
        ]
        if "pt" in lower or "px" in lower:
            scored.append((-len(momentum), prefix, momentum, len(names)))
    lines = [
        f"{prefix}*: {count} list branches, with momenta {', '.join(f'{prefix}{n}' for n in momentum)}"
        for _, prefix, momentum, count in sorted(scored)[:8]
    ]
    if lines:
        lines.insert(
            0,
            "lists that may be constituents (one jet an entry; docs/data-layouts.md shows how to map them):",
        )
    return tuple(lines)
