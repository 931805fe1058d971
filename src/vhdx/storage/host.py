"""What this operating system can do: chosen once, at import, for the whole of `storage`.

Every name says that a fast or safe way exists; where it is False a portable one takes its place, with the
same answers. `VHDX_PORTABLE=1` in the environment switches all of them off, so that one Linux machine can run
the test suite on the code that Windows and old systems use.
"""

import errno
import os
import sys
from typing import Final

PORTABLE: Final = os.environ.get("VHDX_PORTABLE", "") not in ("", "0")
"""All abilities below are switched off by the user."""


def _has(module: object, *names: str) -> bool:
    return not PORTABLE and all(hasattr(module, name) for name in names)


HAVE_PREAD: Final = _has(os, "pread", "pwrite")
HAVE_PREADV: Final = HAVE_PREAD and _has(os, "preadv")
HAVE_NOWAIT: Final = HAVE_PREADV and _has(os, "RWF_NOWAIT")
HAVE_FADVISE: Final = _has(os, "posix_fadvise")
HAVE_SENDFILE: Final = _has(os, "sendfile")
HAVE_COPY_FILE_RANGE: Final = _has(os, "copy_file_range")
HAVE_SEEK_HOLE: Final = _has(os, "SEEK_DATA", "SEEK_HOLE")
HAVE_NOATIME: Final = _has(os, "O_NOATIME")
HAVE_LINK: Final = _has(os, "link") and sys.platform != "win32"
HAVE_DIR_FD: Final = not PORTABLE and {os.open, os.stat} <= os.supports_dir_fd
HAVE_FALLOCATE: Final = not PORTABLE and sys.platform == "linux"
HAVE_SYNC_FILE_RANGE: Final = not PORTABLE and sys.platform == "linux"
HAVE_RENAME_NOREPLACE: Final = not PORTABLE and sys.platform == "linux"

if sys.platform == "win32":
    HAVE_OFD_LOCKS: Final = False
    HAVE_FLOCK: Final = False
    HAVE_REFLINK: Final = False

    def sync_data(fd: int) -> None:
        """Make a file's content and length durable. Raises: OSError."""
        os.fsync(fd)  # FlushFileBuffers
else:
    import fcntl

    HAVE_OFD_LOCKS: Final = _has(fcntl, "F_OFD_SETLK", "F_OFD_GETLK")
    HAVE_FLOCK: Final = hasattr(fcntl, "flock")  # itself the portable way, so not switched off
    HAVE_REFLINK: Final = not PORTABLE and sys.platform == "linux"

    def sync_data(fd: int) -> None:
        """Make a file's content and length durable. Raises: OSError."""
        if sys.platform == "darwin":
            # fsync leaves the data in the drive's cache there. Network file systems lack the stronger call.
            try:
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
                os.fsync(fd)
        elif PORTABLE or not hasattr(os, "fdatasync"):
            os.fsync(fd)
        else:
            os.fdatasync(fd)


UNSUPPORTED: Final = frozenset(
    getattr(errno, name)
    for name in ("EOPNOTSUPP", "ENOTSUP", "ENOSYS", "EINVAL", "ENOTTY", "ENODEV")
    if hasattr(errno, name)
)
"""Error numbers by which a kernel or a file system says that it does not know a call."""
