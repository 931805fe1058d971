"""What the tables say of single blocks, judged at each look, and how that is changed.

An entry and the bitmap bits that belong to it change together (`WriteSession.change`).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from vhdx.engine.blocks.plan import BlockFacts
from vhdx.engine.page_cache import PageChange, entry_change
from vhdx.errors import refusal
from vhdx.format.bat import (
    OFFSET_MASK,
    STATE_MASK,
    BitmapState,
    PayloadState,
    entry_file_offset,
    is_bitmap_present,
    make_entry,
)
from vhdx.format.constants import BAT_ENTRY_SIZE, BITMAP_BLOCK_SIZE
from vhdx.format.sector_bitmap import runs, set_bits
from vhdx.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vhdx.engine.bat_table import BatTable
    from vhdx.engine.blocks.plan import WritePlan
    from vhdx.engine.session.allocator import Space
    from vhdx.engine.session.session import WriteSession
    from vhdx.findings import Finding


class BlockTables:
    """BAT and sector bitmaps of one file that is open for writing. Thread-safe.

    Whoever changes what the tables say of a block holds the lock of that block (`InFlight.block`).
    """

    def __init__(self, session: WriteSession, bat: BatTable) -> None:
        self._session = session
        self._bat = bat
        self._entry_of = bat.payload_entry
        self._rules = session.opened.block_rules
        self._geometry = bat.geometry
        self._block_size = bat.geometry.block_size
        self._keeps_space = session.keeps_space

    # -- what they say -----------------------------------------------------------------------------------------

    def full_place(self, block: int) -> int:
        """File offset of a fully present block; 0 for one that is not. Raises: CorruptImageError, OSError."""
        entry = self._entry_of(block)
        if entry & STATE_MASK != PayloadState.FULLY_PRESENT:
            return 0
        start = entry & OFFSET_MASK
        is_plain = entry - start == PayloadState.FULLY_PRESENT
        if not is_plain or not self._rules.is_clear(start, start + self._block_size):
            self._judge(block, entry)
        return start

    def facts(self, block: int) -> BlockFacts:
        """What a change of a block depends on. Raises: CorruptImageError, OSError."""
        entry = self._entry_of(block)
        if entry > PayloadState.UNMAPPED:
            self._judge(block, entry)
        return self.facts_of(entry)

    def facts_of(self, entry: int) -> BlockFacts:
        """The facts of an entry that is not judged here."""
        return BlockFacts(entry, self._geometry.has_parent, self._keeps_space)

    def _judge(self, block: int, entry: int) -> None:
        """Judge an entry again: the whole BAT was judged at open, but nothing protects it."""
        self._refuse(self._rules.payload_findings(block, entry))

    def _refuse(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if finding.severity is Severity.ERROR:
                raise refusal(finding, self._session.store.name)

    # -- changing it -------------------------------------------------------------------------------------------

    def set_entry(self, block: int, state: PayloadState, file_offset: int) -> None:
        """Change a block's entry. Raises: as `WriteSession.change`."""
        self._session.change([self._entry_change(block, state, file_offset)])

    def mark_sectors(self, block: int, plan: WritePlan, file_offset: int, sectors: range) -> None:
        """Set the bits of sectors that have been written, together with the block's entry. Raises: as `set_entry`."""
        chunk, index = divmod(block, self._geometry.chunk_ratio)
        per_block = self._geometry.sectors_per_block // 8
        # The blocks of a chunk share one bitmap, and only one of them may take space for it.
        session = self._session
        with session.in_flight.bitmap(chunk), self._bitmap_of(chunk) as (changes, bitmap_offset):
            bits_offset = bitmap_offset + index * per_block
            bits = bytearray(per_block if plan.clears_bitmap else session.pages.read(per_block, bits_offset))
            before = bytes(bits)
            set_bits(bits, sectors.start, len(sectors))
            valid = self._geometry.block_length(block) // self._geometry.logical_sector_size
            is_full = next(runs(bytes(bits), 0, valid)) == (True, valid)
            if plan.needs_space or is_full:
                state = PayloadState.FULLY_PRESENT if is_full else PayloadState.PARTIALLY_PRESENT
                changes.append(self._entry_change(block, state, file_offset))
            if plan.clears_bitmap:
                changes.append(PageChange(bits_offset, bytes(bits)))
            elif bits != before:
                low, high = sectors.start // 8, (sectors.stop + 7) // 8
                changes.append(PageChange(bits_offset + low, bytes(bits[low:high])))
            session.change(changes)

    @contextmanager
    def _bitmap_of(self, chunk: int) -> Iterator[tuple[list[PageChange], int]]:
        """The changes that give a chunk a bitmap, none if it has one, and the bitmap's file offset.

        The space of a new bitmap is given back if the body of the context fails before it makes the changes.
        """
        entry = self._bat.bitmap_entry(chunk)
        self._refuse(self._rules.bitmap_findings(chunk, entry))
        if is_bitmap_present(entry):
            yield [], entry_file_offset(entry)
            return
        space = self._session.take_for_tables(BITMAP_BLOCK_SIZE)
        try:
            at = self._file_offset_of_entry(self._geometry.entry_of_bitmap(chunk))
            yield [entry_change(at, make_entry(BitmapState.PRESENT, space.file_offset))], space.file_offset
        except BaseException:
            self._give_back(space, self._bat.bitmap_entry(chunk))
            raise

    def give_back(self, space: Space, block: int) -> None:
        """Give space back after a failure, unless the entry of the block that it was taken for names it already."""
        self._give_back(space, self._entry_of(block))

    def _give_back(self, space: Space, entry: int) -> None:
        if entry_file_offset(entry) != space.file_offset:
            self._session.give_back(space)

    def _entry_change(self, block: int, state: PayloadState, file_offset: int) -> PageChange:
        at = self._file_offset_of_entry(self._geometry.entry_of_block(block))
        return entry_change(at, make_entry(state, file_offset))

    def _file_offset_of_entry(self, index: int) -> int:
        return self._bat.region.file_offset + index * BAT_ENTRY_SIZE
