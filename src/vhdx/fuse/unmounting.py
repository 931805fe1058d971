"""Taking a mount away: refused while it is busy, unless it is detached by force."""

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
    """Whether what is mounted at a directory has lost its process."""
    if sys.platform == "win32":
        return False
    try:
        os.statvfs(directory)  # which the system asks the process for, every time
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def is_mounted(directory: str) -> bool:
    """Whether something is mounted at a directory, be its process alive or dead."""
    return os.path.ismount(directory) or is_dead(directory)


def unmount(directory: str, *, detach: bool = False) -> None:
    """Unmount. `detach` takes it out of sight though it is busy. Raises: OSError; EBUSY if it is busy."""
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
