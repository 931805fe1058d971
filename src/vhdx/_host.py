"""What this operating system can do, found out once, at import, for the whole package.

A `HAVE_` name is true where the system has the fast or safe way that the name tells of. Where it is false, its
users take a portable way that gives the same answers. `VHDX_PORTABLE=1` in the environment makes them all false,
so that the test suite can run on one Linux machine the code that Windows and old systems use.
"""

import errno
import os
import sys
from typing import Final

PORTABLE: Final = os.environ.get("VHDX_PORTABLE", "") not in ("", "0")
"""The user has switched every ability below off."""


def _has(module: object, *names: str) -> bool:
    return not PORTABLE and all(hasattr(module, name) for name in names)


_IS_LINUX: Final = not PORTABLE and sys.platform == "linux"

HAVE_PREAD: Final = _has(os, "pread", "pwrite")
HAVE_PREADV: Final = HAVE_PREAD and _has(os, "preadv")
HAVE_NOWAIT: Final = HAVE_PREADV and _has(os, "RWF_NOWAIT")
HAVE_FADVISE: Final = _has(os, "posix_fadvise")
HAVE_SENDFILE: Final = _has(os, "sendfile")
HAVE_SIOCOUTQ: Final = _IS_LINUX
"""A socket tells how much of what was sent the other side has not taken yet."""
HAVE_COPY_FILE_RANGE: Final = _has(os, "copy_file_range")
HAVE_SEEK_HOLE: Final = _has(os, "SEEK_DATA", "SEEK_HOLE")
HAVE_NOATIME: Final = _has(os, "O_NOATIME")
HAVE_LINK: Final = _has(os, "link") and sys.platform != "win32"
HAVE_DIR_FD: Final = not PORTABLE and {os.open, os.stat} <= os.supports_dir_fd
HAVE_FALLOCATE: Final = _IS_LINUX
HAVE_SYNC_FILE_RANGE: Final = _IS_LINUX
HAVE_RENAME_NOREPLACE: Final = _IS_LINUX
HAVE_REFLINK: Final = _IS_LINUX

if sys.platform == "win32":
    HAVE_OFD_LOCKS: Final = False
else:
    import fcntl

    HAVE_OFD_LOCKS: Final = _has(fcntl, "F_OFD_SETLK", "F_OFD_GETLK")

UNSUPPORTED: Final = frozenset(
    getattr(errno, name)
    for name in ("EOPNOTSUPP", "ENOTSUP", "ENOSYS", "EINVAL", "ENOTTY", "ENODEV")
    if hasattr(errno, name)
)
"""Error numbers by which a kernel or a file system says that it does not know a call."""
