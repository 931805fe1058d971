"""Sector bitmaps: which sectors of a partially present block are in this file ([MS-VHDX] 2.4).

Bit `s` of a run of bytes is bit `s & 7`, counted from the least significant, of byte `s >> 3`.
"""

from collections.abc import Iterator
from typing import Final

_PIECE_BITS: Final = 4096
_ONES: Final = b"\xff" * (_PIECE_BITS // 8)
_ZEROES: Final = bytes(_PIECE_BITS // 8)


def runs(bits: bytes, first: int, count: int) -> Iterator[tuple[bool, int]]:
    """Split `count` bits from bit `first` on into maximal runs of (set, length in bits).

    Work and memory are bounded by the bits looked at, not by the number of runs.
    """
    pending_set = False
    pending = 0
    for is_set, length in _short_runs(bits, first, count):
        if pending and is_set is not pending_set:
            yield pending_set, pending
            pending = 0
        pending_set = is_set
        pending += length
    if pending:
        yield pending_set, pending


def _short_runs(bits: bytes, first: int, count: int) -> Iterator[tuple[bool, int]]:
    """Runs that end at piece boundaries too."""
    position, end = first, first + count
    while position < end:
        length = min(end - position, _PIECE_BITS - position % _PIECE_BITS)
        piece = bits[position // 8 : (position + length + 7) // 8]
        if length == _PIECE_BITS and piece == _ZEROES:
            yield False, length
        elif length == _PIECE_BITS and piece == _ONES:
            yield True, length
        else:
            yield from _integer_runs(int.from_bytes(piece, "little") >> position % 8, length)
        position += length


def _integer_runs(value: int, count: int) -> Iterator[tuple[bool, int]]:
    """Runs of the low `count` bits of an integer, lowest first."""
    value &= (1 << count) - 1
    while count:
        is_set = bool(value & 1)
        sought = ~value if is_set else value
        # The lowest bit that differs ends the run; none within `count` means the rest is one run.
        length = min((sought & -sought).bit_length() - 1, count) if sought else count
        yield is_set, length
        value >>= length
        count -= length


def set_bits(bits: bytearray, first: int, count: int) -> None:
    """Set `count` bits from bit `first` on."""
    if count <= 0:
        return
    start, end = first // 8, (first + count + 7) // 8
    mask = ((1 << count) - 1) << (first % 8)
    value = int.from_bytes(bits[start:end], "little") | mask
    bits[start:end] = value.to_bytes(end - start, "little")
