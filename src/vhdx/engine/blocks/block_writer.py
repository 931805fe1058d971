"""Changing the content of one block.

An overwrite of a fully present block goes straight to its place; nothing else changes. Everything that changes what
the tables say of a block holds the lock of that block, writes the payload first, and changes the entry, and the bits
of the bitmap, last. So whoever finds the entry finds the data that it names.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from vhdx._units import aligned_pieces
from vhdx.engine.blocks.plan import plan_fill, plan_write, state_after_trim, state_after_zeroes
from vhdx.engine.session.allocator import Space
from vhdx.format.bat import PayloadState
from vhdx.storage.base import space_control
from vhdx.storage.zeroes import write_zeroes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx.blockdev.device import DiskReader
    from vhdx.engine.blocks.plan import BlockFacts, WritePlan
    from vhdx.engine.blocks.tables import BlockTables
    from vhdx.engine.session.session import WriteSession
    from vhdx.format.geometry import Geometry


class BlockWriter:
    """Changes blocks of one file, one at a time. Thread-safe. Ranges lie within the block, and on the disk.

    Where less than a sector is written, `read` gives the rest of it: what the disk holds now, parents included.
    """

    def __init__(self, session: WriteSession, tables: BlockTables, geometry: Geometry) -> None:
        self._session = session
        self._store = session.store
        self._space_control = space_control(session.store)
        self._geometry = geometry
        self._tables = tables
        self._in_flight = session.in_flight
        self._keeps_space = session.keeps_space

    def is_whole(self, block: int, within: int, length: int) -> bool:
        """Whether a range is all of a block that lies on the disk."""
        return within == 0 and length == self._geometry.block_length(block)

    # -- writing -----------------------------------------------------------------------------------------------

    def write(self, block: int, within: int, data: memoryview, read: DiskReader) -> None:
        """Write bytes. Raises: ImageClosedError, ImagePoisonedError, ParentNotFoundError, OSError."""
        ticket = self._in_flight.begin()
        try:
            file_offset = self._tables.full_place(block)
            if file_offset:
                self._session.begin()
                self._store.pwrite(data, file_offset + within)
                return
            with self._in_flight.block(block):
                facts = self._tables.facts(block)
                plan = plan_write(facts, whole=self.is_whole(block, within, len(data)))
                if plan is None:  # another thread has made the block while this one waited for it
                    self._store.pwrite(data, facts.full_place + within)
                elif plan.uses_bitmap:
                    first, sectors = self._whole_sectors(block, within, data, read)
                    with self._marked(block, facts, plan, first, len(sectors)) as file_offset:
                        self._store.pwrite(sectors, file_offset)
                else:
                    self._write_full(block, facts, plan, within, data)
        finally:
            self._in_flight.end(ticket)

    def _write_full(
        self, block: int, facts: BlockFacts, plan: WritePlan, within: int, data: memoryview
    ) -> None:
        """Write into a block that becomes fully present."""
        with self._space_for(block, facts, plan) as space:
            covers = len(data) == space.length
            if plan.must_zero and not space.known_zero and not covers:
                self._clear(space.file_offset, space.length, may_punch=True)
            self._store.pwrite(data, space.file_offset + within)
            self._tables.set_entry(block, PayloadState.FULLY_PRESENT, space.file_offset)

    def _whole_sectors(
        self, block: int, within: int, data: memoryview, read: DiskReader
    ) -> tuple[int, bytes | memoryview]:
        """Complete a range to whole sectors with what the disk holds there now: (offset in the block, content)."""
        sector_size = self._geometry.logical_sector_size
        before, after = within % sector_size, -(within + len(data)) % sector_size
        if not before and not after:
            return within, data
        start = block * self._geometry.block_size + within
        completed = b"".join((read(before, start - before), data, read(after, start + len(data))))
        return within - before, completed

    @contextmanager
    def _marked(
        self, block: int, facts: BlockFacts, plan: WritePlan, within: int, length: int
    ) -> Iterator[int]:
        """Give some sectors of a block whose others are the parent's a content of their own. Whole sectors.

        The body of the context writes the content, at the file offset that it is given; the tables follow after it.
        """
        sector_size = self._geometry.logical_sector_size
        with self._space_for(block, facts, plan) as space:
            if not space.known_zero and plan.needs_space:
                self._clear(space.file_offset, space.length, may_punch=True)
            yield space.file_offset + within
            sectors = range(within // sector_size, (within + length) // sector_size)
            self._tables.mark_sectors(block, plan, space.file_offset, sectors)

    def _space_for(self, block: int, facts: BlockFacts, plan: WritePlan) -> AbstractContextManager[Space]:
        """Where a block is to be written: new space if the plan needs some, else the block's own.

        New space is given back if the body of the context fails, unless the block's entry names it all the same.
        Raises: ImagePoisonedError, OSError.
        """
        if plan.needs_space:
            return _NewSpace(self._session.take(self._geometry.block_size), block, self._tables)
        self._session.begin()
        return nullcontext(Space(facts.file_offset, self._geometry.block_size, known_zero=False))

    # -- zeroing and trimming ----------------------------------------------------------------------------------

    def zero(self, block: int, within: int, length: int, read: DiskReader, *, may_unmap: bool) -> None:
        """Make a range read as zeroes, whatever a parent holds. Raises: as `write`."""
        ticket = self._in_flight.begin()
        try:
            with self._in_flight.block(block):
                self._zero(block, within, length, read, may_unmap=may_unmap)
        finally:
            self._in_flight.end(ticket)

    def trim(self, block: int) -> None:
        """Give up a block's content; it reads as zeroes. Raises: as `write`."""
        ticket = self._in_flight.begin()
        try:
            with self._in_flight.block(block):
                facts = self._tables.facts(block)
                self._empty(block, facts, state_after_trim(facts))
        finally:
            self._in_flight.end(ticket)

    def _zero(self, block: int, within: int, length: int, read: DiskReader, *, may_unmap: bool) -> None:
        facts = self._tables.facts(block)
        whole = self.is_whole(block, within, length)
        if facts.full_place and not (whole and may_unmap and not self._keeps_space):
            self._session.begin()
            self._clear(facts.full_place + within, length, may_punch=may_unmap)
        elif whole:
            state = state_after_zeroes(facts, may_unmap=may_unmap)
            if state is PayloadState.FULLY_PRESENT:
                self._fill(block, facts)
            else:
                self._empty(block, facts, state)
        elif not facts.reads_zero:
            for start, count in aligned_pieces(within, length, self._geometry.logical_sector_size):
                self._zero_part(block, start, count, read, may_punch=may_unmap)

    def _zero_part(self, block: int, within: int, length: int, read: DiskReader, *, may_punch: bool) -> None:
        """Zero whole sectors, or a part of one, in a block that leaves others to the parent."""
        facts = self._tables.facts(block)
        plan = plan_write(facts, whole=False)
        if plan is None:  # the part before this one was all that the block had still left to the parent
            self._clear(facts.full_place + within, length, may_punch=may_punch)
        elif length % self._geometry.logical_sector_size:
            first, sectors = self._whole_sectors(block, within, memoryview(bytes(length)), read)
            with self._marked(block, facts, plan, first, len(sectors)) as file_offset:
                self._store.pwrite(sectors, file_offset)
        else:
            with self._marked(block, facts, plan, within, length) as file_offset:
                self._clear(file_offset, length, may_punch=may_punch)

    def _fill(self, block: int, facts: BlockFacts) -> None:
        """Make a block that is not fully present so, with zeroes that have host space."""
        with self._space_for(block, facts, plan_fill(facts)) as space:
            if space.known_zero:
                self._space_control.reserve(space.length, space.file_offset)
            else:
                self._clear(space.file_offset, space.length, may_punch=False)
            self._tables.set_entry(block, PayloadState.FULLY_PRESENT, space.file_offset)

    def _empty(self, block: int, facts: BlockFacts, state: PayloadState) -> None:
        """Put a block into a state without file space; what it had is freed."""
        if state is facts.state:
            return
        self._tables.set_entry(block, state, 0)
        if facts.file_offset:
            self._session.free(facts.file_offset, self._geometry.block_size)

    def _clear(self, file_offset: int, length: int, *, may_punch: bool) -> None:
        """Put zeroes into a range of the file; a fixed image keeps its host space in any case."""
        if may_punch and not self._keeps_space:
            self._store.write_zeroes(length, file_offset)
        else:
            write_zeroes(self._store.pwrite, length, file_offset)


class _NewSpace:
    """Space that a block is to get: given back if the body of the context fails.

    A class, because a generator takes its time in every small write into a new block.
    """

    def __init__(self, space: Space, block: int, tables: BlockTables) -> None:
        self._space = space
        self._block = block
        self._tables = tables

    def __enter__(self) -> Space:
        return self._space

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self._tables.give_back(self._space, self._block)
