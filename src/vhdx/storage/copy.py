"""Copying between stores by the cheapest way there is: shared blocks, inside the kernel, through memory."""

import errno
import os
import struct
import sys
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from vhdx import _host
from vhdx._units import MIB, align_down
from vhdx.storage.base import ByteStore

BUFFER_SIZE: Final = MIB

_KERNEL_CHUNK: Final = 64 * MIB
"""Most that one kernel call is asked to copy, so that Ctrl-C is heard in between."""

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
"""Error numbers that say no more than that this pair of files needs another way."""

_Pairs = WeakKeyDictionary[ByteStore, WeakSet[ByteStore]]
_no_reflink: Final[_Pairs] = WeakKeyDictionary()
_no_kernel_copy: Final[_Pairs] = WeakKeyDictionary()


def copy_range(
    source: ByteStore,
    source_offset: int,
    target: ByteStore,
    target_offset: int,
    length: int,
    *,
    buffer: bytearray | None = None,
) -> None:
    """Copy `length` bytes from one store to another; the ranges must not overlap in one file.

    Offsets and length in bytes. `buffer` is scratch space, best reused between calls (`BUFFER_SIZE`).

    Raises: OSError, also if the source ends before the range does; ValueError if a store is closed.
    """
    if length <= 0:
        return
    aligned = align_down(length, _CLONE_ALIGNMENT)
    done = aligned if try_reflink(source, source_offset, target, target_offset, aligned) else 0
    done += _copy_in_kernel(source, source_offset + done, target, target_offset + done, length - done)
    if done == length:
        return
    scratch = buffer or bytearray(min(BUFFER_SIZE, length - done))
    with memoryview(scratch) as view:
        while done < length:
            with view[: length - done] as part:
                if source.pread_into(part, source_offset + done) < len(part):
                    end = source_offset + length
                    raise OSError(errno.EIO, f"the file ends before offset {end}", source.name)
                target.pwrite(part, target_offset + done)
                done += len(part)


def try_reflink(
    source: ByteStore, source_offset: int, target: ByteStore, target_offset: int, length: int
) -> bool:
    """Make a range of the target share the source's blocks; tell whether that was done.

    Only for two files of one file system that can do it, and offsets and lengths in bytes that are multiples
    of 4096. Where it fails nothing has changed. Raises: ValueError if a store is closed.
    """
    if not _host.HAVE_REFLINK or length <= 0 or _is_noted(_no_reflink, source, target):
        return False
    if any(number % _CLONE_ALIGNMENT for number in (source_offset, target_offset, length)):
        return False
    source_fd, target_fd = source.fileno(), target.fileno()
    if (
        source_fd is None
        or target_fd is None
        or not _clone(source_fd, source_offset, target_fd, target_offset, length)
    ):
        _note(_no_reflink, source, target)
        return False
    return True


def _clone(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> bool:
    if sys.platform == "linux":
        import fcntl

        request = _CLONE_RANGE.pack(source_fd, source_offset, length, target_offset)
        try:
            fcntl.ioctl(target_fd, _FICLONERANGE, request)
            is_done = True
        except OSError:
            is_done = False  # the copy that follows meets the same obstacle if it is a real one
    else:
        is_done = False
    return is_done


def _copy_in_kernel(
    source: ByteStore, source_offset: int, target: ByteStore, target_offset: int, length: int
) -> int:
    """Copy as much as copy_file_range does; return the count, short if another way is needed for the rest."""
    if not _host.HAVE_COPY_FILE_RANGE or _is_noted(_no_kernel_copy, source, target):
        return 0
    source_fd, target_fd = source.fileno(), target.fileno()
    if source_fd is None or target_fd is None:
        return 0
    write_behind = getattr(target, "write_behind", None)
    done = 0
    while done < length:
        try:
            count = _copy_some(
                source_fd, source_offset + done, target_fd, target_offset + done, length - done
            )
        except OSError as error:
            if error.errno not in _NOT_THIS_WAY:
                error.filename = target.name
                raise
            _note(_no_kernel_copy, source, target)
            break
        if not count:  # the end of the source, or a file system that has nothing to say
            break
        if write_behind is not None:
            write_behind(count, target_offset + done)
        done += count
    return done


def _copy_some(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> int:
    if sys.platform == "linux":
        chunk = min(length, _KERNEL_CHUNK)
        count = os.copy_file_range(source_fd, target_fd, chunk, source_offset, target_offset)
    else:
        count = 0
    return count


def _note(pairs: _Pairs, source: ByteStore, target: ByteStore) -> None:
    pairs.setdefault(source, WeakSet()).add(target)


def _is_noted(pairs: _Pairs, source: ByteStore, target: ByteStore) -> bool:
    targets = pairs.get(source)
    return targets is not None and target in targets
