"""Changing the content of one file: write, zero and trim, block by block.

An overwrite of a fully present block goes straight to its place; nothing else changes. Everything that changes
what the tables say of a block holds that block exclusively, brings the payload into the file first, and puts
the entry (and the bitmap bits) into the page cache last: whoever sees the entry sees the data. When that
becomes durable is `engine.commit`'s business.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from vhdx._units import MIB, align_down, align_up, div_ceil
from vhdx.engine.allocator import Space
from vhdx.engine.block_rules import is_bitmap_present
from vhdx.engine.log_writer import MAX_PAGES
from vhdx.engine.page_cache import PageChange, entry_change
from vhdx.engine.write_plan import BlockFacts, WritePlan, plan_write, state_after_trim, state_after_zeroes
from vhdx.format.bat import STATE_MASK, BitmapState, PayloadState, entry_file_offset, make_entry
from vhdx.format.constants import BAT_ENTRY_SIZE, BITMAP_BLOCK_SIZE
from vhdx.format.sector_bitmap import runs, set_bits
from vhdx.rules import RULES, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vhdx.engine.allocator import Allocator
    from vhdx.engine.bat_table import BatTable
    from vhdx.engine.block_rules import BlockRules
    from vhdx.engine.commit import Committer
    from vhdx.engine.host_space import HostSpace
    from vhdx.engine.in_flight import InFlight
    from vhdx.engine.page_cache import PageCache
    from vhdx.engine.session import WriteSession
    from vhdx.format.header import Header
    from vhdx.report import Finding
    from vhdx.storage.base import ByteStore

_ZEROES: Final = bytes(MIB)


class Writer:
    """Changes one file. Thread-safe. Offsets are virtual; all ranges have been checked."""

    def __init__(
        self,
        store: ByteStore,
        bat: BatTable,
        rules: BlockRules,
        pages: PageCache,
        session: WriteSession,
        allocator: Allocator,
        committer: Committer,
        host_space: HostSpace,
        in_flight: InFlight,
        *,
        keeps_space: bool,
        read_through: Callable[[int, int], bytes],
    ) -> None:
        """`keeps_space`: a fixed image. `read_through(length, offset)` reads the disk through its parents."""
        self._store = store
        self._bat = bat
        self._rules = rules
        self._geometry = bat.geometry
        self._pages = pages
        self._session = session
        self._allocator = allocator
        self._committer = committer
        self._host_space = host_space
        self.in_flight = in_flight
        self._keeps_space = keeps_space
        self.read_through = read_through

    # -- requests ----------------------------------------------------------------------------------------------

    def write(self, data: memoryview, offset: int) -> None:
        """Write bytes. Raises: ImagePoisonedError, ParentNotFoundError, OSError."""
        self._committer.check_sound()
        if len(data):
            self._session.begin()
        done = 0
        block, within = divmod(offset, self._geometry.block_size)
        if 0 < len(data) <= self._geometry.block_size - within:  # most requests
            self._write_block(block, within, data)
            return
        for block, within, length in self._blocks(offset, len(data)):
            self._write_block(block, within, data[done : done + length])
            done += length

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool) -> None:
        """Make a range read as zeroes, whatever a parent holds. Raises: as `write`."""
        self._committer.check_sound()

        def is_idle(facts: BlockFacts) -> bool:
            zero = PayloadState.ZERO
            return facts.state is zero is state_after_zeroes(facts, may_unmap=may_unmap)

        for block, within, count in self._busy_blocks(offset, length, is_idle):
            ticket = self.in_flight.begin()
            try:
                with self.in_flight.block(block):
                    self._zero_block(block, within, count, may_unmap=may_unmap)
            finally:
                self.in_flight.end(ticket)

    def trim(self, offset: int, length: int) -> None:
        """Give up the content of whole blocks; they read as zeroes. Parts of blocks stay as they are.

        Raises: as `write`.
        """
        self._committer.check_sound()

        def is_idle(facts: BlockFacts) -> bool:
            return facts.state is state_after_trim(facts)

        for block, within, count in self._busy_blocks(offset, length, is_idle):
            if self._is_whole(block, within, count):
                ticket = self.in_flight.begin()
                try:
                    with self.in_flight.block(block):
                        facts = self._facts(block)
                        self._empty_block(block, facts, state_after_trim(facts))
                finally:
                    self.in_flight.end(ticket)

    def check_fast_zeroes(self, offset: int, length: int, *, may_unmap: bool) -> None:
        """Refuse a range that cannot be zeroed by metadata alone. Raises: OSError (EOPNOTSUPP)."""
        fast = may_unmap and not self._keeps_space
        for block, within, count in self._blocks(offset, length):
            # A whole block gets file space of its own unless it may give up what it has.
            if not (fast if self._is_whole(block, within, count) else self._reads_zero(block)):
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), "zeroing without writing")

    @property
    def header(self) -> Header:
        """The header that counts in the file now."""
        return self._session.header

    def writes_in_place(self, offset: int, length: int) -> bool:
        """Whether a write of this range finds the session begun and sound, and all blocks fully present."""
        if not self._session.has_begun or self._committer.poison is not None:
            return False
        first, last = offset // self._geometry.block_size, (offset + length - 1) // self._geometry.block_size
        entry_of = self._bat.payload_entry
        if entry_of(first) & STATE_MASK != PayloadState.FULLY_PRESENT:
            return False
        return first >= last or all(
            entry_of(block) & STATE_MASK == PayloadState.FULLY_PRESENT for block in range(first + 1, last + 1)
        )

    def flush(self) -> None:
        """Make everything whose call has returned durable. Raises: ImagePoisonedError, OSError."""
        self._committer.check_sound()
        if self._session.has_begun:
            self._committer.flush()
            self._give_back_host_space()

    def close(self) -> None:
        """Make everything durable and end the session; nobody uses the image any more. Raises: OSError."""
        self._session.end(may_shrink=not self._keeps_space)

    def check_sound(self) -> None:
        """Raises: ImagePoisonedError."""
        self._committer.check_sound()

    # -- one block ---------------------------------------------------------------------------------------------

    def _blocks(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Split a range: (block, offset in it, length)."""
        block_size = self._geometry.block_size
        end = offset + length
        while offset < end:
            block, within = divmod(offset, block_size)
            count = min(end - offset, block_size - within)
            yield block, within, count
            offset += count

    def _busy_blocks(
        self, offset: int, length: int, is_idle: Callable[[BlockFacts], bool]
    ) -> Iterator[tuple[int, int, int]]:
        """As `_blocks`, without those that need no change: ranges of terabytes hold hardly any others."""
        block_size = self._geometry.block_size
        first, end = offset // block_size, offset + length
        for run in self._bat.runs(first, div_ceil(end, block_size) - first) if length else ():
            if run.entry & STATE_MASK == PayloadState.RESERVED_4 or not is_idle(self._facts_of(run.entry)):
                start = max(offset, run.first_block * block_size)
                stop = min(end, (run.first_block + run.length) * block_size)
                yield from self._blocks(start, stop - start)

    def _is_whole(self, block: int, within: int, length: int) -> bool:
        """Whether a range is all of a block that lies on the disk."""
        return within == 0 and length == self._geometry.block_length(block)

    def _facts(self, block: int) -> BlockFacts:
        facts = self._facts_of(self._bat.payload_entry(block))
        if facts.entry > PayloadState.UNMAPPED:
            self._judge(block, facts.entry)
        return facts

    def _facts_of(self, entry: int) -> BlockFacts:
        return BlockFacts(entry, self._geometry.has_parent, self._keeps_space)

    def _reads_zero(self, block: int) -> bool:
        facts = self._facts(block)
        transparent = facts.state is PayloadState.NOT_PRESENT and facts.has_parent
        return not transparent and facts.state < PayloadState.FULLY_PRESENT

    def _write_block(self, block: int, within: int, data: memoryview) -> None:
        ticket = self.in_flight.begin()
        try:
            if self._write_in_place(block, within, data):
                return
            with self.in_flight.block(block):
                # Another thread may have allocated the block while this one waited for it.
                if self._write_in_place(block, within, data):
                    return
                facts = self._facts(block)
                plan = plan_write(facts, whole=self._is_whole(block, within, len(data)))
                assert plan is not None
                if plan.uses_bitmap:
                    self._write_sectors(block, facts, plan, within, data)
                else:
                    self._write_full(block, facts, plan, within, data)
        finally:
            self.in_flight.end(ticket)

    def _write_in_place(self, block: int, within: int, data: memoryview) -> bool:
        entry = self._bat.payload_entry(block)
        if entry & STATE_MASK != PayloadState.FULLY_PRESENT:
            return False
        self._judge(block, entry)
        self._store.pwrite(data, entry_file_offset(entry) + within)
        return True

    def _judge(self, block: int, entry: int) -> None:
        """The whole BAT was judged at open, but nothing protects it. Raises: CorruptImageError."""
        start = entry_file_offset(entry)
        is_plain = entry - start == PayloadState.FULLY_PRESENT
        if not is_plain or not self._rules.is_clear(start, start + self._geometry.block_size):
            self._refuse(self._rules.payload_findings(block, entry))

    def _refuse(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if RULES[finding.code].severity is Severity.ERROR:
                raise finding.as_error(self._store.name)

    def _write_full(
        self, block: int, facts: BlockFacts, plan: WritePlan, within: int, data: memoryview
    ) -> None:
        """Write into a block that becomes fully present."""
        space = self._take_space(facts, plan)
        try:
            covers = len(data) == space.length
            if plan.must_zero and not space.known_zero and not covers:
                self._clear(space.file_offset, space.length, may_punch=True)
            self._store.pwrite(data, space.file_offset + within)
            self._apply([self._entry_change(block, PayloadState.FULLY_PRESENT, space.file_offset)])
        except BaseException:
            self._undo(self._bat.payload_entry(block), space)
            raise

    def _write_partial(
        self,
        block: int,
        facts: BlockFacts,
        plan: WritePlan,
        within: int,
        length: int,
        put: Callable[[int], None],
    ) -> None:
        """Give some sectors of a block whose others are the parent's a content of their own.

        `put` brings it into the file, at the file offset where it belongs. The range is whole sectors.
        """
        sector_size = self._geometry.logical_sector_size
        space = self._take_space(facts, plan)
        try:
            if not space.known_zero and plan.needs_space:
                self._clear(space.file_offset, space.length, may_punch=True)
            put(space.file_offset + within)
            sectors = range(within // sector_size, (within + length) // sector_size)
            self._mark_sectors(block, plan, space.file_offset, sectors)
        except BaseException:
            self._undo(self._bat.payload_entry(block), space)
            raise

    def _write_sectors(
        self, block: int, facts: BlockFacts, plan: WritePlan, within: int, data: memoryview
    ) -> None:
        """Write a range, completed to whole sectors with what the disk holds there now."""
        sector_size = self._geometry.logical_sector_size
        before, after = within % sector_size, -(within + len(data)) % sector_size
        start = block * self._geometry.block_size + within
        padded: bytes | memoryview = data
        if before or after:
            head = self.read_through(before, start - before)
            padded = b"".join((head, data, self.read_through(after, start + len(data))))
        self._write_partial(
            block, facts, plan, within - before, len(padded), partial(self._store.pwrite, padded)
        )

    def _mark_sectors(self, block: int, plan: WritePlan, file_offset: int, sectors: range) -> None:
        """Set the bits of sectors that have been written, together with the block's entry."""
        chunk, index = divmod(block, self._geometry.chunk_ratio)
        per_block = self._geometry.sectors_per_block // 8
        # Blocks of one chunk share the bitmap block, and only one of them may allocate it.
        with self.in_flight.block(-1 - chunk), self._bitmap_of(chunk) as (changes, bitmap_offset):
            bits_offset = bitmap_offset + index * per_block
            bits = bytearray(per_block if plan.clears_bitmap else self._pages.read(per_block, bits_offset))
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
            self._apply(changes)

    @contextmanager
    def _bitmap_of(self, chunk: int) -> Iterator[tuple[list[PageChange], int]]:
        """The changes that give a chunk a bitmap, none if it has one, and where that lies."""
        entry = self._bat.bitmap_entry(chunk)
        self._refuse(self._rules.bitmap_findings(chunk, entry))
        if is_bitmap_present(entry):
            yield [], entry_file_offset(entry)
            return
        space = self._allocator.allocate(BITMAP_BLOCK_SIZE)
        self._host_space.forget(space.length, space.file_offset)
        try:
            if not space.known_zero:
                self._store.write_zeroes(space.length, space.file_offset)
            at = self._bat.region.file_offset + self._geometry.entry_of_bitmap(chunk) * BAT_ENTRY_SIZE
            yield [entry_change(at, make_entry(BitmapState.PRESENT, space.file_offset))], space.file_offset
        except BaseException:
            self._undo(self._bat.bitmap_entry(chunk), space)
            raise

    def _zero_block(self, block: int, within: int, length: int, *, may_unmap: bool) -> None:
        facts = self._facts(block)
        whole = self._is_whole(block, within, length)
        if facts.state is PayloadState.FULLY_PRESENT and not (whole and may_unmap and not self._keeps_space):
            self._session.begin()
            self._clear(facts.file_offset + within, length, may_punch=may_unmap)
        elif whole:
            state = state_after_zeroes(facts, may_unmap=may_unmap)
            if state is PayloadState.FULLY_PRESENT:
                self._fill_block(block, facts)
            else:
                self._empty_block(block, facts, state)
        elif not self._reads_zero(block):
            for start, count in _at_sectors(within, length, self._geometry.logical_sector_size):
                self._zero_part(block, start, count, may_punch=may_unmap)

    def _zero_part(self, block: int, within: int, length: int, *, may_punch: bool) -> None:
        """Zero whole sectors, or a part of one, in a block that leaves others to the parent."""
        facts = self._facts(block)
        plan = plan_write(facts, whole=False)
        if plan is None:  # the part before this one was all that the block had still left to the parent
            self._clear(facts.file_offset + within, length, may_punch=may_punch)
        elif length % self._geometry.logical_sector_size:
            self._write_sectors(block, facts, plan, within, memoryview(bytes(length)))
        else:
            self._write_partial(
                block, facts, plan, within, length, lambda at: self._clear(at, length, may_punch=may_punch)
            )

    def _fill_block(self, block: int, facts: BlockFacts) -> None:
        """Make a block that is not fully present so, with zeroes."""
        needs_space = facts.file_offset == 0
        plan = WritePlan(PayloadState.FULLY_PRESENT, needs_space, True, False, False)
        space = self._take_space(facts, plan)
        try:
            if space.known_zero:
                self._host_space.provide(space.length, space.file_offset)
            else:
                self._clear(space.file_offset, space.length, may_punch=False)
            self._apply([self._entry_change(block, PayloadState.FULLY_PRESENT, space.file_offset)])
        except BaseException:
            self._undo(self._bat.payload_entry(block), space)
            raise

    def _empty_block(self, block: int, facts: BlockFacts, state: PayloadState) -> None:
        """Put a block into a state without file space; what it had is freed."""
        if state is facts.state:
            return
        self._session.begin()
        self._apply([self._entry_change(block, state, 0)])
        if facts.file_offset:
            self._allocator.free(facts.file_offset, self._geometry.block_size)

    def _clear(self, file_offset: int, length: int, *, may_punch: bool) -> None:
        """Put zeroes into a range of the file; a fixed image keeps its host space in any case."""
        if may_punch and not self._keeps_space:
            self._store.write_zeroes(length, file_offset)
            return
        for start in range(0, length, len(_ZEROES)):
            self._store.pwrite(_ZEROES[: min(len(_ZEROES), length - start)], file_offset + start)

    # -- space and metadata ------------------------------------------------------------------------------------

    def _take_space(self, facts: BlockFacts, plan: WritePlan) -> Space:
        """Find where a block is to be written, and be ready to write. Raises: ImagePoisonedError, OSError."""
        self._session.begin()
        if plan.needs_space:
            return self._allocator.allocate(self._geometry.block_size)
        return Space(facts.file_offset, self._geometry.block_size, known_zero=False)

    def _undo(self, entry: int, space: Space) -> None:
        """Take back space after a failure, unless the entry it was meant for names it already."""
        if entry_file_offset(entry) != space.file_offset and self._committer.poison is None:
            self._allocator.undo(space)

    def _entry_change(self, block: int, state: int, file_offset: int) -> PageChange:
        at = self._bat.region.file_offset + self._geometry.entry_of_block(block) * BAT_ENTRY_SIZE
        return entry_change(at, make_entry(state, file_offset))

    def _apply(self, changes: list[PageChange]) -> None:
        """Put changes that belong together into the page cache; commit first if the next entry is full."""
        try:
            for change in changes:
                self._host_space.reserve(len(change.data), change.file_offset)
            while not self._pages.apply(changes, MAX_PAGES):
                self._committer.flush()
        except OSError:
            # Nothing has changed: the host is full, reading a page failed, or the commit, which poisons by itself.
            raise
        except BaseException as error:
            self._committer.poison = self._committer.poison or error
            raise

    def _give_back_host_space(self) -> None:
        if not self._keeps_space:
            self._allocator.reclaim()


def _at_sectors(within: int, length: int, sector_size: int) -> Iterator[tuple[int, int]]:
    """Split a range into whole sectors and the parts of sectors at its ends: (start, length)."""
    end = within + length
    first, last = align_up(within, sector_size), align_down(end, sector_size)
    edges = (within, end) if first > last else (within, first, last, end)
    for start, stop in pairwise(edges):
        if start < stop:
            yield start, stop - start
