"""Opening a descriptor without side effects: no waiting, no change of times, no device that is not a disk."""

import errno
import os
import stat
import sys
from typing import Final

from vhdx import _host

_NO_INHERIT: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)
_NONBLOCK: Final = getattr(os, "O_NONBLOCK", 0)
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_NOATIME: Final = getattr(os, "O_NOATIME", 0) if _host.HAVE_NOATIME else 0

BASE_FLAGS: Final = _NO_INHERIT | _BINARY


def check_kind(status: os.stat_result, name: str) -> None:
    """Refuse what is neither a regular file nor a block device.

    Raises: IsADirectoryError; OSError with EINVAL, or ELOOP for a symbolic link.
    """
    mode = status.st_mode
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory, not a file", name)
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, "is a symbolic link, which is not followed here", name)
    kinds = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a character device"))
    kind = next((text for test, text in kinds if test(mode)), "something else")
    raise OSError(errno.EINVAL, f"is {kind}, not a file or a block device", name)


def identity_of(status: os.stat_result) -> tuple[int, int]:
    """`FileFacts.identity` of a file or a block device, which may have several names."""
    if stat.S_ISBLK(status.st_mode):
        return getattr(status, "st_rdev", 0), 0  # no file has inode 0
    return status.st_dev, status.st_ino


def open_descriptor(
    path: str, *, writable: bool = False, dir_fd: int | None = None, follow_symlinks: bool = True
) -> int:
    """Open a regular file or a block device; the descriptor is not inherited by child processes.

    Raises: OSError, also for every other kind of file (see `check_kind`), without having waited for it.
    """
    # Opening a FIFO can wait, opening other kinds can wake a peer or wind a tape: so the kind is checked first. The
    # name may mean another file by the time it is opened: so it is opened with O_NONBLOCK, and checked again.
    check_kind(os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks), path)
    flags = BASE_FLAGS | _NONBLOCK | (os.O_RDWR if writable else os.O_RDONLY)
    if not follow_symlinks:
        flags |= _NOFOLLOW
    try:
        fd = _open_unseen(path, flags, writable=writable, dir_fd=dir_fd)
    except BlockingIOError:
        # A file server holds a lease on the file, which the system has asked it to give back: wait for that.
        fd = _open_unseen(path, flags & ~_NONBLOCK, writable=writable, dir_fd=dir_fd)
    try:
        check_kind(os.fstat(fd), path)
        if sys.platform != "win32":
            os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_unseen(path: str, flags: int, *, writable: bool, dir_fd: int | None) -> int:
    """Open without changing the access time, which the system allows to the file's owner and to root."""
    if _NOATIME and not writable:
        try:
            return os.open(path, flags | _NOATIME, dir_fd=dir_fd)
        except OSError as error:
            if error.errno not in _host.UNSUPPORTED | {errno.EPERM}:
                raise
    return os.open(path, flags, dir_fd=dir_fd)


if sys.platform == "win32":

    def open_shared(path: str, *, writable: bool) -> int:
        """Open with share modes as locks: a writer alone, readers together.

        Raises: OSError; PermissionError with `winerror` 32 if another process has it open.
        """
        import ctypes
        import msvcrt
        from ctypes import wintypes

        generic_read, generic_write, share_read = 0x80000000, 0x40000000, 1
        open_existing, attribute_normal = 3, 0x80
        check_kind(os.stat(path), path)
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        create_file = kernel32.CreateFileW
        create_file.restype = wintypes.HANDLE
        create_file.argtypes = (
            *(wintypes.LPCWSTR, wintypes.DWORD, wintypes.DWORD, wintypes.LPVOID),
            *(wintypes.DWORD, wintypes.DWORD, wintypes.HANDLE),
        )
        access = generic_read | (generic_write if writable else 0)
        sharing = 0 if writable else share_read
        handle = create_file(path, access, sharing, None, open_existing, attribute_normal, None)
        if handle == wintypes.HANDLE(-1).value:
            raise ctypes.WinError(ctypes.get_last_error())
        return msvcrt.open_osfhandle(handle, BASE_FLAGS | (os.O_RDWR if writable else os.O_RDONLY))
