"""Hints to the operating system about ranges of one open file: what will be read, what may go to the device."""

import errno
import os
from contextlib import suppress
from typing import Final

from vhdx import _host
from vhdx._units import KIB
from vhdx.storage import libc

WRITE_BEHIND_LENGTH: Final = 256 * KIB
"""Shorter writes are left to the system and to the next flush: the call would cost more than it saves."""

_READ_AHEAD_STEP: Final = 128 * KIB
_NO_WRITE_BEHIND: Final = _host.UNSUPPORTED | {errno.EPERM, errno.EACCES}
"""A sandbox that forbids the call answers with one of the last two. No device does, so no lost write is hidden."""


class FileHints:
    """`ReadAhead` and `WriteBehind` over a descriptor that stays its owner's, who checks that it is open."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        self._has_write_behind = _host.HAVE_SYNC_FILE_RANGE

    def read_ahead(self, length: int, file_offset: int) -> None:
        if _host.HAVE_FADVISE:
            # The kernel cuts each call down to about as much as one request to the disk can fetch.
            for at in range(file_offset, file_offset + length, _READ_AHEAD_STEP):
                step = min(_READ_AHEAD_STEP, file_offset + length - at)
                with suppress(OSError):
                    os.posix_fadvise(self._fd, at, step, os.POSIX_FADV_WILLNEED)

    def write_behind(self, length: int, file_offset: int) -> None:
        if length >= WRITE_BEHIND_LENGTH and self._has_write_behind:
            try:
                libc.start_writeback(self._fd, file_offset, length)
            except OSError as error:
                if error.errno not in _NO_WRITE_BEHIND:
                    error.filename = self._name
                    raise
                self._has_write_behind = False
