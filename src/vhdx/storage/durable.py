"""Making files and names durable: on stable storage, where a power failure cannot take them."""

import os
import sys

from vhdx import _host
from vhdx.storage import descriptor

if sys.platform == "win32":

    def sync_data(fd: int) -> None:
        """Make a file's content and length durable. Raises: OSError."""
        os.fsync(fd)  # FlushFileBuffers

    def sync_directory(path: str) -> None:
        """Nothing: Windows cannot be asked to make the names in a directory durable."""
else:
    import fcntl

    def sync_data(fd: int) -> None:
        """Make a file's content and length durable. Raises: OSError."""
        if sys.platform == "darwin":
            # fsync leaves the data in the drive's cache on macOS. Network file systems lack the stronger call.
            try:
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            except OSError as error:
                if error.errno not in _host.UNSUPPORTED:
                    raise
                os.fsync(fd)
        elif _host.PORTABLE or not hasattr(os, "fdatasync"):
            os.fsync(fd)
        else:
            os.fdatasync(fd)

    def sync_directory(path: str) -> None:
        """Make the names in a directory durable, where directories can be opened for that. Raises: OSError."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | descriptor.BASE_FLAGS)
        except PermissionError:  # a directory may allow writing and not reading: no other way to sync exists
            return
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in _host.UNSUPPORTED:
                raise
        finally:
            os.close(fd)
