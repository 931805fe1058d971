"""Whether two disks read the same, reading no more of them than is needed to tell."""

import heapq
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, cast

from vhdx._units import MIB
from vhdx.blockdev.device import BlockDevice
from vhdx.ops.copying.source import DiskSource, use_disk
from vhdx.ops.copying.source_walk import (
    HoleMap,
    Unit,
    UnitPart,
    count_data,
    data_units,
    open_unit,
)
from vhdx.ops.copying.unit_workers import Stopped, UnitWorkers
from vhdx.ops.copying.zero_runs import BUFFER_SIZE, is_zero
from vhdx.ops.progress import Progress, no_progress
from vhdx.storage.base import ByteStore, is_same_file, read_fully

_UNIT_SIZE: Final = 16 * MIB


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two disks differ first."""

    offset: int
    """Virtual offset in bytes of the first byte that is not the same in both."""


def compare(
    a: DiskSource, b: DiskSource, *, threads: int = 2, progress: Progress = no_progress
) -> Difference | None:
    """Find the first difference between two disks; None if they read the same. Each is a device or a path.

    If their sizes differ, the longer one has to read as zeroes past the end of the other. What both know to
    be zero, and what both have at the same place of the same file, is not read. `progress` is told bytes of
    data, of both disks together.

    Raises: ParentNotFoundError before anything is read; FormatError, OSError.
    """
    with use_disk(a) as device_a, use_disk(b) as device_b:
        total = count_data(device_a) + count_data(device_b)
        comparison = _Comparison(device_a, device_b)
        workers: UnitWorkers[Unit] = UnitWorkers(comparison.units(), threads)
        workers.run(
            lambda: comparison.make_work(workers), lambda: progress(min(total, comparison.done), total)
        )
        progress(total, total)
        return comparison.difference


class _Comparison:
    """The state that the workers share."""

    def __init__(self, a: BlockDevice, b: BlockDevice) -> None:
        self.difference: Difference | None = None
        self.done = 0
        self._devices = (a, b)
        self._holes = HoleMap()
        self._size = max(a.size, b.size)
        self._lock = threading.Lock()

    def units(self) -> Iterator[Unit]:
        """Windows that hold data in either disk, in ascending order, until a difference is found.

        Windows before that of the difference are then already being looked at, so the lowest one wins.
        """
        reached = 0
        for unit in heapq.merge(*(data_units(device, _UNIT_SIZE) for device in self._devices)):
            if self.difference is not None:
                return
            if unit.offset >= reached:
                reached = unit.offset + _UNIT_SIZE
                yield Unit(unit.offset, min(_UNIT_SIZE, self._size - unit.offset))

    def make_work(self, workers: UnitWorkers[Unit]) -> Callable[[int, Unit], None]:
        """Make what one thread does with its units."""
        comparer = _Comparer(self._devices, self._holes, workers)

        def work(_: int, unit: Unit) -> None:
            offset = comparer.first_difference(unit)
            with self._lock:
                self.done += comparer.take_done()
                if offset is not None and (self.difference is None or offset < self.difference.offset):
                    self.difference = Difference(offset)

        return work


class _Comparer:
    """Compares units, one after the other, with two buffers: each worker has its own."""

    def __init__(
        self, devices: tuple[BlockDevice, BlockDevice], holes: HoleMap, workers: UnitWorkers[Unit]
    ) -> None:
        self._devices = devices
        self._holes = holes
        self._workers = workers
        self._buffers = (bytearray(BUFFER_SIZE), bytearray(BUFFER_SIZE))
        self._done = 0

    def take_done(self) -> int:
        """Bytes of data compared since the last call."""
        done, self._done = self._done, 0
        return done

    def first_difference(self, unit: Unit) -> int | None:
        """Virtual offset of the first difference in a unit, None if there is none."""
        a, b = self._devices
        with (
            open_unit(a, _clipped(unit, a), self._holes) as in_a,
            open_unit(b, _clipped(unit, b), self._holes) as in_b,
        ):
            for left, right in _side_by_side(in_a, in_b, unit):
                if self._workers.is_stopping:
                    raise Stopped
                offset = self._compare(left, right)
                if offset is not None:
                    return offset
        return None

    def _compare(self, left: UnitPart, right: UnitPart) -> int | None:
        if left.store is None and right.store is None:
            return None
        self._done += left.length * ((left.store is not None) + (right.store is not None))
        if _is_same_place(left, right):
            return None
        for start in range(0, left.length, BUFFER_SIZE):
            length = min(BUFFER_SIZE, left.length - start)
            within = self._compare_chunk(left, right, start, length)
            if within is not None:
                return left.offset + start + within
        return None

    def _compare_chunk(self, left: UnitPart, right: UnitPart, start: int, length: int) -> int | None:
        filled = []
        for part, buffer in zip((left, right), self._buffers, strict=True):
            if part.store is not None:
                with memoryview(buffer)[:length] as view:
                    read_fully(part.store, view, part.file_offset + start)
                filled.append(buffer)
        if len(filled) == 1:
            return None if is_zero(filled[0], length) else _first_unlike(filled[0], bytes(length))
        # Whole bytearrays compare by memcmp; slices of memoryviews do it byte by byte.
        x, y = filled if length == BUFFER_SIZE else (buffer[:length] for buffer in filled)
        return None if x == y else _first_unlike(x, y)


def _clipped(unit: Unit, device: BlockDevice) -> Unit:
    offset = min(unit.offset, device.size)
    return Unit(offset, min(unit.length, device.size - offset))


def _is_same_place(left: UnitPart, right: UnitPart) -> bool:
    if not (left.by_descriptor and right.by_descriptor) or left.file_offset != right.file_offset:
        return False
    return is_same_file(cast("ByteStore", left.store), cast("ByteStore", right.store))


def _side_by_side(
    in_a: Iterator[UnitPart], in_b: Iterator[UnitPart], unit: Unit
) -> Iterator[tuple[UnitPart, UnitPart]]:
    """Cut two runs of parts so that they match; past the end of a disk there are zeroes."""
    position, end = unit.offset, unit.offset + unit.length
    past_end = UnitPart(end, 0, None, 0, by_descriptor=False)
    a = b = past_end._replace(offset=position)
    while position < end:
        while a.offset + a.length <= position:
            a = next(in_a, None) or past_end._replace(offset=position, length=end - position)
        while b.offset + b.length <= position:
            b = next(in_b, None) or past_end._replace(offset=position, length=end - position)
        length = min(a.offset + a.length, b.offset + b.length) - position
        yield _cut(a, position, length), _cut(b, position, length)
        position += length


def _cut(part: UnitPart, position: int, length: int) -> UnitPart:
    file_offset = part.file_offset + position - part.offset
    return part._replace(offset=position, length=length, file_offset=file_offset)


def _first_unlike(x: bytearray | bytes, y: bytearray | bytes) -> int:
    """Index of the first byte that differs, of two buffers that do differ."""
    low, high = 0, min(len(x), len(y))
    while high - low > 1:
        middle = (low + high) // 2
        if x[low:middle] != y[low:middle]:
            high = middle
        else:
            low = middle
    return low
