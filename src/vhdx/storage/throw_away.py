"""A file for bytes that nobody wants to keep: it has no name, and is gone with its last user."""

import os
import tempfile

from vhdx.storage.file import FileStore


class ThrowAwayStore(FileStore):
    """A temporary file, empty at first, that the system removes when it is closed, or its process killed.

    It is not locked, since nobody else can find it. Its `flush` and `write_behind` do nothing: no one will open it
    after a crash, so its pages may stay in memory.
    """

    @classmethod
    def make(cls, directory: str | None = None) -> "ThrowAwayStore":
        """Make one in `directory`, or where the system keeps temporary files. Raises: OSError."""
        # Linux makes it without a name, other systems unlink it at once, Windows removes it with its last handle.
        with tempfile.TemporaryFile(buffering=0, dir=directory) as file:
            fd = os.dup(file.fileno())
        try:
            where = tempfile.gettempdir() if directory is None else directory
            return cls(fd, name=f"throw-away file in {where}", writable=True)
        except BaseException:
            os.close(fd)
            raise

    def flush(self) -> None:
        """Does nothing. Raises: ValueError if the store is closed."""
        self.fileno()

    def write_behind(self, length: int, file_offset: int) -> None:
        """Does nothing."""
