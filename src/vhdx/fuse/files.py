"""The files of a mount: the whole disk and its partitions, each a window on the block device."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Final, Protocol, cast

from vhdx.fuse.allocation import Allocation, Changes, next_data, next_hole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import BlockDevice, WritableDevice

DISK_NAME: Final = "disk.raw"


class Part(Protocol):
    """A part of a disk that gets a file of its own, such as a partition; in bytes."""

    @property
    def number(self) -> int:
        """Names the file: 1 is p1."""
        ...

    @property
    def offset(self) -> int:
        """Where the part begins on the disk."""
        ...

    @property
    def length(self) -> int:
        """How long the part is; all of it lies on the disk."""
        ...


class DiskFile:
    """A range of a device under a name. Offsets are the file's own, in bytes.

    Every method raises what the device raises: VhdxError, OSError. Safe for many threads.
    """

    def __init__(
        self, name: str, device: BlockDevice, changes: Changes, start: int, size: int, mtime_ns: int
    ) -> None:
        self.name = name
        self.size = size
        self.mtime_ns = mtime_ns
        self._device = device
        self._start = start
        self._changes = changes
        self._allocation = Allocation(device, changes, start, size)

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill a buffer as far as the file goes; return how many bytes that is."""
        length = min(len(view), self.size - offset)
        if length <= 0:
            return 0
        self._device.pread_into(view[:length], self._start + offset)
        return length

    def write(self, data: Buffer, offset: int) -> int:
        """Write as far as the file goes; return how many bytes that is. ENOSPC past the end."""
        with memoryview(data) as view:
            length = self._room(len(view), offset)
            try:
                self._writable.pwrite(view[:length], self._start + offset)
            finally:  # a write that fails may have written a part
                self._changed(offset, length)
        return length

    def write_zeroes(self, length: int, offset: int, *, may_unmap: bool) -> None:
        """Make a range read as zeroes, as far as the file goes. ENOSPC past the end."""
        length = self._room(length, offset)
        try:
            self._writable.write_zeroes(length, self._start + offset, may_unmap=may_unmap)
        finally:
            self._changed(offset, length)

    def flush(self) -> None:
        """Make durable whatever was written to the device."""
        self._writable.flush()

    def allocated_bytes(self) -> int:
        """Bytes that take space in the image; see `Allocation`."""
        return self._allocation.bytes()

    def seek(self, offset: int, whence: int) -> int:
        """Find data or a hole, as lseek does with SEEK_DATA and SEEK_HOLE. ENXIO: nothing at or after."""
        if not 0 <= offset < self.size:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        find = next_data if whence == os.SEEK_DATA else next_hole
        found = find(self._device, self._start + offset, self._start + self.size) - self._start
        if found == self.size and whence == os.SEEK_DATA:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return found

    @property
    def _writable(self) -> WritableDevice:
        return cast("WritableDevice", self._device)

    def _room(self, length: int, offset: int) -> int:
        room = min(length, self.size - offset)
        if room <= 0 < length:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return room

    def _changed(self, offset: int, length: int) -> None:
        self._changes.note(self._start + offset, length)
        self.mtime_ns = time.time_ns()


def disk_files(device: BlockDevice, partitions: Iterable[Part], mtime_ns: int) -> list[DiskFile]:
    """The files of a mount, the whole disk first. `mtime_ns` is their time of change until they are written to."""
    changes = Changes(device)
    files = [DiskFile(DISK_NAME, device, changes, 0, device.size, mtime_ns)]
    files += [
        DiskFile(f"p{part.number}", device, changes, part.offset, part.length, mtime_ns)
        for part in partitions
    ]
    return files
