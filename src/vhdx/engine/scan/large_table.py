"""Judge every entry of a BAT of any size, and find every overlap, in bounded memory.

One pass goes over the table in slices of about 1 MiB. numpy picks the entries that may be wrong; only those are
judged one by one, by the same rules as a single look-up. What the blocks own is counted in `scan.file_space`.
Imported late, because it needs numpy.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np

from vhdx._units import MIB
from vhdx.engine.scan.file_space import SpaceMap, claims_of, overlap_findings
from vhdx.engine.scan.free_space import free_space
from vhdx.engine.scan.slices import Entries, Flags, Indices, Slice, slices, states
from vhdx.engine.table_summary import TableSummary
from vhdx.format.bat import (
    MAX_ENTRY_WITHOUT_SPACE,
    OFFSET_MASK,
    RESERVED_MASK,
    STATE_MASK,
    PayloadState,
    is_bitmap_present,
)
from vhdx.format.constants import HEADER_SECTION_SIZE, MAX_BLOCK_FILE_OFFSET

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from vhdx.engine.bat_table import BatTable
    from vhdx.engine.block_rules import BlockRules
    from vhdx.findings import Finding
    from vhdx.rules import RuleCode

MAX_LISTED: Final = 64
"""Entries of a crowd, all wrong in the same way, that are judged one by one."""

_CROWD: Final = 1024


def scan_large_table(
    bat: BatTable, rules: BlockRules, progress: Callable[[int, int], None] | None = None
) -> Generator[Finding, None, TableSummary]:
    """Scan a table: see `scan.table.scan_table`."""
    owned, claimed, blocks_end = SpaceMap(rules), 0, 0
    unlisted: Counter[RuleCode] = Counter()
    for part in slices(bat, progress):
        unlisted += yield from _payload_findings(part, rules)
        yield from _bitmap_findings(part, rules)
        for claims in claims_of(part, rules):
            claimed += len(claims.units)
            blocks_end = max(blocks_end, claims.end)
            owned.add(claims.units)
    owned_count = owned.count()
    free = free_space(owned.runs(), rules)
    del owned  # The search for overlaps makes another map as large.
    if owned_count != claimed:
        yield from overlap_findings(bat, rules)
    return TableSummary(owned_count * MIB, blocks_end, free, unlisted)


def _payload_findings(part: Slice, rules: BlockRules) -> Generator[Finding, None, Counter[RuleCode]]:
    """Judge the payload entries that are not plainly right; return how many breaches are not listed."""
    rows, columns = np.nonzero(~_is_plainly_right(part, rules))
    blocks = (part.first_chunk + rows) * part.chunk_ratio + columns
    return (yield from _judge(blocks, part.payload[rows, columns], rules))


def _is_plainly_right(part: Slice, rules: BlockRules) -> Flags:
    """Which payload entries break no rule, as far as can be seen at once; the others are suspects."""
    geometry = rules.geometry
    offsets = part.payload & np.uint64(OFFSET_MASK)
    low_bits = part.payload & np.uint64(RESERVED_MASK | STATE_MASK)
    right: Flags = low_bits == int(PayloadState.FULLY_PRESENT)
    if geometry.has_parent:
        right |= low_bits == int(PayloadState.PARTIALLY_PRESENT)
    right &= (offsets >= HEADER_SECTION_SIZE) & (offsets <= max(rules.last_plain_offset, 0))
    right &= ~_in_structures(offsets, rules)
    right |= part.payload <= MAX_ENTRY_WITHOUT_SPACE
    # In a differencing image the last chunk has entries for blocks past the disk's end: they should be zero.
    surplus = (part.first_chunk + len(part.rows)) * part.chunk_ratio - geometry.block_count
    if geometry.has_parent and surplus > 0:
        right[-1, -surplus:] &= part.payload[-1, -surplus:] == 0
    return right


def _in_structures(offsets: Entries, rules: BlockRules) -> Flags:
    """Which payload blocks at these file offsets would meet a structure."""
    # A log that is not in use may lie anywhere, past all that 64 bits can say too.
    ends = np.array([min(end, (1 << 64) - 1) for end in rules.structure_ends], np.uint64)
    starts = np.append(np.array(rules.structure_starts, np.uint64), np.uint64(1 << 63))
    following = starts[np.searchsorted(ends, offsets, side="right")]
    in_structures: Flags = following < offsets + np.uint64(rules.geometry.block_size)
    return in_structures


def _judge(
    blocks: Indices, entries: Entries, rules: BlockRules
) -> Generator[Finding, None, Counter[RuleCode]]:
    """Judge suspects; of a crowd that is wrong in one way, the first ones. Return the number of breaches left out."""
    unlisted: Counter[RuleCode] = Counter()
    if len(blocks) <= _CROWD:
        yield from _judge_each(blocks, entries, rules)
        return unlisted
    order, starts, sizes = _crowds(_kinds(blocks, entries, rules))
    for start, size in zip(starts, sizes, strict=True):
        crowd = np.sort(order[start : start + size])
        sample = crowd[:MAX_LISTED]
        yield from _judge_each(blocks[sample], entries[sample], rules)
        for finding in _judge_each(blocks[crowd[-1:]], entries[crowd[-1:]], rules):
            unlisted[finding.code] += size - len(sample)
    return unlisted


def _judge_each(blocks: Indices, entries: Entries, rules: BlockRules) -> Iterator[Finding]:
    for block, entry in zip(blocks.tolist(), entries.tolist(), strict=True):
        if block < rules.geometry.block_count:
            yield from rules.payload_findings(block, entry)
        else:
            yield rules.trailing_finding(block, entry)


def _kinds(blocks: Indices, entries: Entries, rules: BlockRules) -> Indices:
    """A number for each suspect; suspects with the same number break the same rules."""
    geometry = rules.geometry
    places = entries & np.uint64(OFFSET_MASK)
    offsets = places.astype(np.float64)
    needed = np.minimum(geometry.block_size, geometry.virtual_size - blocks * geometry.block_size)
    facts = [
        (entries & np.uint64(RESERVED_MASK)) != 0,
        offsets != 0,
        offsets < HEADER_SECTION_SIZE,
        offsets > MAX_BLOCK_FILE_OFFSET,
        offsets >= rules.file_size,
        offsets + needed > rules.file_size,
        blocks >= geometry.block_count,
        _in_structures(places, rules),
    ]
    kinds: Indices = states(entries).astype(np.int64)
    for fact in facts:
        kinds = kinds * 2 + fact
    return kinds


def _crowds(kinds: Indices) -> tuple[Indices, list[int], list[int]]:
    """Sort suspects by kind: (their order, where each kind begins in it, how many are of it)."""
    order = np.argsort(kinds, kind="stable")
    _, starts, sizes = np.unique(kinds[order], return_index=True, return_counts=True)
    return order, starts.tolist(), sizes.tolist()


def _bitmap_findings(part: Slice, rules: BlockRules) -> Iterator[Finding]:
    """Judge the bitmap entries, and whether every partially present block has its bitmap."""
    for row in np.flatnonzero(part.bitmaps).tolist():
        yield from rules.bitmap_findings(part.first_chunk + row, int(part.bitmaps[row]))
    if not rules.geometry.has_parent:
        return
    partial = states(part.payload) == int(PayloadState.PARTIALLY_PRESENT)
    for row in np.flatnonzero(partial.any(axis=1)).tolist():
        chunk, entry = part.first_chunk + row, int(part.bitmaps[row])
        if not is_bitmap_present(entry):
            block = chunk * part.chunk_ratio + int(np.argmax(partial[row]))
            yield rules.missing_bitmap(chunk, entry, block)
