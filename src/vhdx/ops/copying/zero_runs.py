"""Finding the zeroes in a buffer, in a small part of the time that reading the buffer took.

`bytearray.startswith` is a memcmp that stops at the first difference; comparing memoryviews is a hundred
times slower. A granule of zeroes begins with a zero byte. So a slice with the first byte of every granule tells
which granules have to be compared at all: of dense data hardly any.
"""

from typing import Final

from vhdx._units import KIB

GRANULE: Final = 4 * KIB
"""Shortest run of zeroes that is left out, in bytes: the block of nearly every file system."""

BUFFER_SIZE: Final = 256 * KIB
"""Largest buffer that is looked at in one go, in bytes: small enough to stay in the processor's cache."""

_ZERO_GRANULE: Final = bytes(GRANULE)
_ZERO_BUFFER: Final = bytes(BUFFER_SIZE)


def is_zero(buffer: bytearray, length: int) -> bool:
    """Whether the first `length` bytes (at most BUFFER_SIZE) are zero."""
    if length == BUFFER_SIZE:
        return buffer.startswith(_ZERO_BUFFER)
    return buffer.startswith(_ZERO_BUFFER[:length])


def data_runs(buffer: bytearray, length: int) -> list[tuple[int, int]]:
    """Runs (start, end) of the first `length` bytes of a buffer that leave out every granule of zeroes.

    `length` is at most BUFFER_SIZE. The first granule begins with the buffer. The last one may be shorter, and is
    left out as well if it is zero.
    """
    if is_zero(buffer, length):
        return []
    runs: list[tuple[int, int]] = []
    count = length // GRANULE
    heads = buffer[: count * GRANULE : GRANULE]
    start = 0
    index = heads.find(0)
    while index >= 0:
        end = index
        while end < count and buffer.startswith(_ZERO_GRANULE, end * GRANULE):
            end += 1
        if end == index:
            index = heads.find(0, index + 1)
            continue
        if index * GRANULE > start:
            runs.append((start, index * GRANULE))
        start = end * GRANULE
        index = heads.find(0, end)
    tail = count * GRANULE
    end = tail if buffer.startswith(_ZERO_GRANULE[: length - tail], tail) else length
    if end > start:
        runs.append((start, end))
    return runs
