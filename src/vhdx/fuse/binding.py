"""The only module that imports a FUSE binding (mfusepy): libfuse's calls become calls of `DiskFile`.

libfuse calls from threads of its own, several at once. An error in a call becomes an errno for the program that
asked, and a line for the program that mounted.

mfusepy chooses its library while it is imported: the one that an environment variable names, or else libfuse 2 before
libfuse 3. The variable is set for the time of that import, and for no longer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
import threading
from contextlib import contextmanager
from ctypes.util import find_library
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from vhdx.errors import ReadOnlyImageError, RequestError, VhdxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vhdx.fuse.files import DiskFile
    from vhdx.fuse.gate import Gate

    P = ParamSpec("P")
    R = TypeVar("R")

_CHOICES: Final = frozenset({"FUSE_LIBRARY_NAME", "FUSE_LIBRARY_PATH"})
"""The variables by which the user tells mfusepy which library to take."""


@contextmanager
def _preferring_libfuse3() -> Iterator[None]:
    """Have libfuse 3 taken where there are two, unless the user chooses: libfuse 2 knows no SEEK_DATA."""
    if sys.platform != "linux" or _CHOICES & os.environ.keys() or not find_library("fuse3"):
        yield
        return
    os.environ["FUSE_LIBRARY_NAME"] = "fuse3"
    try:
        yield
    finally:
        del os.environ["FUSE_LIBRARY_NAME"]


with _preferring_libfuse3():
    import mfusepy

_ROOT: Final = "/"
_BLOCK: Final = 512
_STATFS_BLOCK: Final = 4096
_FALLOC_KEEP_SIZE: Final = 0x01
_FALLOC_PUNCH_HOLE: Final = 0x02
_FALLOC_ZERO_RANGE: Final = 0x10
_ACCESS_MODES: Final = os.O_RDONLY | os.O_WRONLY | os.O_RDWR


def library_version() -> tuple[int, int]:
    """Major and minor version of the libfuse that was found."""
    return mfusepy.fuse_version_major, mfusepy.fuse_version_minor


def _errno_of(error: Exception) -> int:
    match error:
        case OSError():
            return error.errno or errno.EIO
        case ReadOnlyImageError():
            return errno.EROFS
        case RequestError():
            return errno.EINVAL
        case _:
            return errno.EIO


_EXPECTED: Final = frozenset({errno.ENOENT, errno.ENXIO, errno.ENOSPC, errno.EPERM, errno.EOPNOTSUPP})
"""Errors that the program has earned by what it asked for; they say nothing about the device."""


def _guarded(method: Callable[P, R]) -> Callable[P, R]:
    """Let a call through the gate; turn an exception into an OSError, and report it."""

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        operations: Any = args[0]
        try:
            with operations.gate:
                return method(*args, **kwargs)
        except Exception as error:
            code = _errno_of(error)
            if not (isinstance(error, OSError) and code in _EXPECTED):
                known = isinstance(error, VhdxError | OSError)
                operations.report(str(error) if known else f"{type(error).__name__}: {error}")
            raise OSError(code, os.strerror(code)) from None

    return guarded


class Operations:
    """What the mount answers. A file handle is twice the file's index, plus one if it may be written to."""

    use_ns = True
    # Calls on open files come without a path: the handle is enough.
    flag_nopath = True
    flag_nullpath_ok = True

    def __init__(
        self,
        files: Sequence[DiskFile],
        gate: Gate,
        *,
        modes: tuple[int, int],
        report: Callable[[str], None],
        mounted: Callable[[], None],
    ) -> None:
        """`modes`: permissions of the directory and of its files. `mounted` is called when the mount is there."""
        self.gate = gate
        self.report = report
        self._files = files
        self._index = {f"/{file.name}": index for index, file in enumerate(files)}
        self._directory_mode, self._file_mode = modes
        self._mounted = mounted

    def init_with_config(self, *_: object) -> None:
        """The kernel has answered."""
        self._mounted()

    def file_of(self, handle: int) -> DiskFile:
        """The file of an open handle."""
        return self._files[handle >> 1]

    @_guarded
    def getattr(self, path: str | None, handle: int | None = None) -> dict[str, int]:
        """Attributes of the directory or of a file."""
        if path == _ROOT:
            attributes = {"st_mode": stat.S_IFDIR | self._directory_mode, "st_nlink": 2, "st_ino": 1}
            return attributes | self._owner_and_times(self._files[0])
        file = self._lookup(path) if handle is None else self.file_of(handle)
        return {
            "st_mode": stat.S_IFREG | self._file_mode,
            "st_nlink": 1,
            "st_size": file.size,
            "st_blocks": file.allocated_bytes() // _BLOCK,
            "st_blksize": _STATFS_BLOCK,
        } | self._owner_and_times(file)

    @staticmethod
    def _owner_and_times(file: DiskFile) -> dict[str, int]:
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), file.mtime_ns)
        return {"st_uid": os.getuid(), "st_gid": os.getgid()} | times

    def _lookup(self, path: str | None) -> DiskFile:
        index = self._index.get(path or "")
        if index is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._files[index]

    @_guarded
    def readdir(self, _path: str | None, _handle: int) -> list[str]:
        """Names in the directory."""
        return [".", "..", *(file.name for file in self._files)]

    @_guarded
    def open(self, path: str, flags: int) -> int:
        """Open a file. O_TRUNC makes all of it zeroes: a program that cuts a file off expects zeroes where it does
        not write afterwards.
        """
        file = self._lookup(path)
        writes = flags & _ACCESS_MODES != os.O_RDONLY
        if writes and flags & os.O_TRUNC:
            file.write_zeroes(file.size, 0, may_unmap=True)
        return self._files.index(file) << 1 | writes

    @_guarded
    def read_into(self, view: memoryview, offset: int, handle: int) -> int:
        """Fill libfuse's buffer."""
        return self.file_of(handle).read_into(view, offset)

    @_guarded
    def write_from(self, view: memoryview, offset: int, handle: int) -> int:
        """Write libfuse's buffer."""
        return self.file_of(handle).write(view, offset)

    read = read_into
    """mfusepy only looks whether `read` and `write` exist; it calls those of `Binding`."""
    write = write_from

    @_guarded
    def flush(self, _path: str | None, handle: int) -> int:
        """Make durable what was written, when a descriptor that was open for writing is closed."""
        if handle & 1:
            self.file_of(handle).flush()
        return 0

    @_guarded
    def fsync(self, _path: str | None, _data_only: int, handle: int) -> int:
        """Make durable what was written, through whichever file."""
        if handle & 1:
            self.file_of(handle).flush()
        return 0

    @_guarded
    def truncate(self, path: str | None, length: int, handle: int | None = None) -> int:
        """Refuse another size: that of a disk does not change."""
        file = self._lookup(path) if handle is None else self.file_of(handle)
        if length != file.size:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return 0

    @_guarded
    def fallocate(self, _path: str | None, mode: int, offset: int, length: int, handle: int) -> int:
        """Punch a hole, or make a range zero; reserving space is not known."""
        if mode & _FALLOC_PUNCH_HOLE:
            may_unmap = True
        elif mode & ~_FALLOC_KEEP_SIZE == _FALLOC_ZERO_RANGE:
            may_unmap = False
        else:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        self.file_of(handle).write_zeroes(length, offset, may_unmap=may_unmap)
        return 0

    @_guarded
    def utimens(self, _path: str | None, _times: object = None) -> int:
        """Accept `touch`, which `cp -p` and others end with; the times stay those of the content."""
        return 0

    @_guarded
    def lseek(self, offset: int, whence: int, handle: int) -> int:
        """SEEK_DATA and SEEK_HOLE; the kernel does the others itself."""
        return self.file_of(handle).seek(offset, whence)

    @_guarded
    def statfs(self, _path: str) -> dict[str, int]:
        """A full file system of the disk's size."""
        blocks = self._files[0].size // _STATFS_BLOCK
        return {"f_bsize": _STATFS_BLOCK, "f_frsize": _STATFS_BLOCK, "f_blocks": blocks, "f_namemax": 255}


class Binding(mfusepy.FUSE):  # type: ignore[misc]
    """mfusepy's loop, with reads and writes that are not copied, and with lseek, which it leaves out.

    Making one mounts and serves until it is unmounted. Raises: RuntimeError with libfuse's exit code.
    """

    def read(self, _path: bytes | None, buffer: Any, size: int, offset: int, info: Any) -> int:
        """Let the device fill libfuse's buffer."""
        _keep_thread()
        return int(self.operations.read_into(_view(buffer, size), offset, info.contents.fh))

    def write(self, _path: bytes | None, buffer: Any, size: int, offset: int, info: Any) -> int:
        """Let the device take libfuse's buffer."""
        _keep_thread()
        return int(self.operations.write_from(_view(buffer, size), offset, info.contents.fh))

    def truncate_fuse_3(self, path: bytes | None, length: int, info: Any) -> int:
        """Set a file's size, by its name or, as `ftruncate` does, by its handle alone: mfusepy leaves that out."""
        handle = info.contents.fh if info else None
        return int(self.operations.truncate(None if path is None else os.fsdecode(path), length, handle))

    def lseek(self, _path: bytes | None, offset: int, whence: int, info: Any) -> int:
        """Find data or a hole."""
        return int(self.operations.lseek(offset, whence, info.contents.fh))


class _Kept(threading.local):
    is_kept = False


_KEPT: Final = _Kept()


def _keep_thread() -> None:
    """Let Python keep its record of this thread of libfuse; without this it makes a new one for each call."""
    if not _KEPT.is_kept:
        ctypes.pythonapi.PyGILState_Ensure()
        _KEPT.is_kept = True


def _view(buffer: Any, size: int) -> memoryview:
    array = (ctypes.c_char * size).from_address(ctypes.addressof(buffer.contents))
    return memoryview(array).cast("B")
