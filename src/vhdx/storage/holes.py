"""Data and holes as a file system knows them, by SEEK_DATA and SEEK_HOLE."""

import errno
import os
import sys

from vhdx import _host


def next_data(fd: int, position: int, end: int) -> tuple[int, int]:
    """Find the next run of data in [position, end): its start and its end, both `end` if there is none.

    Offsets in bytes, with position < end. The run's end is past `position`, whatever another process does to
    the file at the same time, so that a loop over runs ends. Where the file system cannot tell, all is data. Moves
    the descriptor's position.

    Raises: OSError.
    """
    if sys.platform == "win32":
        data, hole = position, end
    else:
        data = _seek(fd, position, os.SEEK_DATA, nothing=end, unknown=position)
        data = max(position, min(data, end))
        hole = end if data == end else _seek(fd, data, os.SEEK_HOLE, nothing=end, unknown=end)
    # If another process has just made a hole of the data, the rest is called data: right, but slower to read.
    return data, min(hole, end) if hole > data else end


def _seek(fd: int, position: int, whence: int, *, nothing: int, unknown: int) -> int:
    try:
        return os.lseek(fd, position, whence)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no data up to the end, or a file that has just become shorter
            return nothing
        if error.errno in _host.UNSUPPORTED:
            return unknown
        raise
