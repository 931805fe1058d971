"""The block allocation table of an open file, never held as a whole.

Single look-ups go through the page cache. Long walks go slice by slice, each about 1 MiB of table, holes of
the file skipped; numpy, imported late, finds the runs of alike entries in them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx.format.bat import STATE_MASK, PayloadState
from vhdx.format.constants import BAT_ENTRY_SIZE
from vhdx.storage.base import StoreKind, pread_zero_extended

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vhdx.engine.page_cache import PageCache
    from vhdx.format.geometry import Geometry
    from vhdx.format.region_table import Region

_SLICE_ENTRIES: Final = 1 << 17
NUMPY_THRESHOLD_BLOCKS: Final = 1 << 14
"""Walks of fewer blocks than this take less time than importing numpy does."""

_PAGE_SHIFT: Final = 12
_PAGE_MASK: Final = 4095
_unpack_entry: Final = struct.Struct("<Q").unpack_from
_FULLY_PRESENT: Final = int(PayloadState.FULLY_PRESENT)
_PARTIALLY_PRESENT: Final = int(PayloadState.PARTIALLY_PRESENT)


class BlockRun(NamedTuple):
    """Neighbouring payload blocks that are alike.

    Either all entries are equal, or all are fully present and contiguous in the file. Partially present
    blocks stand alone.
    """

    first_block: int
    length: int
    """In blocks."""
    entry: int
    """Entry of the first block."""


class ChunkSlice(NamedTuple):
    """The table's bytes for whole chunks; `data` None means that all of them are zero."""

    first_chunk: int
    chunk_count: int
    data: bytes | None


class BatTable:
    """Reading access to the table of one file."""

    def __init__(self, pages: PageCache, region: Region, geometry: Geometry) -> None:
        self.pages = pages
        self.store = pages.store
        self.region = region
        self.geometry = geometry
        self._page = pages.page
        self._changed_pages = pages.changed
        self._cached_page = pages.cached
        self._file_offset = region.file_offset
        self._ratio = geometry.chunk_ratio

    def payload_entry(self, block: int) -> int:
        """Entry of a payload block, not judged. Raises: OSError."""
        at = self._file_offset + (block + block // self._ratio) * BAT_ENTRY_SIZE
        page = self._cached_page(at >> _PAGE_SHIFT) or self._page(at >> _PAGE_SHIFT)
        entry: int = _unpack_entry(page, at & _PAGE_MASK)[0]
        return entry

    def bitmap_entry(self, chunk: int) -> int:
        """Entry of a chunk's sector bitmap, not judged; 0 where the table ends before it. Raises: OSError."""
        index = self.geometry.entry_of_bitmap(chunk)
        if index >= self.geometry.entry_count:
            return 0
        at = self._file_offset + index * BAT_ENTRY_SIZE
        entry: int = _unpack_entry(self._page(at >> _PAGE_SHIFT), at & _PAGE_MASK)[0]
        return entry

    def slices(self, first_chunk: int = 0, end_chunk: int | None = None) -> Iterator[ChunkSlice]:
        """Walk the table chunk-wise; the data is cut at the table's last needed entry. Raises: OSError."""
        last = self.geometry.chunk_count if end_chunk is None else end_chunk
        row_size = (self._ratio + 1) * BAT_ENTRY_SIZE
        step = max(1, _SLICE_ENTRIES // (self._ratio + 1))
        for chunk in range(first_chunk, last, step):
            count = min(step, last - chunk)
            start = chunk * row_size
            length = min(count * row_size, self.geometry.bat_size - start)
            yield ChunkSlice(chunk, count, self._read(start, length))

    def _read(self, start: int, length: int) -> bytes | None:
        file_offset = self._file_offset + start
        # The changed pages are read before the file: a commit may write a page to the file between the two reads, and
        # forget it. In this order such a page is found among the changed ones, in the file, or in both.
        changed = self._changed_pages(file_offset, file_offset + length)
        if not changed and all(
            extent.kind is StoreKind.HOLE for extent in self.store.extents(file_offset, length)
        ):
            return None
        data = pread_zero_extended(self.store, length, file_offset)
        return _patched(data, file_offset, changed) if changed else data

    def runs(self, first_block: int, count: int) -> Iterator[BlockRun]:
        """Split payload blocks into runs of alike ones, not judged. Raises: OSError."""
        if count < NUMPY_THRESHOLD_BLOCKS:
            return self._short_runs(first_block, count)
        return _joined(self._long_runs(first_block, count), self.geometry.block_size)

    def _short_runs(self, first_block: int, count: int) -> Iterator[BlockRun]:
        block_size = self.geometry.block_size
        start, first_entry = first_block, -1
        following = -1
        for block in range(first_block, first_block + count):
            entry = self.payload_entry(block)
            if entry == following:
                following = _following(entry, block_size)
                continue
            if block > start:
                yield BlockRun(start, block - start, first_entry)
            start, first_entry = block, entry
            following = _following(entry, block_size)
        if count:
            yield BlockRun(start, first_block + count - start, first_entry)

    def _long_runs(self, first_block: int, count: int) -> Iterator[BlockRun]:
        ratio = self._ratio
        end_block = first_block + count
        end_chunk = (end_block + ratio - 1) // ratio
        for piece in self.slices(first_block // ratio, end_chunk):
            base = piece.first_chunk * ratio
            low = max(first_block, base)
            high = min(end_block, base + piece.chunk_count * ratio)
            if piece.data is None:
                yield BlockRun(low, high - low, 0)
            else:
                yield from _numpy_runs(piece.data, ratio, base, low, high, self.geometry.block_size)

    def count_states(self) -> dict[int, int]:
        """Count payload blocks by state, without numpy. Raises: OSError."""
        counts = dict.fromkeys(range(8), 0)
        ratio = self._ratio
        for piece in self.slices():
            blocks = min(piece.chunk_count * ratio, self._payload_slots() - piece.first_chunk * ratio)
            if piece.data is None:
                counts[PayloadState.NOT_PRESENT] += blocks
                continue
            # Every eighth byte holds an entry's state; bytes are counted in C.
            low_bytes = piece.data[::BAT_ENTRY_SIZE].translate(_STATE_OF_LOW_BYTE)
            bitmaps = low_bytes[ratio :: ratio + 1]
            for state in counts:
                counts[state] += low_bytes.count(state) - bitmaps.count(state)
        spare = self._payload_slots() - self.geometry.block_count
        if spare:
            # The last chunk of a differencing image has entries for blocks past the disk's end.
            first = self.geometry.entry_of_block(self.geometry.block_count - 1) + 1
            data = self._read(first * BAT_ENTRY_SIZE, spare * BAT_ENTRY_SIZE) or bytes(spare * BAT_ENTRY_SIZE)
            low_bytes = data[::BAT_ENTRY_SIZE].translate(_STATE_OF_LOW_BYTE)
            for state in counts:
                counts[state] -= low_bytes.count(state)
        return counts

    def _payload_slots(self) -> int:
        chunks = self.geometry.chunk_count
        return chunks * self._ratio if self.geometry.has_parent else self.geometry.block_count


_STATE_OF_LOW_BYTE: Final = bytes(value & STATE_MASK for value in range(256))


def _patched(data: bytes, file_offset: int, pages: Mapping[int, bytes]) -> bytes:
    """Bytes of the file with changed pages put over them."""
    patched = bytearray(data)
    for number, page in pages.items():
        at = (number << _PAGE_SHIFT) - file_offset
        start, end = max(at, 0), min(at + len(page), len(data))
        patched[start:end] = page[start - at : end - at]
    return bytes(patched)


def _following(entry: int, block_size: int) -> int:
    """The entry that continues a run after `entry`; -1 if none does."""
    state = entry & STATE_MASK
    if state == _FULLY_PRESENT:
        return entry + block_size
    return -1 if state == _PARTIALLY_PRESENT else entry


def _numpy_runs(
    data: bytes, ratio: int, base: int, low: int, high: int, block_size: int
) -> Iterator[BlockRun]:
    """Runs of the blocks low..high-1 in a slice of whole chunks whose first block is `base`."""
    import numpy as np

    entries = np.frombuffer(data, dtype="<u8")
    blocks = low - base + np.arange(high - low) if ratio < len(entries) else None
    payload = entries[low - base : high - base] if blocks is None else entries[blocks + blocks // ratio]
    state = payload & STATE_MASK
    step = np.diff(payload)
    expected = np.where(state[:-1] == _FULLY_PRESENT, block_size, 0)
    breaks = np.flatnonzero((step != expected) | (state[:-1] == _PARTIALLY_PRESENT)) + 1
    starts = [0, *breaks.tolist()]
    ends = [*starts[1:], high - low]
    for start, end, entry in zip(starts, ends, payload[starts].tolist(), strict=True):
        yield BlockRun(low + start, end - start, entry)


def _joined(runs: Iterator[BlockRun], block_size: int) -> Iterator[BlockRun]:
    """Join runs that go on across a slice's end."""
    pending: BlockRun | None = None
    for run in runs:
        if pending is None:
            pending = run
        elif _continues(pending, run, block_size):
            pending = pending._replace(length=pending.length + run.length)
        else:
            yield pending
            pending = run
    if pending is not None:
        yield pending


def _continues(a: BlockRun, b: BlockRun, block_size: int) -> bool:
    state = a.entry & STATE_MASK
    if state == _PARTIALLY_PRESENT:
        return False
    advance = a.length * block_size if state == _FULLY_PRESENT else 0
    return a.entry + advance == b.entry
