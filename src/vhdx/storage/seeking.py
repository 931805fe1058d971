"""Reads and writes at an offset on systems that can only seek first: Windows, and `VHDX_PORTABLE=1`."""

import io
import os
import threading


class SeekingTransfer:
    """Transfers on a descriptor that stays its owner's, one at a time. Each method may raise OSError."""

    def __init__(self, fd: int, *, writable: bool) -> None:
        self._file = io.FileIO(fd, "r+b" if writable else "rb", closefd=False)
        self._lock = threading.Lock()

    def size(self) -> int:
        """Length in bytes, found by seeking to the end."""
        with self._lock:
            return self._file.seek(0, os.SEEK_END)

    def read(self, view: memoryview, file_offset: int) -> int:
        """Read by one call; return the count, which may be short."""
        with self._lock:
            self._file.seek(file_offset)
            return self._file.readinto(view) or 0

    def write(self, view: memoryview, file_offset: int) -> int:
        """Write by one call; return the count, which may be short."""
        with self._lock:
            self._file.seek(file_offset)
            return self._file.write(view) or 0
