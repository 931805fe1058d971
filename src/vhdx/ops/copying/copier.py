"""Copying one unit of a disk into a file, by the cheapest way that keeps zeroes from taking space.

Nothing is done for what is known to be zero. Where zeroes are to be left out, the rest goes through a buffer,
of which only the runs that are not zero are written; on a file system that can share blocks between files,
the first data found ends the search, and the remainder of its range is shared. Where zeroes need not be left
out, the kernel copies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vhdx._units import KIB, MIB, align_down
from vhdx.blockdev.device import BlockDevice
from vhdx.ops.copying.source_walk import DeviceReader, HoleMap, Piece, Unit, open_pieces
from vhdx.ops.copying.unit_workers import Stopped, Turns, Workers
from vhdx.ops.copying.zero_runs import BUFFER_SIZE, data_runs
from vhdx.storage.base import ByteStore, read_fully
from vhdx.storage.copy import RangeCopier

_FIRST_LOOK: Final = 64 * KIB
"""Bytes that are read where sharing the rest is likely to succeed."""
_SHARED_ALIGNMENT: Final = 4 * KIB
_KERNEL_STEP: Final = 32 * MIB
"""Most that is copied, in bytes, between two looks whether to stop."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where units go.

    `place` tells the file offset of a unit's first byte; it is called once for a unit, when the first byte
    of it is written, and in the order of the units if `is_ordered`. `is_blank`: the space there reads as
    zeroes. Otherwise all of it is written, `slot_size` bytes (None: as many as the unit has), and a unit
    without data too if `writes_all`.
    """

    store: ByteStore
    place: Callable[[Unit], int]
    is_ordered: bool
    is_blank: bool
    writes_all: bool
    slot_size: int | None = None


class _Slot:
    """The place of one unit, found when it is first needed, filled from its start to its end."""

    def __init__(self, target: Target, turns: Turns, number: int, unit: Unit) -> None:
        self._target = target
        self._turns = turns
        self._number = number
        self._unit = unit
        self._start: int | None = None
        self._cursor = unit.offset

    def at(self, position: int, length: int) -> int:
        """File offset for a virtual offset, where `length` bytes are about to be written."""
        if self._start is None:
            self._start = self._place()
        if not self._target.is_blank:
            self._fill(position)
            self._cursor = position + length
        return self._start + position - self._unit.offset

    def finish(self) -> None:
        """Write the zeroes after the last data, where that has to be done."""
        target, unit = self._target, self._unit
        if target.is_blank or (self._start is None and not target.writes_all):
            return
        end = unit.offset + (target.slot_size or unit.length)
        self.at(end, 0)

    def _place(self) -> int:
        if not self._target.is_ordered:
            return self._target.place(self._unit)
        self._turns.wait(self._number)
        start = self._target.place(self._unit)
        self._turns.give_up(self._number)
        return start

    def _fill(self, position: int) -> None:
        if self._start is not None and position > self._cursor:
            place = self._start + self._cursor - self._unit.offset
            self._target.store.write_zeroes(position - self._cursor, place)


class Copier:
    """Copies units, one after the other, with one buffer: each worker has its own."""

    def __init__(
        self,
        source: BlockDevice,
        holes: HoleMap,
        target: Target,
        workers: Workers[Unit],
        *,
        leave_out_zeroes: bool,
    ) -> None:
        self.done = 0
        self._source = source
        self._holes = holes
        self._target = target
        self._workers = workers
        self._leave_out_zeroes = leave_out_zeroes and target.is_blank
        self._can_share = False
        self._buffer = bytearray(BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._ranges = RangeCopier(target.store, self._buffer)

    def copy(self, number: int, unit: Unit) -> None:
        """Copy the unit that is the `number`-th. `done` grows by the bytes of data in it.

        Raises: Stopped, OSError, FormatError, ParentNotFoundError.
        """
        turns = self._workers.turns
        slot = _Slot(self._target, turns, number, unit)
        try:
            with open_pieces(self._source, unit, self._holes) as pieces:
                for piece in pieces:
                    if piece.store is not None:
                        self._copy_piece(piece, piece.store, slot)
            slot.finish()
        finally:
            turns.give_up(number)

    def _copy_piece(self, piece: Piece, store: ByteStore | DeviceReader, slot: _Slot) -> None:
        if self._leave_out_zeroes:
            self._copy_sparsely(piece, store, slot)
        elif piece.is_plain and not isinstance(store, DeviceReader):
            self._copy_densely(piece, store, slot)
        else:
            for start in range(0, piece.length, BUFFER_SIZE):
                length = min(BUFFER_SIZE, piece.length - start)
                self._read(store, piece.file_offset + start, length)
                self._write(0, length, slot.at(piece.offset + start, length))
                self.done += length

    def _copy_densely(self, piece: Piece, store: ByteStore, slot: _Slot) -> None:
        for start in range(0, piece.length, _KERNEL_STEP):
            self._look_whether_to_stop()
            length = min(_KERNEL_STEP, piece.length - start)
            place = slot.at(piece.offset + start, length)
            self._ranges.copy(store, piece.file_offset + start, place, length)
            self.done += length

    def _copy_sparsely(self, piece: Piece, store: ByteStore | DeviceReader, slot: _Slot) -> None:
        shareable = store if piece.is_plain and not isinstance(store, DeviceReader) else None
        done = 0
        while done < piece.length:
            self._look_whether_to_stop()
            # Ends at a multiple of its size, so that the granules looked at are those of the file system.
            size = _FIRST_LOOK if shareable and self._can_share else BUFFER_SIZE
            length = min(size - (piece.offset + done) % size, piece.length - done)
            self._read(store, piece.file_offset + done, length)
            runs = data_runs(self._buffer, length)
            if runs and shareable is not None:
                count = self._share(piece, shareable, done, slot)
                shareable = None
                if count:
                    done += count
                    self.done += count
                    continue
            for start, end in runs:
                self._write(start, end, slot.at(piece.offset + done + start, end - start))
            done += length
            self.done += length

    def _share(self, piece: Piece, store: ByteStore, done: int, slot: _Slot) -> int:
        """Let the file system share what it can of the rest of a piece; return how many bytes that was."""
        length = align_down(piece.length - done, _SHARED_ALIGNMENT)
        if not length:
            return 0
        place = slot.at(piece.offset + done, length)
        self._can_share = self._ranges.share(store, piece.file_offset + done, place, length)
        return length if self._can_share else 0

    def _read(self, store: ByteStore | DeviceReader, file_offset: int, length: int) -> None:
        with self._view[:length] as part:
            read_fully(store, part, file_offset)

    def _write(self, start: int, end: int, file_offset: int) -> None:
        with self._view[start:end] as part:
            self._target.store.pwrite(part, file_offset)

    def _look_whether_to_stop(self) -> None:
        if self._workers.is_stopping:
            raise Stopped
