"""A file for bytes that nobody wants to keep: it has no name, and is gone with its last user."""

import os
import tempfile

from vhdx.storage.file import FileStore


class ThrowAwayStore(FileStore):
    """A temporary file, empty at first, that the system removes when it is closed, or its process killed.

    It is not locked, since nobody else can find it. Its flush and its write-behind do nothing: no one will open it
    after a crash.
    """

    @classmethod
    def make(cls, directory: str | None = None) -> "ThrowAwayStore":
        """Make one in `directory`, or where the system keeps temporary files. Raises: OSError."""
        # Made without a name, or unlinked at once; Windows removes it with the last handle.
        with tempfile.TemporaryFile(buffering=0, dir=directory) as file:
            fd = os.dup(file.fileno())
        try:
            where = tempfile.gettempdir() if directory is None else directory
            return cls(fd, name=f"throw-away file in {where}", writable=True)
        except BaseException:
            os.close(fd)
            raise

    def flush(self) -> None:
        """Nothing to do. Raises: ValueError if closed."""
        self.fileno()

    def write_behind(self, length: int, file_offset: int) -> None:
        """Nothing to do: with luck, the data never reaches the device."""
