"""Look for sector bitmap bits that mean nothing: they belong to blocks that are not partially present.

They do no harm until a writer makes such a block partially present without clearing them first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdx._units import div_ceil
from vhdx.findings import Finding
from vhdx.format.bat import PayloadState, entry_file_offset, entry_state, is_bitmap_present
from vhdx.format.constants import BITMAP_BLOCK_SIZE
from vhdx.rules import RuleCode
from vhdx.storage.base import StoreKind, pread_zero_extended

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx.engine.bat_table import BatTable
    from vhdx.engine.block_rules import BlockRules


def scan_bitmaps(bat: BatTable, rules: BlockRules) -> Iterator[Finding]:
    """Judge the bitmaps that lie in sound places, one at a time. Raises: OSError."""
    geometry = rules.geometry
    if not geometry.has_parent:
        return
    seen: set[int] = set()
    for piece in bat.slices():
        if piece.data is None:
            continue
        for chunk in range(piece.first_chunk, piece.first_chunk + piece.chunk_count):
            entry = bat.bitmap_entry(chunk)
            at = entry_file_offset(entry)
            # Chunks that share a bitmap have been found as an overlap: one look at it is enough.
            if is_bitmap_present(entry) and at not in seen and not any(rules.bitmap_findings(chunk, entry)):
                seen.add(at)
                stale = _stale_blocks(bat, rules, chunk, at)
                if stale:
                    found = f"set bits for {stale} other blocks"
                    yield Finding(RuleCode.BITMAP_STALE, rules.name_of_bitmap(chunk), at, found)


def _stale_blocks(bat: BatTable, rules: BlockRules, chunk: int, file_offset: int) -> int:
    """How many blocks of a chunk have set bits without being partially present."""
    per_block = BITMAP_BLOCK_SIZE // rules.geometry.chunk_ratio
    touched: set[int] = set()
    for extent in bat.store.extents(file_offset, BITMAP_BLOCK_SIZE):
        if extent.kind is not StoreKind.HOLE:
            start = extent.file_offset - file_offset
            touched.update(range(start // per_block, div_ceil(start + extent.length, per_block)))
    if not touched:
        return 0
    bits = pread_zero_extended(bat.store, BITMAP_BLOCK_SIZE, file_offset)
    unset = bytes(per_block)
    stale = 0
    for index in touched:
        if bits[index * per_block : (index + 1) * per_block] != unset:
            block = chunk * rules.geometry.chunk_ratio + index
            inside = block < rules.geometry.block_count
            state = entry_state(bat.payload_entry(block)) if inside else None
            stale += state != PayloadState.PARTIALLY_PRESENT
    return stale
