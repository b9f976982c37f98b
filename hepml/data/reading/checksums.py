"""The checksums of an RNTuple, looked at whenever it is read.

ROOT writes behind each page, and at the end of each envelope (header, footer, page lists), the 64 bits of
XXH3 over what stands before. uproot compares those of header and footer; those of page lists and pages are
compared here, so that a flipped bit in a column is an error and no other number. A page whose description
claims no checksum (those that uproot writes) is read as it is.

Format: https://github.com/root-project/root/blob/master/tree/ntuple/doc/BinaryFormatSpecification.md
"""

from __future__ import annotations

import struct
from typing import Any

import xxhash
from uproot.compression import decompress
from uproot.source.cursor import Cursor

_SUM = struct.Struct("<Q")


class ChecksumError(ValueError):
    """Content that does not fit its checksum."""


def check_when_read(tree: Any) -> Any:
    """The tree, with the checksums of everything that is read from it compared; a TTree is left as it is.

    Only this object changes: uproot's class, and what others open, stay as they are.
    """
    if hasattr(type(tree), "page_link_list") and not hasattr(tree, "_hepml_checked"):
        tree._hepml_checked = _Checks(tree)
        tree.read_page, tree.read_locator = tree._hepml_checked.read_page, tree._hepml_checked.read_locator
    return tree


class _Checks:
    """Stands in for the two methods of an RNTuple that fetch bytes."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self._read_page = tree.read_page
        self._pages: dict[int, bool] = {}

    def read_page(self, destination: Any, cluster: int, column: int, page: int, metadata: Any) -> None:
        """A page; whether a checksum follows it is known from its description only."""
        described = self.tree.page_link_list[cluster][column].pages[page]
        self._pages[described.locator.offset] = bool(described.has_checksum)
        self._read_page(destination, cluster, column, page, metadata)

    def read_locator(self, locator: Any, size: int) -> tuple[Any, Cursor]:
        """The decompressed bytes that a locator names, and a cursor at their begin.

        Raises:
            ChecksumError: they are not what was written.
        """
        begin, end = locator.offset, locator.offset + locator.num_bytes
        followed = self._pages.get(begin)  # None: an envelope, whose checksum is its own last bytes
        stored = self.tree.file.source.chunk(begin, end + (_SUM.size if followed else 0))
        if followed:
            _compare(stored.raw_data, f"the page at byte {begin}")
        if locator.num_bytes < size:
            content, cursor = decompress(stored, Cursor(begin), {}, locator.num_bytes, size), Cursor(0)
        else:
            content, cursor = stored, Cursor(begin)
        if followed is None:
            _compare(content.raw_data, f"the page list at byte {begin}")
        return content, cursor


def _compare(data: Any, what: str) -> None:
    whole = memoryview(data)
    if len(whole) < _SUM.size:
        raise ChecksumError(f"{what} ends early")
    (checksum,) = _SUM.unpack(whole[-_SUM.size :])
    if xxhash.xxh3_64_intdigest(whole[: -_SUM.size]) != checksum:
        raise ChecksumError(f"{what} does not fit its checksum")
