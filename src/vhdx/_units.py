"""Binary units and the integer arithmetic that offsets and sizes need; ints only."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
TIB: Final = 1 << 40

MAX_FILE_OFFSET: Final = (1 << 63) - 1
"""Largest offset an operating system's file calls take (signed 64 bits)."""


def div_ceil(dividend: int, divisor: int) -> int:
    """Divide, rounding up."""
    return -(-dividend // divisor)


def align_up(value: int, alignment: int) -> int:
    """Round `value` up to a multiple of `alignment`."""
    return div_ceil(value, alignment) * alignment


def align_down(value: int, alignment: int) -> int:
    """Round `value` down to a multiple of `alignment`."""
    return value // alignment * alignment


def is_power_of_two(value: int) -> bool:
    """Whether `value` is 1, 2, 4, 8, ...; zero and negative numbers are not."""
    return value > 0 and value & (value - 1) == 0


def aligned_pieces(start: int, length: int, unit: int) -> Iterator[tuple[int, int]]:
    """Split a range into its whole units, all in one, and the parts of units at its ends: (start, length)."""
    end = start + length
    first, last = align_up(start, unit), align_down(end, unit)
    edges = (start, end) if first > last else (start, first, last, end)
    for at, stop in pairwise(edges):
        if at < stop:
            yield at, stop - at
