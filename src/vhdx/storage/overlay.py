"""A read-only view of a store in which some sectors are replaced and some ranges read as zeroes.

The content of a byte comes from the first of these that there is: a patch of its sector, a zero interval, the base;
where the base ends before the view does, it is zero. The view does not hold the contents of the patches: it keeps
two 64-bit numbers for each patch, and asks its owner for the 4096 bytes when they are read.
"""

import io
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from vhdx._buffer import Buffer
from vhdx._handles import Handle
from vhdx.storage.base import ByteStore, StoreExtent, StoreKind, read_ahead
from vhdx.storage.zeroes import fill_zeroes

SECTOR_SIZE: Final = 4096


class _Segment(NamedTuple):
    """A part of a range with one source: OVERLAY is a patch, HOLE a zero interval, DATA the base."""

    start: int
    end: int
    kind: StoreKind


class OverlayStore(Handle):
    """A view of `base`, which is closed with the view. The module tells where its bytes come from.

    Every change raises io.UnsupportedOperation. Thread-safe if `base` and `load` are.

    Once the base itself holds what the view shows, `settle` says so: from then on the base answers everything.
    """

    def __init__(
        self,
        base: ByteStore,
        *,
        patches: Mapping[int, int],
        load: Callable[[int, memoryview], None],
        zeroes: Iterable[tuple[int, int]] = (),
        size: int | None = None,
        name: str | None = None,
    ) -> None:
        """Lay `patches` and `zeroes` over `base`.

        `patches` maps sector numbers (file offset // 4096) to tokens (signed 64-bit integers), and is copied;
        `load(token, into)` fills the 4096 bytes of `into`. `zeroes` are (start, end) file offsets in bytes,
        sorted by start. `size` is the length of the view in bytes, by default the base's.

        Raises: ValueError if `zeroes` are not sorted.
        """
        self.base = base
        self.name = base.name if name is None else name
        self._size = base.size() if size is None else size
        self._load = load
        self._sectors = array("Q", sorted(patches))
        self._tokens = array("q", map(patches.__getitem__, self._sectors))
        self._zero_starts, self._zero_ends = _joined(zeroes, self._size)
        self._is_closed = False
        self._is_settled = False

    def settle(self) -> None:
        """Answer everything from the base from now on, which holds what the view shows.

        Only reads that are under way may still call `load`.
        """
        self._is_settled = True

    def size(self) -> int:
        self._check_open()
        return self.base.size() if self._is_settled else self._size

    def patched_sectors(self) -> Iterator[int]:
        """Numbers of the sectors that are replaced, ascending."""
        return iter(self._sectors)

    def is_plain(self, file_offset: int, length: int) -> bool:
        """Whether the base alone holds a range: no patch, no zero interval, inside base and view.

        Raises: OSError, ValueError.
        """
        end = file_offset + length
        if self._is_settled:
            return end <= self.base.size()
        return self._is_untouched(file_offset, end) and end <= min(self._size, self.base.size())

    def _is_untouched(self, start: int, end: int) -> bool:
        """Whether no patch and no zero interval meets [start, end)."""
        sectors = self._sectors
        index = bisect_left(sectors, start // SECTOR_SIZE)
        if index < len(sectors) and sectors[index] * SECTOR_SIZE < end:
            return False
        index = bisect_right(self._zero_ends, start)
        return index == len(self._zero_starts) or self._zero_starts[index] >= end

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        """As every store. Raises: also what `load` does."""
        self._check_open()
        if self._is_settled:
            return self.base.pread_into(buffer, file_offset)
        with memoryview(buffer) as whole, whole.cast("B") as view:
            end = min(file_offset + len(view), self._size)
            if end <= file_offset:
                return 0
            if self._is_untouched(file_offset, end):
                self._read_base(view, file_offset, file_offset, end)
            else:
                self._read_segments(view, file_offset, end)
            return end - file_offset

    def _read_segments(self, view: memoryview, file_offset: int, end: int) -> None:
        for start, stop, kind in self._segments(file_offset, end):
            match kind:
                case StoreKind.DATA:
                    self._read_base(view, file_offset, start, stop)
                case StoreKind.HOLE:
                    fill_zeroes(view[start - file_offset : stop - file_offset])
                case StoreKind.OVERLAY:
                    self._read_patches(view, file_offset, start, stop)
        if self._is_settled:
            # Settled during this read: what has been loaded may have been overwritten where `load` finds it.
            self._read_base(view, file_offset, file_offset, end)

    def _read_base(self, view: memoryview, origin: int, start: int, end: int) -> None:
        with view[start - origin : end - origin] as part:
            count = self.base.pread_into(part, start)
            if count < len(part):
                fill_zeroes(part[count:])

    def _read_patches(self, view: memoryview, origin: int, start: int, end: int) -> None:
        index = bisect_left(self._sectors, start // SECTOR_SIZE)
        position = start
        while position < end:
            within = position % SECTOR_SIZE
            length = min(SECTOR_SIZE - within, end - position)
            with view[position - origin : position - origin + length] as part:
                if length == SECTOR_SIZE:
                    self._load(self._tokens[index], part)
                else:
                    sector = bytearray(SECTOR_SIZE)
                    self._load(self._tokens[index], memoryview(sector))
                    part[:] = memoryview(sector)[within : within + length]
            position += length
            index += 1

    def _segments(self, position: int, end: int) -> Iterator[_Segment]:
        """Split a range by where its content comes from."""
        sectors, starts, ends = self._sectors, self._zero_starts, self._zero_ends
        patch = bisect_left(sectors, position // SECTOR_SIZE)
        zero = bisect_right(ends, position)
        while position < end:
            next_patch = sectors[patch] * SECTOR_SIZE if patch < len(sectors) else end
            if next_patch <= position:
                after = patch + 1
                while after < len(sectors) and sectors[after] == sectors[after - 1] + 1:
                    if sectors[after] * SECTOR_SIZE >= end:
                        break
                    after += 1
                stop = min(end, (sectors[after - 1] + 1) * SECTOR_SIZE)
                kind, patch = StoreKind.OVERLAY, after
            else:
                while zero < len(ends) and ends[zero] <= position:
                    zero += 1
                next_zero = starts[zero] if zero < len(starts) else end
                if next_zero <= position:
                    stop, kind = min(end, next_patch, ends[zero]), StoreKind.HOLE
                else:
                    stop, kind = min(end, next_patch, next_zero), StoreKind.DATA
            yield _Segment(position, stop, kind)
            position = stop

    def extents(self, file_offset: int, length: int) -> Iterator[StoreExtent]:
        self._check_open()
        if self._is_settled:
            return self.base.extents(file_offset, length)
        return self._extents(file_offset, file_offset + length)

    def _extents(self, file_offset: int, end: int) -> Iterator[StoreExtent]:
        inside = max(file_offset, min(end, self._size))
        for start, stop, kind in self._segments(file_offset, inside):
            if kind is StoreKind.DATA:
                yield from self.base.extents(start, stop - start)
            else:
                yield StoreExtent(start, stop - start, kind)
        if inside < end:
            yield StoreExtent(inside, end - inside, StoreKind.HOLE)

    def read_ahead(self, length: int, file_offset: int) -> None:
        read_ahead(self.base, length, file_offset)

    def fileno(self) -> int | None:
        """None before `settle`: until then the base's descriptor is right only for ranges that are `is_plain`."""
        return self.base.fileno() if self._is_settled else None

    def pwrite(self, data: Buffer, file_offset: int) -> None:  # noqa: ARG002
        raise self._refusal()

    def truncate(self, size: int) -> None:  # noqa: ARG002
        raise self._refusal()

    def write_zeroes(self, length: int, file_offset: int) -> None:  # noqa: ARG002
        raise self._refusal()

    def flush(self) -> None:
        """Nothing to write: a view is never changed. Raises: ValueError if it is closed."""
        self._check_open()

    def close(self) -> None:
        self._is_closed = True
        self.base.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError(f"{self.name}: the store is closed")

    def _refusal(self) -> io.UnsupportedOperation:
        return io.UnsupportedOperation(f"{self.name}: a view that cannot be written")


def _joined(intervals: Iterable[tuple[int, int]], size: int) -> "tuple[array[int], array[int]]":
    """Starts and ends of sorted intervals clipped to `size`, those that meet made one, empty ones left out.

    Raises: ValueError if they are not sorted by start.
    """
    starts, ends = array("Q"), array("Q")
    previous = 0
    for start, end in intervals:
        if start < previous:
            raise ValueError("zero intervals must be sorted")
        previous = start
        end = min(end, size)
        if end <= start:
            continue
        if ends and start <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return starts, ends
