"""Copying between stores by the cheapest way there is: by sharing blocks, else in the kernel, else through memory."""

import errno
import os
import struct
import sys
from typing import Final

from vhdx import _host
from vhdx._units import MIB, align_down
from vhdx.storage.base import ByteStore, write_behind

_BUFFER_SIZE: Final = MIB
_KERNEL_CHUNK: Final = 64 * MIB
"""Most bytes that one kernel call is asked to copy: between two calls, Ctrl-C is heard."""

_CLONE_ALIGNMENT: Final = 4096
_CLONE_RANGE: Final = struct.Struct("qQQQ")
_FICLONERANGE: Final = 0x4020940D

_NOT_THIS_WAY: Final = _host.UNSUPPORTED | {
    errno.EXDEV,
    errno.EPERM,
    errno.EBADF,
    errno.EISDIR,
    errno.ETXTBSY,
}
"""Error numbers that mean no more than that these two files have to be copied in another way."""


class RangeCopier:
    """Copies ranges of other stores into one store, and keeps in mind which of them need another way.

    For one thread: each has its own.
    """

    def __init__(self, target: ByteStore, buffer: bytearray | None = None) -> None:
        """`buffer` is what the copies through memory pass through; its content is lost."""
        self._target = target
        self._buffer = buffer or bytearray(_BUFFER_SIZE)
        self._cannot_share: set[ByteStore] = set()
        self._cannot_copy_in_kernel: set[ByteStore] = set()

    def copy(self, source: ByteStore, source_offset: int, target_offset: int, length: int) -> None:
        """Copy a range; in one file, the two ranges must not overlap. Offsets and length in bytes.

        Raises: OSError, also if the source ends before the range does; ValueError if a store is closed.
        """
        aligned = align_down(length, _CLONE_ALIGNMENT)
        done = aligned if self.share(source, source_offset, target_offset, aligned) else 0
        done += self._copy_in_kernel(source, source_offset + done, target_offset + done, length - done)
        self._copy_through_memory(source, source_offset + done, target_offset + done, length - done)

    def share(self, source: ByteStore, source_offset: int, target_offset: int, length: int) -> bool:
        """Make a range of the target share the blocks of the source's range; tell whether that was done.

        Only for two files of one file system that can do it, and offsets and lengths in bytes that are multiples
        of 4096. Where it is not done nothing has changed. Raises: ValueError if a store is closed.
        """
        if not _host.HAVE_REFLINK or length <= 0 or source in self._cannot_share:
            return False
        if any(number % _CLONE_ALIGNMENT for number in (source_offset, target_offset, length)):
            return False
        source_fd, target_fd = source.fileno(), self._target.fileno()
        if (
            source_fd is None
            or target_fd is None
            or not _clone(source_fd, source_offset, target_fd, target_offset, length)
        ):
            self._cannot_share.add(source)
            return False
        return True

    def _copy_in_kernel(self, source: ByteStore, source_offset: int, target_offset: int, length: int) -> int:
        """Copy as much as copy_file_range does; return the count, short if the rest needs another way."""
        if not _host.HAVE_COPY_FILE_RANGE or source in self._cannot_copy_in_kernel:
            return 0
        source_fd, target_fd = source.fileno(), self._target.fileno()
        if source_fd is None or target_fd is None:
            return 0
        done = 0
        while done < length:
            try:
                count = _copy_some(
                    source_fd, source_offset + done, target_fd, target_offset + done, length - done
                )
            except OSError as error:
                if error.errno not in _NOT_THIS_WAY:
                    error.filename = self._target.name
                    raise
                self._cannot_copy_in_kernel.add(source)
                break
            if not count:  # the source ends here, or its file system does not tell that it cannot do this
                break
            write_behind(self._target, count, target_offset + done)
            done += count
        return done

    def _copy_through_memory(
        self, source: ByteStore, source_offset: int, target_offset: int, length: int
    ) -> None:
        done = 0
        with memoryview(self._buffer) as view:
            while done < length:
                with view[: length - done] as part:
                    if source.pread_into(part, source_offset + done) < len(part):
                        end = source_offset + length
                        raise OSError(errno.EIO, f"the file ends before offset {end}", source.name)
                    self._target.pwrite(part, target_offset + done)
                    done += len(part)


def _clone(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> bool:
    if sys.platform == "linux":
        import fcntl

        request = _CLONE_RANGE.pack(source_fd, source_offset, length, target_offset)
        try:
            fcntl.ioctl(target_fd, _FICLONERANGE, request)
            is_done = True
        except OSError:
            is_done = False  # if the obstacle is a real one, the copy that follows meets it and reports it
    else:
        is_done = False
    return is_done


def _copy_some(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> int:
    if sys.platform == "linux":
        chunk = min(length, _KERNEL_CHUNK)
        count = os.copy_file_range(source_fd, target_fd, chunk, source_offset, target_offset)
    else:
        count = 0
    return count
