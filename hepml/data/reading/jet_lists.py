"""Lists a jet by name, of any number of collections and without four-momenta: what an experiment's own tagger
reads of a file.

Everything else in hepml reads jets as constituents with momenta; an official network has its columns made
already, candidates in some and secondary vertices in others. A layout maps names to branches where a file
calls them otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hepml.data.reading.columns import columns_of, mapping_of, text_of
from hepml.data.reading.layouts import Column, Layout, load_mapping
from hepml.data.reading.scanning import is_number
from hepml.data.reading.sources import Files, Source, expand, open_root, open_tree, refusing_damage
from hepml.data.reading.tree_reader import TreeReader, branches_of
from hepml.errors import ConfigError, DataError, FileError, LayoutError, did_you_mean, nearest

STEP = 20_000
_WITHOUT_LISTS = (".npz", ".h5", ".hdf5", ".hdf")
_KEYS = (
    "name", "tree", "columns", "labels", "label_prefix", "weight", "unlabelled",
    "constituents", "jet", "label", "classes",
)  # fmt: skip


@dataclass(frozen=True)
class Lists:
    """Some jets of one file.

    Args:
        columns: flat content and offsets [B + 1], by name.
        jets: one number a jet, by name.
        labels: [B] index of the class, -1 for none; None where the file has no labels.
        weights: [B] or None.
        entries: [B] of the file.
        file: where they come from.
    """

    columns: dict[str, tuple[np.ndarray, np.ndarray]]
    jets: dict[str, np.ndarray]
    labels: np.ndarray | None
    weights: np.ndarray | None
    entries: np.ndarray
    file: str

    def __len__(self) -> int:
        return len(self.entries)


class JetLists:
    """Files of jets, one an entry, read by column name.

    Args:
        files: paths, globs, folders.
        layout: `{tree, columns: {NAME: branch or column}, labels: {CLASS: branch}, weight}`, as a mapping or
            a YAML file; names are branches where left out.
    """

    def __init__(self, files: Files | Sequence[Source], layout: Any = None) -> None:
        self.sources = expand(files)
        mapping = _mapping(layout)
        self.tree = text_of(mapping.get("tree"), "layout.tree")
        self.map = columns_of(mapping.get("columns"), "layout.columns")
        self.label_branches = {
            k: str(v) for k, v in mapping_of(mapping.get("labels"), "layout.labels").items()
        }
        self.weight = text_of(mapping.get("weight"), "layout.weight")
        self.drops = mapping.get("unlabelled") == "drop"
        self.entries = 0

    def check(self, needed: Sequence[str], reader: str) -> JetLists:
        """Itself, with the number of entries.

        Raises:
            LayoutError: columns that a file lacks; names all of them.
            DataError: no entries.
        """
        self.entries = 0
        for source in self.sources:
            _, branches, entries = self._open(source)
            absent = [n for n in needed if (b := self._column(n).branch) is not None and b not in branches]
            if absent:
                close = nearest(absent[0], branches)
                raise LayoutError(
                    f"the file lacks {len(absent)} of the {len(needed)} columns that "
                    f"{Path(reader).name} reads: {', '.join(absent)}",
                    where=str(source),
                    mend=(f"nearest to the first: {', '.join(close)}; " if close else "")
                    + "map them with --layout FILE.yaml (columns: {NAME: BRANCH}; docs/export.md)",
                )
            plain = [n for n in needed if (b := self._column(n).branch) and is_number(branches[b])]
            if plain:
                raise LayoutError(
                    f"'{plain[0]}' is one number a jet, where a list is wanted",
                    where=str(source),
                    mend="map a branch of lists",
                )
            self.entries += entries
        if not self.entries:
            raise DataError("no jets: no entries", where=str(self.sources[0]), mend="give a file with jets")
        return self

    def chunks(
        self,
        needed: Sequence[str],
        classes: Mapping[str, str],
        jet_columns: Sequence[str] | str | None = None,
    ) -> Iterator[Lists]:
        """Jets in pieces, in file order.

        Args:
            needed: columns of lists.
            classes: class name -> the one-hot branch it is expected in, unless the layout names another.
            jet_columns: numbers a jet to carry along; "all" for those that every file has.
        """
        wanted = self._jet_columns(jet_columns)
        for source in self.sources:
            tree, branches, entries = self._open(source)
            where = f"{source}:{self.tree}" if self.tree else str(source)
            one_hot = {
                name: branch
                for name, expected in classes.items()
                if (branch := self.label_branches.get(name, expected)) in branches
            }
            lists = {n: self._column(n) for n in needed}
            read = [c.branch for c in lists.values() if c.branch is not None]
            numbers = list(
                dict.fromkeys([*wanted, *one_hot.values(), *([self.weight] if self.weight else [])])
            )
            for name in numbers:
                if name not in branches:
                    raise LayoutError(
                        f"branch '{name}' not found", where=where, mend=did_you_mean(name, branches)
                    )
            reader = TreeReader(tree, where, None if source.is_remote else source.path)
            for low, high in reader.steps(read, 0, entries, STEP):
                with refusing_damage(where):
                    flat = reader.read(list(dict.fromkeys([*read, *numbers])), low, high)
                yield Lists(
                    _lists(lists, flat, where),
                    {name: flat[name].content for name in wanted},
                    _labels(one_hot, list(classes), flat, high - low),
                    flat[self.weight].content if self.weight else None,
                    np.arange(low, high),
                    str(source),
                )

    def numbers(self) -> list[str]:
        """Numbers a jet that every file has, in the first file's order."""
        tables = [self._open(source)[1] for source in self.sources]
        return [
            name
            for name, kind in tables[0].items()
            if is_number(kind) and all(is_number(t.get(name, "")) for t in tables)
        ]

    def _column(self, name: str) -> Column:
        return self.map.get(name) or Column(branch=name)

    def _open(self, source: Source) -> tuple[Any, Mapping[str, str], int]:
        if source.suffix in _WITHOUT_LISTS:
            raise FileError(
                f"a {source.suffix} file of jets has four-momenta, and not the columns by name that an "
                "experiment's own network reads",
                where=str(source),
                mend="give a ROOT, Parquet or Arrow file with its columns (docs/export.md)",
            )
        directory = open_root(source)
        with refusing_damage(str(source)):
            tree = open_tree(directory, source, self.tree)[1]
            return tree, branches_of(tree), int(tree.num_entries)

    def _jet_columns(self, asked: Sequence[str] | str | None) -> list[str]:
        return self.numbers() if asked == "all" else list(asked or ())


def _mapping(layout: Any) -> Mapping[str, Any]:
    if layout is None:
        return {}
    if isinstance(layout, str | Path):
        layout = load_mapping(layout)
    if isinstance(layout, Layout):
        return {
            "tree": layout.tree, "columns": layout.columns, "labels": layout.labels, "weight": layout.weight,
            "unlabelled": layout.unlabelled,
        }  # fmt: skip
    if not isinstance(layout, Mapping):
        raise ConfigError("a layout of columns is a mapping or a YAML file", mend="docs/export.md")
    for key in layout:
        if key not in _KEYS:
            raise ConfigError(f"unknown key '{key}'", where="layout", mend=did_you_mean(str(key), _KEYS))
    return layout


def _lists(
    columns: Mapping[str, Column], flat: Mapping[str, Any], where: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    lists = {}
    for name, column in columns.items():
        if column.branch is None:
            continue
        content, offsets = flat[column.branch]
        if offsets is None:
            raise LayoutError(f"'{column.branch}' is one number a jet, where a list is wanted", where=where)
        lists[name] = (column(content), offsets)
    for name, column in columns.items():
        if column.branch is not None:
            continue
        # a constant stands for each constituent of the collection whose name begins alike
        beside = max(lists, key=lambda other: _alike(name, other), default=None)
        if beside is None:
            raise LayoutError(f"'{name}' is a constant, and no list tells of what", where=where)
        offsets = lists[beside][1]
        lists[name] = (np.full(int(offsets[-1]), column.constant, np.float32), offsets)
    return lists


def _alike(one: str, other: str) -> int:
    """Letters that two names begin with in common."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _labels(
    one_hot: Mapping[str, str], classes: Sequence[str], flat: Mapping[str, Any], jets: int
) -> np.ndarray | None:
    if not one_hot:
        return None
    labels = np.full(jets, -1)
    for name, branch in one_hot.items():
        labels[flat[branch].content > 0] = classes.index(name)
    return labels
