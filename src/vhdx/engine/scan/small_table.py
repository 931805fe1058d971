"""Tell that a small table is sound, and what it owns, without numpy.

Every entry is judged by the rules of a single look-up. If one entry breaks a rule, two blocks overlap, or the end of
the file cuts a block off, nothing is reported here: `scan.large_table` judges the table and reports.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from vhdx.engine.scan.free_space import free_space
from vhdx.engine.table_summary import TableSummary
from vhdx.format.bat import (
    MAX_ENTRY_WITHOUT_SPACE,
    PayloadState,
    entry_file_offset,
    entry_state,
    is_bitmap_present,
    owned_file_offset,
)
from vhdx.format.constants import BAT_ENTRY_SIZE, BITMAP_BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx.engine.bat_table import BatTable
    from vhdx.engine.block_rules import BlockRules

_ZEROES: Final = bytes(64 * BAT_ENTRY_SIZE)


def summary_if_sound(bat: BatTable, rules: BlockRules) -> TableSummary | None:
    """Judge a whole table; None if anything in it is not plainly right. Raises: OSError."""
    payload = _sound_payload(bat, rules)
    bitmaps = None if payload is None else _sound_bitmaps(bat, rules)
    if payload is None or bitmaps is None:
        return None
    blocks = sorted(payload + bitmaps)
    blocks_end = 0
    for start, end in blocks:
        if start < blocks_end or end > rules.file_size:
            return None
        blocks_end = end
    owned = sum(end - start for start, end in blocks)
    return TableSummary(owned, blocks_end, free_space(blocks, rules))


def _sound_payload(bat: BatTable, rules: BlockRules) -> list[tuple[int, int]] | None:
    """Where the payload blocks lie, as (start, end) in bytes of the file; None if an entry breaks a rule."""
    blocks: list[tuple[int, int]] = []
    for block, entry in _payload_entries(bat):
        if block >= rules.geometry.block_count or any(rules.payload_findings(block, entry)):
            return None
        if entry_state(entry) == PayloadState.PARTIALLY_PRESENT and not is_bitmap_present(
            bat.bitmap_entry(block // rules.geometry.chunk_ratio)
        ):
            return None
        start = owned_file_offset(entry)
        if start:
            blocks.append((start, start + rules.geometry.block_size))
    return blocks


def _sound_bitmaps(bat: BatTable, rules: BlockRules) -> list[tuple[int, int]] | None:
    """The same of the sector bitmaps."""
    bitmaps: list[tuple[int, int]] = []
    for chunk in range(rules.geometry.chunk_count):
        entry = bat.bitmap_entry(chunk)
        if not entry:
            continue
        if any(rules.bitmap_findings(chunk, entry)):
            return None
        bitmaps.append((entry_file_offset(entry), entry_file_offset(entry) + BITMAP_BLOCK_SIZE))
    return bitmaps


def _payload_entries(bat: BatTable) -> Iterator[tuple[int, int]]:
    """(block, entry) of each payload entry that may own something; past the disk's end, of each that is not zero."""
    ratio, disk_end = bat.geometry.chunk_ratio, bat.geometry.entry_of_block(bat.geometry.block_count)
    for piece in bat.slices():
        if piece.data is None:
            continue
        for index, entry in _entries(piece.data, piece.first_chunk * (ratio + 1)):
            if entry > MAX_ENTRY_WITHOUT_SPACE or (entry and index >= disk_end):
                chunk, within = divmod(index, ratio + 1)
                if within < ratio:
                    yield chunk * ratio + within, entry


def _entries(data: bytes, first: int) -> Iterator[tuple[int, int]]:
    """Number and value of each entry, numbered from `first`; stretches of zeroes are left out."""
    for start in range(0, len(data), len(_ZEROES)):
        part = data[start : start + len(_ZEROES)]
        if not _ZEROES.startswith(part):
            entries = struct.unpack(f"<{len(part) // BAT_ENTRY_SIZE}Q", part)
            yield from enumerate(entries, first + start // BAT_ENTRY_SIZE)
