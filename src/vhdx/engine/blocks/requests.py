"""Requests that change one file: which blocks they concern, and when they are durable."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from vhdx._units import aligned_pieces, div_ceil
from vhdx.engine.blocks.block_writer import BlockWriter
from vhdx.engine.blocks.plan import BlockFacts, state_after_trim, state_after_zeroes
from vhdx.engine.blocks.tables import BlockTables
from vhdx.format.bat import STATE_MASK, PayloadState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vhdx.blockdev.device import DiskReader
    from vhdx.engine.bat_table import BatTable
    from vhdx.engine.session.session import WriteSession
    from vhdx.format.header import Header


class Requests:
    """Changes one file. Thread-safe. Offsets are virtual; all ranges have been checked.

    `read(length, offset)` reads the disk through its parents: the device that is written to.
    """

    def __init__(self, session: WriteSession, bat: BatTable) -> None:
        self.session = session
        self.in_flight = session.in_flight
        self._bat = bat
        self._block_size = bat.geometry.block_size
        self._tables = BlockTables(session, bat)
        self._blocks = BlockWriter(session, self._tables, bat.geometry)
        self.check_sound = session.poison.check
        """Raises: ImagePoisonedError."""

    @property
    def header(self) -> Header:
        """The header that counts in the file now."""
        return self.session.header

    def write(self, data: memoryview, offset: int, read: DiskReader) -> None:
        """Write bytes. Raises: ImageClosedError, ImagePoisonedError, ParentNotFoundError, OSError."""
        self.check_sound()
        done = 0
        block, within = divmod(offset, self._block_size)
        if 0 < len(data) <= self._block_size - within:  # most requests
            self._blocks.write(block, within, data, read)
            return
        for block, within, length in self._split(offset, len(data)):
            self._blocks.write(block, within, data[done : done + length], read)
            done += length

    def write_zeroes(
        self, offset: int, length: int, read: DiskReader, *, may_unmap: bool, fast_only: bool = False
    ) -> None:
        """Make a range read as zeroes, whatever a parent holds. Raises: as `write`."""
        self.check_sound()
        if fast_only:
            self.check_fast_zeroes(offset, length, may_unmap=may_unmap)

        def is_idle(facts: BlockFacts) -> bool:
            zero = PayloadState.ZERO
            return facts.state is zero is state_after_zeroes(facts, may_unmap=may_unmap)

        for block, within, count in self._busy(offset, length, is_idle):
            self._blocks.zero(block, within, count, read, may_unmap=may_unmap)

    def trim(self, offset: int, length: int) -> None:
        """Give up the content of whole blocks; they read as zeroes. Parts of blocks stay as they are.

        Raises: as `write`.
        """
        self.check_sound()

        def is_idle(facts: BlockFacts) -> bool:
            return facts.state is state_after_trim(facts)

        for block, within, count in self._busy(offset, length, is_idle):
            if self._blocks.is_whole(block, within, count):
                self._blocks.trim(block)

    def check_fast_zeroes(self, offset: int, length: int, *, may_unmap: bool) -> None:
        """Refuse a range that cannot be zeroed by metadata alone. Raises: OSError (EOPNOTSUPP)."""
        fast = may_unmap and not self.session.keeps_space
        for start, count in aligned_pieces(offset, length, self._block_size):
            block, within = divmod(start, self._block_size)
            # Whole blocks get file space of their own unless they may give up what they have.
            is_whole = count > self._block_size or self._blocks.is_whole(block, within, count)
            if not (fast if is_whole else self._tables.facts(block).reads_zero):
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), "zeroing without writing")

    def writes_in_place(self, offset: int, length: int) -> bool:
        """Whether a write of this range finds the session begun and sound, and all blocks fully present."""
        if not self.session.has_begun or self.session.poison.cause is not None:
            return False
        first, last = offset // self._block_size, (offset + length - 1) // self._block_size
        entry_of = self._bat.payload_entry
        if entry_of(first) & STATE_MASK != PayloadState.FULLY_PRESENT:
            return False
        return first >= last or all(
            entry_of(block) & STATE_MASK == PayloadState.FULLY_PRESENT for block in range(first + 1, last + 1)
        )

    def flush(self) -> None:
        """Make everything whose call has returned durable. Raises: ImageClosedError, ImagePoisonedError, OSError."""
        self.session.flush()

    def close(self) -> None:
        """Wait for what other threads are doing, make everything durable and end the session. Raises: OSError."""
        self.session.end()

    def _split(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Split a range: (block, offset in it, length)."""
        end = offset + length
        while offset < end:
            block, within = divmod(offset, self._block_size)
            count = min(end - offset, self._block_size - within)
            yield block, within, count
            offset += count

    def _busy(
        self, offset: int, length: int, is_idle: Callable[[BlockFacts], bool]
    ) -> Iterator[tuple[int, int, int]]:
        """As `_split`, without blocks that need no change: ranges of terabytes hold hardly any others."""
        first, end = offset // self._block_size, offset + length
        for run in self._bat.runs(first, div_ceil(end, self._block_size) - first) if length else ():
            is_reserved = run.entry & STATE_MASK == PayloadState.RESERVED_4
            if is_reserved or not is_idle(self._tables.facts_of(run.entry)):
                start = max(offset, run.first_block * self._block_size)
                stop = min(end, (run.first_block + run.length) * self._block_size)
                yield from self._split(start, stop - start)
