"""What mounting needs, and what to do where it is missing: an empty directory, FUSE in the kernel, its library."""

from __future__ import annotations

import errno
import os
import sys

from vhdx.errors import MountError
from vhdx.fuse.unmounting import find_helper


def check_directory(directory: str) -> None:
    """Refuse a directory that nothing can be mounted at. Raises: MountError, OSError."""
    try:
        with os.scandir(directory) as entries:
            is_empty = next(entries, None) is None
    except FileNotFoundError:
        raise MountError(
            f"{directory}: there is no such directory; make it first: mkdir {directory}"
        ) from None
    except NotADirectoryError:
        raise MountError(f"{directory}: not a directory; name an empty one to mount at") from None
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        raise MountError(
            f"{directory}: a mount whose process has died is still there; remove it: fusermount3 -u {directory}"
        ) from None
    if not is_empty:
        what = "something is mounted there already" if os.path.ismount(directory) else "it is not empty"
        raise MountError(f"{directory}: {what}, and would be hidden; name an empty directory")
    if hasattr(os, "geteuid") and os.geteuid() and not os.access(directory, os.W_OK):
        raise MountError(
            f"{directory}: you may not write to it, as mounting needs; name a directory of yours"
        )


def check_fuse() -> None:
    """Refuse where FUSE cannot be used, and say what to install. Raises: MountError."""
    if sys.platform == "win32":
        raise MountError(
            "mounting needs FUSE, which Windows lacks; use 'vhdx serve', or 'vhdx convert' to raw"
        )
    if sys.platform == "linux":
        _check_linux()
    try:
        from vhdx.fuse import binding  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "mfusepy":
            raise
        raise MountError("mounting needs the package mfusepy; install it: pip install 'vhdx[fuse]'") from None
    except (OSError, AttributeError) as error:
        raise MountError(f"mounting needs libfuse; install it: {_install_libfuse()} ({error})") from None


def _check_linux() -> None:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise MountError(
            "mounting needs /dev/fuse, which is not there; load the module (modprobe fuse), or start the"
            " container with --device /dev/fuse --cap-add SYS_ADMIN"
        ) from None
    except OSError as error:
        raise MountError(f"mounting needs /dev/fuse, which cannot be opened: {error.strerror}") from None
    if os.geteuid() and find_helper() is None:
        raise MountError("mounting as a user needs fusermount3; install it: apt install fuse3")


def _install_libfuse() -> str:
    return "apt install fuse3" if sys.platform == "linux" else "see https://macfuse.github.io"
