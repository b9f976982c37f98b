"""Parquet and Arrow files as trees: one row an entry, lists as branches of lists, records as sub-branches.

They answer as uproot's trees do, so that every layout that reads a TTree reads the same columns here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import awkward as ak
import numpy as np

from hepml.data.reading.links import starts_of
from hepml.errors import DataError, FileError, HepmlError

SUFFIXES = (".parquet", ".arrow", ".feather")
TREE = "table"


class ArrowFile:
    """One file, in the place of an opened ROOT file.

    Raises:
        FileError: not a Parquet or Arrow file, or damaged.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.kind = "Parquet" if path.endswith(".parquet") else "Arrow"
        self.table = {TREE: self.kind}
        try:
            self._tree = ArrowTree(path)
        except HepmlError:
            raise
        except Exception as problem:
            message = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
            raise FileError(
                f"the {self.kind} file cannot be read ({message[:120]})", where=path, mend="copy it again"
            ) from problem

    def __getitem__(self, name: str) -> ArrowTree:
        if name != TREE:
            raise KeyError(name)
        return self._tree

    def __enter__(self) -> ArrowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to do: files are opened for each read."""


class ArrowTree:
    """The table of a file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._is_parquet = path.endswith(".parquet")
        if self._is_parquet:
            import pyarrow.parquet as parquet

            with parquet.ParquetFile(path, page_checksum_verification=True) as file:
                self.schema = file.schema_arrow
                rows = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            self._edges = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
            self.num_entries = int(self._edges[-1])
        else:
            table = self._arrow_table()
            self.schema, self.num_entries = table.schema, int(table.num_rows)
        twice = [n for n in dict.fromkeys(self.schema.names) if self.schema.names.count(n) > 1]
        if twice:
            raise DataError(f"several columns '{twice[0]}'", where=path, mend="give each a name of its own")
        self._hepml_kinds = dict(_kinds(self.schema))

    def __getitem__(self, name: str) -> _Column:
        if name not in self._hepml_kinds:
            raise KeyError(name)
        return _Column(self, name, self._hepml_kinds[name])

    def keys(self) -> list[str]:
        """Names of columns and sub-columns."""
        return list(self._hepml_kinds)

    def arrays(
        self,
        filter_name: Callable[[str], bool] | None = None,
        entry_start: int = 0,
        entry_stop: int | None = None,
        library: str = "ak",
    ) -> dict[str, ak.Array]:
        """Columns of the rows entry_start:entry_stop."""
        names = [n for n in self.keys() if filter_name is None or filter_name(n)]
        return self.read(names, entry_start, self.num_entries if entry_stop is None else entry_stop)

    def read(self, names: list[str], start: int, stop: int) -> dict[str, ak.Array]:
        """These columns of the rows start:stop.

        Raises:
            DataError: missing values.
        """
        tops = {name: self._top(name) for name in names}
        table = self._table(list(dict.fromkeys(tops.values())), start, stop)
        out = {}
        whole: dict[str, ak.Array] = {}
        for name, top in tops.items():
            if top not in whole:
                whole[top] = ak.Array(_layout(table.column(top).combine_chunks(), top, self.path))
            array = whole[top]
            for part in name[len(top) + 1 :].split(".") if name != top else ():
                array = array[part]
            out[name] = array
        return out

    def _top(self, name: str) -> str:
        """The column that a sub-column is part of."""
        known = set(self.schema.names)
        while name not in known:
            name = name.rpartition(".")[0]
        return name

    def _table(self, columns: list[str], start: int, stop: int) -> Any:
        if not self._is_parquet:
            return self._arrow_table().select(columns).slice(start, stop - start)
        import pyarrow.parquet as parquet

        first = int(np.searchsorted(self._edges, start, side="right")) - 1
        last = int(np.searchsorted(self._edges, stop, side="left"))
        with parquet.ParquetFile(self.path, page_checksum_verification=True) as file:
            table = file.read_row_groups(list(range(max(first, 0), last)), columns=columns)
        return table.slice(start - int(self._edges[max(first, 0)]), stop - start)

    def _arrow_table(self) -> Any:
        import pyarrow as pa

        with pa.memory_map(self.path) as source:
            try:
                return pa.ipc.open_file(source).read_all()
            except pa.ArrowInvalid:
                return pa.ipc.open_stream(source).read_all()


class _Column:
    """One column, in the place of a branch."""

    def __init__(self, tree: ArrowTree, name: str, typename: str) -> None:
        self.tree, self.name, self.typename = tree, name, typename

    def array(
        self, entry_start: int | None = None, entry_stop: int | None = None, library: str = "ak"
    ) -> ak.Array:
        """Its rows entry_start:entry_stop."""
        stop = self.tree.num_entries if entry_stop is None else entry_stop
        return self.tree.read([self.name], entry_start or 0, stop)[self.name]


def is_arrow(path: str) -> bool:
    """Whether a file's ending is Parquet's or Arrow's."""
    return Path(path).suffix.lower() in SUFFIXES


def _kinds(schema: Any) -> Iterator[tuple[str, str]]:
    for field in schema:
        yield from _kinds_of(field.name, field.type, "")


def _kinds_of(name: str, kind: Any, lists: str) -> Iterator[tuple[str, str]]:
    import pyarrow.types as types

    if _is_list(kind):
        yield from _kinds_of(name, kind.value_type, f"{lists}[]")
    elif types.is_dictionary(kind):
        yield from _kinds_of(name, kind.value_type, lists)
    elif types.is_struct(kind):
        yield name, f"record{lists}"
        for i in range(kind.num_fields):
            field = kind.field(i)
            yield from _kinds_of(f"{name}.{field.name}", field.type, lists)
    else:
        plain = {"float": "float", "double": "double", "bool": "bool", "halffloat": "float"}.get(str(kind))
        if plain is None:
            plain = (
                f"{kind}_t" if types.is_integer(kind) else "double" if types.is_decimal(kind) else str(kind)
            )
        yield name, plain + lists


def _layout(array: Any, name: str, path: str) -> ak.contents.Content:
    """An Arrow array as awkward content, without options.

    Raises:
        DataError: missing values.
    """
    import pyarrow.types as types

    if array.null_count:
        raise DataError(
            f"column '{name}' has {array.null_count} missing values", where=path, mend="fill or drop them"
        )
    kind = array.type
    if types.is_dictionary(kind):
        return _layout(array.dictionary_decode(), name, path)
    if types.is_decimal(kind):
        return _layout(array.cast("float64"), name, path)
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        offsets = starts_of(array.sizes.to_numpy())
        return ak.contents.ListOffsetArray(ak.index.Index64(offsets), _layout(array.flatten(), name, path))
    if types.is_fixed_size_list(kind):
        offsets = np.arange(len(array) + 1, dtype=np.int64) * kind.list_size
        return ak.contents.ListOffsetArray(ak.index.Index64(offsets), _layout(array.flatten(), name, path))
    if types.is_list(kind) or types.is_large_list(kind):
        offsets = array.offsets.to_numpy().astype(np.int64)
        inner = _layout(array.flatten(), name, path)
        return ak.contents.ListOffsetArray(ak.index.Index64(offsets - offsets[0]), inner)
    if types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        parts = [_layout(part, f"{name}.{n}", path) for n, part in zip(names, array.flatten(), strict=True)]
        return ak.contents.RecordArray(parts, names, length=len(array))
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise DataError(
            f"column '{name}' is of type {kind}, which is no number", where=path, mend="name another column"
        )
    values = np.ascontiguousarray(array.to_numpy(zero_copy_only=False))
    # Arrow's own memory may not be written to, of which torch warns
    return ak.contents.NumpyArray(values if values.flags.writeable else values.copy())


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return any(
        is_kind(kind)
        for is_kind in (
            types.is_list,
            types.is_large_list,
            types.is_fixed_size_list,
            types.is_list_view,
            types.is_large_list_view,
        )
    )
