"""How much of a file in the mount takes space, and where its holes are: with bounded work for each call.

The device is divided into slices. For each slice a file keeps how much of it is allocated, together with the mark
that the slice had at that time. Every change of a slice gives it a new mark, so that the next call sees which figures
are out of date, and computes these anew.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

from vhdx._units import align_up, div_ceil
from vhdx.errors import VhdxError

if TYPE_CHECKING:
    from vhdx.blockdev.device import BlockDevice

MAX_SLICES: Final = 1024
MIN_SLICE_SIZE: Final = 16 << 20
EXTENTS_PER_QUESTION: Final = 20_000
"""Extents after which one call looks at no further slice."""
EXTENTS_PER_SEEK: Final = 50_000
_FIRST_STEP_BLOCKS: Final = 256


class Changes:
    """Which slices of a device have changed, and when. Safe for many threads."""

    def __init__(self, device: BlockDevice) -> None:
        unit = max(device.limits.allocation_size, 1)
        wanted = max(div_ceil(device.size, MAX_SLICES), MIN_SLICE_SIZE, 1)
        self.slice_size = align_up(wanted, unit)
        self._clock = count(1)
        self._marks = [0] * div_ceil(device.size, self.slice_size)

    def note(self, offset: int, length: int) -> None:
        """Take note that a range has changed. To be called after the change."""
        for index in range(offset // self.slice_size, div_ceil(offset + length, self.slice_size)):
            self._marks[index] = next(self._clock)

    def mark(self, index: int) -> int:
        """A number that grows with every change of the slice."""
        return self._marks[index]


class Allocation:
    """The allocated bytes of one range of a device. Safe for many threads."""

    def __init__(self, device: BlockDevice, changes: Changes, offset: int, length: int) -> None:
        self._device = device
        self._changes = changes
        self._offset = offset
        self._end = offset + length
        self._known: dict[int, tuple[int, int]] = {}

    def bytes(self) -> int:
        """Bytes that have space in a file, whichever file of a chain it is.

        Never too few: a slice that has not been looked at yet, or whose table is damaged, counts in full.
        """
        size = self._changes.slice_size
        budget = EXTENTS_PER_QUESTION
        total = 0
        for index in range(self._offset // size, div_ceil(self._end, size)):
            start, end = max(index * size, self._offset), min((index + 1) * size, self._end)
            mark = self._changes.mark(index)
            known_mark, known = self._known.get(index, (-1, end - start))
            if known_mark != mark and budget > 0:
                known, looked_at = self._scan(start, end)
                self._known[index] = mark, known
                budget -= looked_at
            total += known
        return total

    def _scan(self, start: int, end: int) -> tuple[int, int]:
        allocated = looked_at = 0
        try:
            for extent in self._device.extents(start, end - start):
                looked_at += 1
                if not extent.hole:
                    allocated += extent.length
        except (VhdxError, OSError):
            allocated = end - start  # the error is told to the program that reads there
        return allocated, looked_at


def next_data(device: BlockDevice, offset: int, end: int) -> int:
    """Where data begins at or after a byte offset; `end` if nothing follows. Raises: VhdxError, OSError.

    In a table too fragmented to be searched at once, data are said to begin where the search has stopped, so that
    more is read than need be.
    """
    return _search(device, offset, end, zero=False, give_up_at_end=False)


def next_hole(device: BlockDevice, offset: int, end: int) -> int:
    """Where a hole begins at or after a byte offset; `end` counts as a hole.

    In a table too fragmented to be searched at once, no hole is found before `end`. Raises: VhdxError, OSError.
    """
    return _search(device, offset, end, zero=True, give_up_at_end=True)


def _search(device: BlockDevice, offset: int, end: int, *, zero: bool, give_up_at_end: bool) -> int:
    # Each step is longer than the one before: where the answer is near, the device need not look at millions of
    # entries of its table.
    step = _FIRST_STEP_BLOCKS * max(device.limits.allocation_size, 1)
    looked_at = 0
    position = offset
    while position < end:
        stop = min(position + step, end)
        for extent in device.extents(position, stop - position):
            if extent.zero == zero:
                return extent.offset
            looked_at += 1
            if looked_at > EXTENTS_PER_SEEK:
                return end if give_up_at_end else extent.offset
        position = stop
        step *= 4
    return end
