"""Zeroes where no system call makes them: a buffer to compare or write, and loops over it."""

from collections.abc import Callable
from typing import Final

from vhdx._units import MIB
from vhdx.storage.base import ByteStore, space_control

ZEROES: Final = memoryview(bytes(MIB))
"""Read-only. The system backs all of it with one page of its own until it is read."""


def fill_zeroes(view: memoryview) -> None:
    """Make every byte of a writable view of bytes zero."""
    for start in range(0, len(view), len(ZEROES)):
        with view[start : start + len(ZEROES)] as part:
            part[:] = ZEROES[: len(part)]


def write_zeroes(pwrite: Callable[[memoryview, int], object], length: int, file_offset: int) -> None:
    """Write `length` zeroes by calls of `pwrite` (data, file offset). Raises: as `pwrite`."""
    end = file_offset + length
    for position in range(file_offset, end, len(ZEROES)):
        pwrite(ZEROES[: end - position], position)


def reserve_space(store: ByteStore, length: int) -> None:
    """Take host space for the first `length` bytes of an empty store, so that writing them finds room.

    Where the system cannot reserve, zeroes are written. Raises: OSError (ENOSPC).
    """
    if not space_control(store).reserve(length, 0):
        write_zeroes(store.pwrite, length, 0)
