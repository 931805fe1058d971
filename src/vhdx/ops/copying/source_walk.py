"""Walking a disk that is to be copied: which parts hold data, and where that data can be had."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from vhdx._buffer import Buffer
from vhdx._units import KIB, align_down
from vhdx.blockdev.device import ZERO, Ability, BlockDevice, Range
from vhdx.errors import ParentNotFoundError
from vhdx.ops.progress import Progress, no_progress
from vhdx.storage.base import ByteStore, StoreExtent, StoreKind

_EXTENTS_PER_TICK: Final = 1024
_SMALL: Final = 64 * KIB
"""Below this length in bytes, asking the file system for holes costs more than reading."""


class Unit(NamedTuple):
    """A part of the disk that is copied by one worker in one go. Virtual offset and length in bytes."""

    offset: int
    length: int


class UnitPart(NamedTuple):
    """A part of a unit that is alike throughout. Offsets and length in bytes."""

    offset: int
    """Virtual offset."""
    length: int
    store: "ByteStore | DeviceReader | None"
    """Where the content can be read; None if it reads as zeroes."""
    file_offset: int
    """Of the content in the store."""
    by_descriptor: bool
    """Whether the store's descriptor, if it has one, gives the same bytes as its `pread_into`."""


class DeviceReader:
    """A device in the place of a store, for devices that cannot say where their content lies."""

    name: str | None = None

    def __init__(self, device: BlockDevice) -> None:
        self._device = device

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        """Fill a buffer from a virtual offset, which has to be inside the device."""
        self._device.pread_into(buffer, file_offset)
        with memoryview(buffer) as view:
            return view.nbytes


def count_data(source: BlockDevice, progress: Progress = no_progress) -> int:
    """Bytes of the disk that have content of their own; looks at metadata only.

    `progress` is told the bytes of the disk that have been looked at, and its size. Raises:
    ParentNotFoundError if a part lies in a parent that is not there; FormatError, OSError.
    """
    total = 0
    for number, extent in enumerate(source.extents()):
        if number % _EXTENTS_PER_TICK == 0:
            progress(extent.offset, source.size)
        if extent.unreadable:
            raise ParentNotFoundError(
                f"{extent.length} bytes at virtual offset {extent.offset} lie in a parent that is not open;"
                " name it with --parent PATH or allow its directory with --parent-root DIR"
            )
        if extent.data:
            total += extent.length
    return total


def data_units(source: BlockDevice, unit_size: int) -> Iterator[Unit]:
    """Find the windows of `unit_size` bytes that hold any data, in ascending order.

    Constant memory, and no work for the space between two extents of data.
    """
    reached = 0
    for extent in source.extents():
        if not extent.data:
            continue
        first = max(reached, align_down(extent.offset, unit_size))
        for start in range(first, extent.end, unit_size):
            yield Unit(start, min(unit_size, source.size - start))
            reached = start + unit_size


def all_units(source: BlockDevice, unit_size: int) -> Iterator[Unit]:
    """Split the whole disk into windows of `unit_size` bytes."""
    for start in range(0, source.size, unit_size):
        yield Unit(start, min(unit_size, source.size - start))


class HoleMap:
    """Where the holes of files are, remembered from one question to the next.

    To find the end of a run of data, a file system may have to walk over all of that run. So the whole run is asked
    for, however small the part is that is needed now, and remembered. All workers share one map without a lock: one
    of them may replace what another has just remembered, but each answer is right as long as nobody changes the
    files.
    """

    def __init__(self) -> None:
        self._last: dict[ByteStore, StoreExtent] = {}

    def extents(self, store: ByteStore, file_offset: int, length: int) -> Iterator[StoreExtent]:
        """As `ByteStore.extents`. Raises: OSError."""
        if store.fileno() is None:
            yield from store.extents(file_offset, length)
            return
        end = file_offset + length
        while file_offset < end:
            known = self._last.get(store)
            if known is None or not 0 <= file_offset - known.file_offset < known.length:
                reach = max(end, store.size()) - file_offset
                known = self._last[store] = next(store.extents(file_offset, reach))
            stop = min(end, known.file_offset + known.length)
            yield StoreExtent(file_offset, stop - file_offset, known.kind)
            file_offset = stop


@contextmanager
def open_unit(source: BlockDevice, unit: Unit, holes: HoleMap) -> Iterator[Iterator[UnitPart]]:
    """Split a unit into parts, in order and without gaps. Their places stay valid until the context ends."""
    if source.limits.ranges is Ability.NONE:
        yield _parts_of_extents(source, unit)
    else:
        with source.ranges(unit.offset, unit.length) as ranges:
            yield _parts_of_ranges(ranges, unit.offset, holes)


def _parts_of_extents(source: BlockDevice, unit: Unit) -> Iterator[UnitPart]:
    reader = DeviceReader(source)
    for extent in source.extents(unit.offset, unit.length):
        store = None if extent.zero else reader
        yield UnitPart(extent.offset, extent.length, store, extent.offset, by_descriptor=False)


def _parts_of_ranges(ranges: Iterator[Range], offset: int, holes: HoleMap) -> Iterator[UnitPart]:
    for store, file_offset, length in ranges:
        if store is ZERO:
            yield UnitPart(offset, length, None, 0, by_descriptor=False)
        elif length < _SMALL:
            yield UnitPart(offset, length, store, file_offset, by_descriptor=False)
        else:
            for start, count, kind in holes.extents(store, file_offset, length):
                place = None if kind is StoreKind.HOLE else store
                by_descriptor = kind is StoreKind.DATA
                yield UnitPart(offset + start - file_offset, count, place, start, by_descriptor)
        offset += length
