"""Locks on image files, in the scheme of QEMU's block/file-posix.c, so that QEMU and this library see each other's.

QEMU knows four rights on a file: 0 consistent read, 1 write, 2 write unchanged, 3 resize. A user of the file
holds shared locks on single bytes: byte 100 + right for each right that it uses, byte 200 + right for each
that it does not allow to others. The locks themselves never conflict. After taking its own, a user asks
whether anybody else holds a byte that contradicts them: 200 + right for each right it uses, 100 + right
for each it does not allow. It asks only after it has taken its own locks: of two users that start at the same time,
at least one sees the other.

The locks belong to the open file description (OFD), not to the process: two images opened by one process
exclude each other, and closing an unrelated descriptor of the same file releases nothing.
"""

import errno
import os
import struct
import sys
from typing import Final

from vhdx import _host
from vhdx.errors import ImageLockedError
from vhdx.storage import descriptor

_USED: Final = 100
_REFUSED: Final = 200
_READ: Final = 0
_WRITE: Final = 1
_RESIZE: Final = 3

READER_HELD: Final = (_USED + _READ, _REFUSED + _WRITE, _REFUSED + _RESIZE)
WRITER_HELD: Final = (_USED + _READ, _USED + _WRITE, _USED + _RESIZE, _REFUSED + _WRITE, _REFUSED + _RESIZE)
READER_PROBED: Final = (_REFUSED + _READ, _USED + _WRITE, _USED + _RESIZE)
WRITER_PROBED: Final = (
    _REFUSED + _READ,
    _USED + _WRITE,
    _USED + _RESIZE,
    _REFUSED + _WRITE,
    _REFUSED + _RESIZE,
)

_NO_LOCKS: Final = _host.UNSUPPORTED | {errno.ENOLCK, errno.EACCES}
"""The file system has no locks, or a security policy forbids them. Linux reports conflicts as EAGAIN only."""

_FLOCK: Final = struct.Struct("hhqqi0q")
"""struct flock: type, whence, start, length, pid (zero for OFD locks), padding."""


class FileLock:
    """A lock on a descriptor, or the fact that the file could not be locked.

    `is_held` tells whether there is a lock; `warning` is None, or one sentence for the user.
    """

    def __init__(self, fd: int, held: tuple[int, ...] = (), *, is_held: bool, warning: str | None) -> None:
        self.is_held = is_held
        self.warning = warning
        self._fd = fd
        self._held = held
        self._owner_pid = os.getpid()

    def release(self) -> None:
        """Unlock; to be called before the descriptor is closed. Calling it twice does nothing."""
        if not self.is_held:
            return
        self.is_held = False
        # A forked child shares the open file description, and with it the lock: only the parent may unlock it.
        if self._owner_pid == os.getpid():
            _unlock(self._fd, self._held)


def lock_file(fd: int, name: str, *, writable: bool, no_lock_ok: bool = False) -> FileLock:
    """Lock an open file as a writer or as a reader. `name` is for messages.

    Raises: ImageLockedError if another open file excludes this one, or if the file cannot be locked, is to
    be written and `no_lock_ok` is false; OSError.
    """
    try:
        if _host.HAVE_OFD_LOCKS:
            held = WRITER_HELD if writable else READER_HELD
            _lock_ofd(fd, name, held, WRITER_PROBED if writable else READER_PROBED)
            return FileLock(fd, held, is_held=True, warning=None)
        _lock_whole(fd, name, writable=writable)
        return FileLock(fd, is_held=True, warning=None)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if writable and not no_lock_ok:
            raise ImageLockedError(
                f"{name}: the file system cannot lock files ({error.strerror}), so another process could"
                " write to it at the same time; use --no-lock (no_lock_ok=True) if none will"
            ) from error
        warning = f"{name}: not locked ({error.strerror}): do not let another process write to it meanwhile"
        return FileLock(fd, is_held=False, warning=warning)


def locked_error(fd: int | None, name: str, *, writable: bool, reason: str = "") -> ImageLockedError:
    """Say that a file is in use, by whom, and what to do. `fd` is open on it, or None."""
    from vhdx import _processes  # only for the message: opening a file does not wait for this import

    holders = []
    if fd is not None:
        identity = descriptor.identity_of(os.fstat(fd))
        holders = _processes.lockers_of_file(identity, except_for=fd)
    others = [holder for holder in holders if holder.pid != os.getpid()]
    if holders and not others:
        who = "is already open in this process, and may not be opened again in this way"
        advice = "close it first"
    else:
        known = f": {_processes.listed(others)}" if others else ""
        who = f"is in use by another process{reason}{known}"
        advice = "close the program that uses it and try again"
    if not writable:
        advice += ", or read it in spite of that with --force-share (the result may be inconsistent)"
    return ImageLockedError(f"{name}: the file {who}; {advice}", holders)


def _reason(byte: int) -> str:
    match byte:
        case 101 | 103:
            return " that has it open for writing"
        case 201 | 203:
            return " that does not let others write to it"
        case _:
            return " that does not let others read it"


if sys.platform == "win32":

    def _lock_ofd(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def _lock_whole(*_: object, writable: bool) -> None:  # noqa: ARG001
        # Windows takes share modes when a file is opened (open_locked). The caller had opened this file already.
        raise OSError(errno.ENOSYS, "opened elsewhere")

    def _unlock(*_: object) -> None:
        pass

    def open_locked(
        path: str, name: str, *, writable: bool, lock: bool, follow_symlinks: bool
    ) -> tuple[int, FileLock | None]:
        """Open with share modes as locks, which Windows gives at opening or never.

        Raises: ImageLockedError, OSError.
        """
        if not lock or not follow_symlinks:
            # Also refuses a link that is not to be followed, which open_shared would follow.
            fd = descriptor.open_descriptor(path, writable=writable, follow_symlinks=follow_symlinks)
            if not lock:
                return fd, None
            os.close(fd)
        try:
            fd = descriptor.open_shared(path, writable=writable)
        except OSError as error:
            if error.winerror == 32:
                raise locked_error(None, name, writable=writable) from error
            raise
        return fd, FileLock(fd, is_held=True, warning=None)

else:
    import fcntl

    def _lock_ofd(fd: int, name: str, held: tuple[int, ...], probed: tuple[int, ...]) -> None:
        try:
            for byte in held:
                _set_byte(fd, byte, fcntl.F_RDLCK)
            taken = [byte for byte in probed if _is_held_elsewhere(fd, byte)]
        except BlockingIOError as error:  # an exclusive lock of a program that does not use QEMU's scheme
            _unlock(fd, held)
            raise locked_error(fd, name, writable=held == WRITER_HELD) from error
        except OSError:
            # A caller's file object may keep the descriptor open, and would keep the bytes locked so far.
            _unlock_quietly(fd, held)
            raise
        if taken:
            _unlock(fd, held)
            raise locked_error(fd, name, writable=held == WRITER_HELD, reason=_reason(taken[-1]))

    def _set_byte(fd: int, byte: int, kind: int) -> None:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))

    def _is_held_elsewhere(fd: int, byte: int) -> bool:
        """Whether an exclusive lock would fail: any other description's lock, shared ones included."""
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
        return int(_FLOCK.unpack(answer)[0]) != fcntl.F_UNLCK

    def _lock_whole(fd: int, name: str, *, writable: bool) -> None:
        # Not by fcntl's record locks, which closing any other descriptor of the file would drop.
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if writable else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise locked_error(fd, name, writable=writable) from error

    def _unlock(fd: int, held: tuple[int, ...]) -> None:
        if held:
            for byte in held:
                _set_byte(fd, byte, fcntl.F_UNLCK)
        else:
            fcntl.flock(fd, fcntl.LOCK_UN)

    def _unlock_quietly(fd: int, held: tuple[int, ...]) -> None:
        try:
            _unlock(fd, held)
        except OSError:
            pass
