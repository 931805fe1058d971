"""A quick look at a small table: most are right, and can be seen to be so before numpy is even imported.

Every entry is judged by the rules of a single look-up. One breach of a rule, two blocks that overlap, or a
block that the end of the file cuts off, and the whole scan (`engine.bat_scan`) has the word.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx._units import MIB, align_down, align_up
from vhdx.engine.block_rules import is_bitmap_present
from vhdx.engine.interval_set import IntervalSet
from vhdx.format.bat import STATE_MASK, PayloadState, entry_file_offset, owned_file_offset
from vhdx.format.constants import (
    BAT_ENTRY_SIZE,
    BITMAP_BLOCK_SIZE,
    HEADER_SECTION_SIZE,
    MAX_BLOCK_FILE_OFFSET,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx.engine.bat_table import BatTable
    from vhdx.engine.block_rules import BlockRules

UNOWNED_PLAIN: Final = int(PayloadState.UNMAPPED)
"""The entry of a block of the disk up to this one names no file space, and breaks no rule."""
_VOID: Final = bytes(64 * BAT_ENTRY_SIZE)


class PlainTable(NamedTuple):
    """What a table that breaks no rule says of the file's space, in bytes."""

    owned: int
    """Payload blocks and sector bitmaps, soft anchors included."""
    blocks_end: int
    """File offset just past the last of them; 0 if there is none."""
    free: IntervalSet
    """Whole MiBs of the file that nothing owns."""


def look_at(bat: BatTable, rules: BlockRules) -> PlainTable | None:
    """Judge a whole table; None if anything in it is not plainly right. Raises: OSError."""
    blocks: list[tuple[int, int]] = []
    for block, entry in _payload_entries(bat):
        if block >= rules.geometry.block_count or any(rules.payload_findings(block, entry)):
            return None
        start = owned_file_offset(entry)
        if start:
            blocks.append((start, start + rules.geometry.block_size))
        if entry & STATE_MASK == PayloadState.PARTIALLY_PRESENT and not is_bitmap_present(
            bat.bitmap_entry(block // rules.geometry.chunk_ratio)
        ):
            return None
    for chunk in range(rules.geometry.chunk_count):
        entry = bat.bitmap_entry(chunk)
        if entry:
            if any(rules.bitmap_findings(chunk, entry)):
                return None
            blocks.append((entry_file_offset(entry), entry_file_offset(entry) + BITMAP_BLOCK_SIZE))
    blocks.sort()
    end = 0
    for start, stop in blocks:
        if start < end or stop > rules.file_size:
            return None
        end = stop
    return PlainTable(sum(stop - start for start, stop in blocks), end, _free_space(blocks, rules))


def _payload_entries(bat: BatTable) -> Iterator[tuple[int, int]]:
    """Payload entries that may own something, by block; behind the disk's last block, all that are not zero."""
    ratio, disk_end = bat.geometry.chunk_ratio, bat.geometry.entry_of_block(bat.geometry.block_count)
    for piece in bat.slices():
        if piece.data is None:
            continue
        for index, entry in _entries(piece.data, piece.first_chunk * (ratio + 1)):
            if entry > UNOWNED_PLAIN or (entry and index >= disk_end):
                chunk, within = divmod(index, ratio + 1)
                if within < ratio:
                    yield chunk * ratio + within, entry


def _entries(data: bytes, first: int) -> Iterator[tuple[int, int]]:
    """Number and value of each entry, numbered from `first`; stretches of zeroes are left out."""
    for start in range(0, len(data), len(_VOID)):
        part = data[start : start + len(_VOID)]
        if not _VOID.startswith(part):
            entries = struct.unpack(f"<{len(part) // BAT_ENTRY_SIZE}Q", part)
            yield from enumerate(entries, first + start // BAT_ENTRY_SIZE)


def _free_space(blocks: list[tuple[int, int]], rules: BlockRules) -> IntervalSet:
    """What neither blocks nor structures own; a MiB that one of them only begins in is not free."""
    file_end = align_down(min(rules.file_size, MAX_BLOCK_FILE_OFFSET), MIB)
    used = IntervalSet([(0, HEADER_SECTION_SIZE), *blocks])
    for start, end in zip(rules.structure_starts, rules.structure_ends, strict=True):
        used.add(align_down(start, MIB), align_up(end, MIB))
    free, position = IntervalSet(), 0
    for start, end in used:
        if min(start, file_end) > position:
            free.add(position, min(start, file_end))
        position = end
    if position < file_end:
        free.add(position, file_end)
    return free
