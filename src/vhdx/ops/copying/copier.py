"""Copying a disk into a new file, each unit by the cheapest way that gives zeroes no space.

What the tables call zero is not even read. Where zeroes are to be found in the data as well, it is read into a
buffer, of which only the runs that are not zero are written. On a file system that can share blocks between
files, the search ends with the first data: from there on, the rest of the range is shared with the source.
Where zeroes need not be found, the kernel copies from file to file.
"""

from collections.abc import Callable
from typing import Final

from vhdx._units import KIB, MIB, align_down
from vhdx.blockdev.device import BlockDevice
from vhdx.ops.copying.source_walk import (
    DeviceReader,
    HoleMap,
    Unit,
    UnitPart,
    all_units,
    data_units,
    open_unit,
)
from vhdx.ops.copying.targets import Target
from vhdx.ops.copying.unit_workers import Stopped, UnitWorkers
from vhdx.ops.copying.zero_runs import BUFFER_SIZE, data_runs
from vhdx.ops.progress import Progress
from vhdx.storage.base import ByteStore, read_fully
from vhdx.storage.copy import RangeCopier

_FIRST_LOOK: Final = 64 * KIB
"""Bytes that are read where sharing the rest is likely to succeed."""
_SHARED_ALIGNMENT: Final = 4 * KIB
_KERNEL_STEP: Final = 32 * MIB
"""Most that is copied, in bytes, between two looks whether to stop."""


class _Slot:
    """The place of one unit, found when the first byte is about to be written, filled from start to end."""

    def __init__(self, target: Target, number: int, unit: Unit) -> None:
        self._target = target
        self._number = number
        self._unit = unit
        self._start: int | None = None
        self._cursor = unit.offset

    def at(self, position: int, length: int) -> int:
        """File offset for a virtual offset, where `length` bytes are about to be written."""
        if self._start is None:
            self._start = self._target.place(self._number, self._unit)
        place = self._start + position - self._unit.offset
        if not self._target.is_blank:
            gap = position - self._cursor
            if gap > 0:
                self._target.store.write_zeroes(gap, place - gap)
            self._cursor = position + length
        return place

    def finish(self) -> None:
        """Write the zeroes after the last data, where that has to be done."""
        target, unit = self._target, self._unit
        if not target.is_blank and (self._start is not None or target.writes_all):
            self.at(unit.offset + target.space_of(unit), 0)


class Copier:
    """Copies units, one after the other, with one buffer: each worker has its own."""

    def __init__(
        self,
        source: BlockDevice,
        holes: HoleMap,
        target: Target,
        workers: UnitWorkers[Unit],
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
        slot = _Slot(self._target, number, unit)
        try:
            with open_unit(self._source, unit, self._holes) as parts:
                for part in parts:
                    if part.store is not None:
                        self._copy_part(part, part.store, slot)
            slot.finish()
        finally:
            self._target.give_up(number)

    def _copy_part(self, part: UnitPart, store: ByteStore | DeviceReader, slot: _Slot) -> None:
        if self._leave_out_zeroes:
            self._copy_sparsely(part, store, slot)
        elif part.by_descriptor and not isinstance(store, DeviceReader):
            self._copy_densely(part, store, slot)
        else:
            for start in range(0, part.length, BUFFER_SIZE):
                length = min(BUFFER_SIZE, part.length - start)
                self._read(store, part.file_offset + start, length)
                self._write(0, length, slot.at(part.offset + start, length))
                self.done += length

    def _copy_densely(self, part: UnitPart, store: ByteStore, slot: _Slot) -> None:
        for start in range(0, part.length, _KERNEL_STEP):
            self._look_whether_to_stop()
            length = min(_KERNEL_STEP, part.length - start)
            place = slot.at(part.offset + start, length)
            self._ranges.copy(store, part.file_offset + start, place, length)
            self.done += length

    def _copy_sparsely(self, part: UnitPart, store: ByteStore | DeviceReader, slot: _Slot) -> None:
        shareable = store if part.by_descriptor and not isinstance(store, DeviceReader) else None
        done = 0
        while done < part.length:
            self._look_whether_to_stop()
            # Ends at a multiple of its size, so that the granules looked at are those of the file system.
            size = _FIRST_LOOK if shareable and self._can_share else BUFFER_SIZE
            length = min(size - (part.offset + done) % size, part.length - done)
            self._read(store, part.file_offset + done, length)
            runs = data_runs(self._buffer, length)
            if runs and shareable is not None:
                count = self._share(part, shareable, done, slot)
                shareable = None
                if count:
                    done += count
                    self.done += count
                    continue
            for start, end in runs:
                self._write(start, end, slot.at(part.offset + done + start, end - start))
            done += length
            self.done += length

    def _share(self, part: UnitPart, store: ByteStore, done: int, slot: _Slot) -> int:
        """Let the file system share what it can of the rest of a part; return how many bytes that was."""
        length = align_down(part.length - done, _SHARED_ALIGNMENT)
        if not length:
            return 0
        place = slot.at(part.offset + done, length)
        self._can_share = self._ranges.share(store, part.file_offset + done, place, length)
        return length if self._can_share else 0

    def _read(self, store: ByteStore | DeviceReader, file_offset: int, length: int) -> None:
        with self._view[:length] as data:
            read_fully(store, data, file_offset)

    def _write(self, start: int, end: int, file_offset: int) -> None:
        with self._view[start:end] as data:
            self._target.store.pwrite(data, file_offset)

    def _look_whether_to_stop(self) -> None:
        if self._workers.is_stopping:
            raise Stopped


def copy_units(
    source: BlockDevice, target: Target, total: int, *, sparse: bool, threads: int, progress: Progress
) -> None:
    """Copy what a disk holds into a target; `total` is the number of bytes of data in it, for `progress`.

    Raises: OSError, FormatError, ParentNotFoundError, and what `progress` raises.
    """
    find_units = all_units if target.writes_all else data_units
    workers: UnitWorkers[Unit] = UnitWorkers(find_units(source, target.unit_size), threads, target.stop)
    copiers: list[Copier] = []
    holes = HoleMap()

    def make_work() -> Callable[[int, Unit], None]:
        copier = Copier(source, holes, target, workers, leave_out_zeroes=sparse)
        copiers.append(copier)
        return copier.copy

    def on_tick() -> None:
        # Host holes inside what the source calls data count for the total, but are not copied.
        progress(min(total, sum(copier.done for copier in copiers)), total)

    workers.run(make_work, on_tick)
    progress(total, total)
