"""Linux calls that the `os` module lacks, through ctypes, which is imported only when one is made."""

import errno
import os
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

FALLOC_KEEP_SIZE: Final = 0x01
FALLOC_PUNCH_HOLE: Final = 0x02
FALLOC_ZERO_RANGE: Final = 0x10

_SYNC_FILE_RANGE_WRITE: Final = 2
_RENAME_NOREPLACE: Final = 1
_AT_FDCWD: Final = -100


@cache
def _function(*names: str) -> "Callable[..., int] | None":
    """The first of these functions that the C library has; None if it has none."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    for name in names:
        function: Any = getattr(library, name, None)
        if function is not None:
            function.restype = ctypes.c_int
            return lambda *arguments: int(function(*arguments))
    return None


def _call(function: "Callable[..., int] | None", *arguments: Any) -> None:
    """Call a function that returns zero or sets errno, again if a signal interrupts it."""
    import ctypes

    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    while function(*arguments) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def fallocate(fd: int, mode: int, file_offset: int, length: int) -> None:
    """fallocate(2). Offset and length in bytes. Raises: OSError (ENOSYS where the C library lacks it)."""
    import ctypes

    # On 32-bit glibc only the second name takes 64-bit offsets; musl has only the first.
    function = _function("fallocate64", "fallocate")
    _call(function, fd, mode, ctypes.c_int64(file_offset), ctypes.c_int64(length))


def start_writeback(fd: int, file_offset: int, length: int) -> None:
    """sync_file_range(2) that begins to write a range's changed pages to the device, and waits for none.

    Offset and length in bytes. Raises: OSError, also for an earlier write that failed, which no later call
    need report again; ENOSYS where the C library lacks the call.
    """
    import ctypes

    function = _function("sync_file_range")
    range_ = ctypes.c_int64(file_offset), ctypes.c_int64(length)
    _call(function, fd, *range_, ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))


def rename_noreplace(source: str, target: str) -> None:
    """Rename in one step that fails if the target exists.

    Raises: FileExistsError; OSError with EINVAL or ENOSYS where the file system or the kernel cannot.
    """
    function = _function("renameat2")
    names = os.fsencode(source), os.fsencode(target)
    _call(function, _AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE)
