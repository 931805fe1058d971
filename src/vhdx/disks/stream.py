"""A block device as a Python file object, for everything that takes a file."""

import io
import os

from vhdx._buffer import Buffer
from vhdx.blockdev.device import BlockDevice


class DeviceStream(io.RawIOBase):
    """A seekable, read-only binary stream over a device; reads are clipped at the device's end.

    Closing the stream leaves the device open. Not meant for several threads at once, as no file object is.
    """

    def __init__(self, device: BlockDevice) -> None:
        self._device = device
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Current position in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; positions past the end are allowed, as for files. Raises: ValueError."""
        self._check_open()
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._device.size}
        if whence not in bases:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        position = bases[whence] + offset
        if position < 0:
            raise ValueError(f"negative seek position {position}")
        self._position = position
        return position

    def readinto(self, buffer: Buffer) -> int:
        """Fill the buffer, or what the device's end leaves of it; return the count.

        Raises: VhdxError, OSError.
        """
        self._check_open()
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._device.size - self._position))
        if not count:
            return 0
        self._device.pread_into(view[:count], self._position)
        self._position += count
        return count

    def write(self, data: Buffer) -> int:  # noqa: ARG002
        """Refuse. Raises: io.UnsupportedOperation."""
        raise io.UnsupportedOperation("not writable")

    def readall(self) -> bytes:
        """Read to the end in pieces."""
        pieces = []
        while piece := self.read(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed stream")
