"""The quick way into a TTree: baskets of a local file, decompressed into one buffer and converted straight to
the wanted numbers.

uproot reads any branch of any tree; for the plain ones that jets are made of (numbers, `float[]`,
`std::vector<float>`) most of its time goes into copies that a flat float32 column does not need. Here a
basket is decompressed into a buffer that is used again and cast once into its column. A branch or compression
that is not understood here is left to uproot, so this changes speed, never results.

Format: https://root.cern/doc/master/classTBasket.html; a basket is a TKey, five TBasket members, and the
compressed content followed by the byte offsets of its entries.
"""

from __future__ import annotations

import os
import struct
import threading
import weakref
import zlib
from collections.abc import Sequence
from typing import Any

import cramjam
import numpy as np
import xxhash

from hepml.data.reading.cores import on_all_cores
from hepml.data.reading.links import starts_of

_KEY = struct.Struct(">ihiIh")  # fNbytes, fVersion, fObjlen, fDatime, fKeylen
_BASKET = struct.Struct(">Hiiii")  # fVersion, fBufferSize, fNevBufSize, fNevBuf, fLast; one flag byte follows
_BLOCK = 9  # bytes of a compressed block's header
_LZ4_CHECKSUM = 8
_VECTOR_HEADER = 10  # bytes that precede each std::vector: byte count, version, length


class NotPlainError(Exception):
    """A basket that is not understood here; uproot reads it."""


class BasketReader:
    """Reads plain branches of one tree in a local file.

    Args:
        tree: an uproot TTree.
        path: its file.
        exact: whether lists keep the file's kind of number; they become float32 otherwise.
    """

    def __init__(self, tree: Any, path: str, exact: bool = False) -> None:
        self.tree, self.exact = tree, exact
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._scratch = threading.local()  # buffers of each thread
        self._kept: dict[str, tuple[int, np.ndarray, np.ndarray | None]] = {}
        self._branches: dict[str, Any] = {}  # looked up once: uproot goes through the tree at each call
        self._edges: dict[str, np.ndarray] = {}
        self._kinds: dict[str, tuple[np.dtype, bool, int] | None] = {}
        self._vector_index: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def can_read(self, name: str) -> bool:
        """Whether a branch is plain: numbers or one list of numbers an entry, all of it in baskets on the
        file."""
        if name not in self._kinds:
            self._kinds[name] = self._plain_kind(name)
        return self._kinds[name] is not None

    def _plain_kind(self, name: str) -> tuple[np.dtype, bool, int] | None:
        branch = self._branch(name)
        kind = _kind(branch)
        if kind is None or branch.num_baskets == 0 or len(branch.embedded_baskets):
            return None
        on_file = (np.asarray(branch.member("fBasketSeek")[: branch.num_baskets]) > 0).all()
        return kind if on_file else None

    def edges(self, name: str) -> np.ndarray:
        """Entries at which the baskets of a branch begin, and the last."""
        if name not in self._edges:
            self._edges[name] = np.asarray(self._branch(name).entry_offsets, dtype=np.int64)
        return self._edges[name]

    def read(
        self, names: Sequence[str], start: int, stop: int
    ) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        """Content and offsets of plain branches for the entries start:stop; lists become float32, unless
        they are to be exact.

        Raises:
            NotPlainError: a basket that uproot must read.
            ValueError and the like: damaged baskets.
        """
        columns = on_all_cores(lambda name: self._column(name, start, stop), names, len(names))
        return dict(zip(names, columns, strict=True))

    def _branch(self, name: str) -> Any:
        if name not in self._branches:
            self._branches[name] = self.tree[name]
        return self._branches[name]

    def _column(self, name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        kind = self._kinds[name] if self.can_read(name) else None
        if kind is None:
            raise NotPlainError(name)
        is_list = kind[1]
        edges = self.edges(name)
        contents, counts = [], []
        for i in range(int(np.searchsorted(edges, start, side="right")) - 1, len(edges) - 1):
            first, last = int(edges[i]), int(edges[i + 1])
            if first >= stop:
                break
            if first == last:  # a basket without entries: an empty chunk, or `hadd` of an empty file
                continue
            low, high = max(start - first, 0), min(stop, last) - first
            content, offsets = self._entries(name, i, last - first, kind, high < last - first)
            if offsets is None:
                contents.append(content[low:high])
                continue
            contents.append(content[int(offsets[low]) : int(offsets[high])])
            counts.append(np.diff(offsets[low : high + 1]))
        content = contents[0] if len(contents) == 1 else np.concatenate(contents)
        if not is_list:
            return content, None
        return content, starts_of(counts[0] if len(counts) == 1 else np.concatenate(counts))

    def _entries(
        self, name: str, number: int, entries: int, kind: tuple[np.dtype, bool, int], keep: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Content of one basket in native numbers, and the offsets of its lists.

        Args:
            keep: whether the next range needs it too: it is then kept, so that a basket is decompressed once
                however small the ranges are.
        """
        kept = self._kept.get(name)
        if kept is not None and kept[0] == number:
            if not keep:
                del self._kept[name]
            return kept[1:]
        dtype, is_list, header = kind
        branch = self._branch(name)
        data, byte_offsets = self._basket(
            int(branch.member("fBasketSeek")[number]), int(branch.member("fBasketBytes")[number])
        )
        offsets: np.ndarray | None = None
        if not is_list:
            if len(data) != entries * dtype.itemsize:
                raise NotPlainError(name)
            content = data.view(dtype).astype(dtype.newbyteorder("="))
        else:
            if byte_offsets is None or len(byte_offsets) != entries + 1:
                raise NotPlainError(name)
            content, offsets = self._list(data, byte_offsets, dtype, header)
            content = content.astype(dtype.newbyteorder("=") if self.exact else np.float32)
        if keep:
            self._kept[name] = number, content, offsets
        return content, offsets

    def _basket(self, seek: int, packed_size: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Content of a basket (valid until this thread reads the next) and the byte offset of each entry and
        the end.

        Args:
            seek: where it begins.
            packed_size: bytes that the tree says it has.
        """
        whole = self._bytes(seek, max(packed_size, _KEY.size))
        size, _, uncompressed, _, key_length = _KEY.unpack(whole[: _KEY.size].tobytes())
        if len(whole) < size:
            whole = self._bytes(seek, size)
        at = key_length - _BASKET.size - 1
        last = _BASKET.unpack(whole[at : at + _BASKET.size].tobytes())[4]
        border = last - key_length
        stored = whole[key_length:size]
        if size <= key_length or len(stored) != size - key_length or not 0 <= border <= uncompressed:
            raise ValueError(f"damaged basket at byte {seek}")
        if len(stored) == uncompressed:
            data = stored
        else:
            data = self._buffer("content", uncompressed)
            _decompress(stored, data)
        if border == uncompressed:
            return data, None
        raw = data[border : border + (uncompressed - border) // 4 * 4].view(">i4")
        byte_offsets = raw[1:].astype(np.int64) - key_length
        byte_offsets[-1] = border
        return data[:border], byte_offsets

    def _bytes(self, seek: int, size: int) -> np.ndarray:
        """Bytes of the file, fewer where it ends (valid until this thread reads the next). They are copied,
        since pages of a mapped file would count as memory of this process."""
        if size > (most := os.fstat(self._file).st_size):  # a damaged length
            size = max(most - seek, 0)
        buffer, filled = self._buffer("stored", size), 0
        while filled < size and (n := os.preadv(self._file, [buffer[filled:].data], seek + filled)):
            filled += n
        return buffer[:filled]

    def _buffer(self, name: str, size: int) -> np.ndarray:
        buffer = getattr(self._scratch, name, None)
        if buffer is None or len(buffer) < size:
            buffer = np.empty(size, dtype=np.uint8)
            setattr(self._scratch, name, buffer)
        return buffer[:size]

    def _list(
        self, data: np.ndarray, byte_offsets: np.ndarray, dtype: np.dtype, header: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Content of all lists of a basket in the file's byte order, and their offsets."""
        if not header:
            return data.view(dtype), byte_offsets // dtype.itemsize
        counts = (np.diff(byte_offsets) - header) // dtype.itemsize
        offsets = np.zeros(len(byte_offsets), dtype=np.int64)
        np.cumsum(counts, out=offsets[1:])
        unit = (
            2 if dtype.itemsize % 2 == 0 else 1
        )  # headers and entries of even length are moved in pairs of bytes
        known = self._vector_index.get(dtype.itemsize)
        if known is None or not np.array_equal(known[0], byte_offsets):
            is_content = np.ones(len(data) // unit, dtype=bool)
            is_content[(byte_offsets[:-1, None] // unit + np.arange(header // unit)).ravel()] = False
            known = byte_offsets, np.flatnonzero(is_content)
            self._vector_index[dtype.itemsize] = known  # branches of one collection share it
        return data.view(f"u{unit}")[known[1]].view(dtype), offsets


def _kind(branch: Any) -> tuple[np.dtype, bool, int] | None:
    """(number type in the file, whether each entry is a list, bytes before each list), or None for anything
    else."""
    from uproot.interpretation.jagged import AsJagged
    from uproot.interpretation.numerical import AsDtype

    interpretation = branch.interpretation
    inner = interpretation.content if isinstance(interpretation, AsJagged) else interpretation
    if type(inner) is not AsDtype:
        return None
    dtype = np.dtype(inner.from_dtype)
    if dtype.kind not in "fiub" or dtype.shape or dtype.subdtype is not None or inner.inner_shape:
        return None
    if not isinstance(interpretation, AsJagged):
        return dtype, False, 0
    return (
        (dtype, True, interpretation.header_bytes)
        if interpretation.header_bytes in (0, _VECTOR_HEADER)
        else None
    )


def _decompress(stored: Any, out: Any) -> None:
    """Compressed blocks one behind the other, each with ROOT's header of algorithm and sizes, into `out`."""
    at = filled = 0
    while at < len(stored):
        h = stored[at : at + _BLOCK].tobytes()
        packed, unpacked = int.from_bytes(h[3:6], "little"), int.from_bytes(h[6:9], "little")
        block = stored[at + _BLOCK : at + _BLOCK + packed]
        into = out[filled : filled + unpacked]
        if len(block) != packed or len(into) != unpacked:
            raise ValueError("damaged basket: a compressed block ends early")
        if h[:2] == b"ZS":
            written = cramjam.zstd.decompress_into(block, into)
        elif h[:2] == b"L4":
            if xxhash.xxh64_intdigest(block[_LZ4_CHECKSUM:]) != int.from_bytes(
                block[:_LZ4_CHECKSUM].tobytes(), "big"
            ):
                raise ValueError("damaged basket: its checksum does not fit")
            written = cramjam.lz4.decompress_block_into(block[_LZ4_CHECKSUM:], into, output_len=unpacked)
        elif h[:2] == b"ZL":
            content = zlib.decompress(block, bufsize=unpacked)
            written = len(content)
            if written == unpacked:
                into[:] = np.frombuffer(content, dtype=np.uint8)
        else:
            raise NotPlainError(h[:2].decode("latin1"))
        if written != unpacked:
            raise ValueError(f"damaged basket: {written} bytes where {unpacked} belong")
        at, filled = at + _BLOCK + packed, filled + unpacked
    if filled != len(out):
        raise ValueError(f"damaged basket: {filled} bytes where {len(out)} belong")
