"""Unmounting: refused while a file is in use, unless the mount is detached by force."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys

_MNT_DETACH = 2


def find_helper() -> str | None:
    """Path of the program that mounts and unmounts for users who are not root."""
    return shutil.which("fusermount3") or shutil.which("fusermount")


def is_dead(directory: str) -> bool:
    """Whether the process that serves the mount at a directory has died."""
    if sys.platform == "win32":
        return False
    try:
        os.statvfs(directory)  # the system asks the process for it each time, and keeps no answer
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def is_mounted(directory: str) -> bool:
    """Whether something is mounted at a directory, whether or not its process lives."""
    return os.path.ismount(directory) or is_dead(directory)


def unmount(directory: str, *, detach: bool = False) -> None:
    """Unmount. With `detach` also while a file is in use. Raises: OSError, EBUSY while one is in use."""
    if sys.platform == "linux" and not os.geteuid():
        _umount2(directory, _MNT_DETACH if detach else 0)
        return
    done = subprocess.run(_command(directory, detach=detach), capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip()
        code = errno.EBUSY if "busy" in said else errno.EPERM
        raise OSError(code, said or os.strerror(code), directory)


def _command(directory: str, *, detach: bool) -> list[str]:
    helper = find_helper()
    if helper is not None:
        return [helper, "-u", *(["-z"] if detach else []), "--", directory]
    return ["umount", *(["-f"] if detach else []), directory]


def _umount2(directory: str, flags: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(directory), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), directory)
