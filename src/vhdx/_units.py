"""Binary units and the integer arithmetic that offsets and sizes need; ints only."""

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
