"""RNTuples with a checksum behind each page, as ROOT writes them and uproot does not (files written by ROOT
6.34 and 6.36 have one behind each of their pages)."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import uproot
import xxhash
from uproot.writing import _cascadentuple as cascade

ZSTD = uproot.ZSTD(5)


def write_checked_ntuple(
    path: Path,
    arrays: dict[str, Any],
    *,
    name: str = "tree",
    compression: Any = ZSTD,
    times: int = 1,
) -> None:
    """One RNTuple; `times` clusters that hold the arrays each."""
    writer = cascade.NTuple
    add, is_page = writer.add_rblob, []

    def compressed(data: Any, how: Any) -> bytes:
        is_page.append(True)  # of all blobs, uproot compresses pages only
        return bytes(compress(data, how))

    def add_checked(self: Any, sink: Any, data: Any, size: int) -> Any:
        if is_page:
            is_page.clear()
            data = bytes(data) + struct.pack("<Q", xxhash.xxh3_64_intdigest(bytes(data)))
        return add(self, sink, data, size)

    def described(self: Any) -> bytes:  # a negative number of elements: with a checksum
        return struct.pack("<i", -self.num_entries) + self.locator.serialize()

    compress = uproot.compression.compress
    with (
        warnings.catch_warnings(),
        patch.object(uproot.compression, "compress", compressed),
        patch.object(writer, "add_rblob", add_checked),
        patch.object(cascade.NTuple_PageDescription, "serialize", described),
        uproot.recreate(path, compression=compression) as file,
    ):
        warnings.simplefilter("ignore")
        tree = file.mkrntuple(name, arrays)
        for _ in range(times - 1):
            tree.extend(arrays)
