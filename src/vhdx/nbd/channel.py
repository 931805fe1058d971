"""A connection's bytes: what the server asks of a socket, encrypted or not.

One thread receives; several may send, one at a time, for which `send` takes its own lock: the parts of one
call stand together on the wire.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vhdx._buffer import Buffer

_MSG_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)
_MAX_PARTS: Final = 512
"""Below IOV_MAX everywhere."""
_SIOCOUTQ: Final = 0x5411
_LINGER_AT_ONCE: Final = struct.pack("ii", 1, 0)


class Channel(Protocol):
    """A byte stream to a client. Every method may raise OSError once the connection has failed."""

    peer: str
    """Who it is, for the log."""
    sends_files: bool
    """Whether `send_file` works."""

    def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes and put what is there into a buffer; 0: the client sends no more."""
        ...

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until `receive_into` would not; False after the time has run out."""
        ...

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send all parts, in order and with nothing of another thread's in between."""
        ...

    def send_file(self, header: Buffer, fd: int, file_offset: int, length: int) -> None:
        """Send a header and a range of a file. Raises: EOFError if the file ends before the range does."""
        ...

    def unsent(self) -> int:
        """Bytes that were sent and that the other side has not taken yet; 0 where it cannot be told."""
        ...

    def shut_down(self) -> None:
        """Make every call, also one under way in another thread, return or fail soon."""
        ...

    def close(self) -> None:
        """Give up the connection."""
        ...


class SocketChannel:
    """A channel straight on a stream socket."""

    def __init__(self, connection: socket.socket, peer: str) -> None:
        """Take over a connected socket."""
        self._socket = connection
        self._sending = threading.Lock()
        self.peer = peer
        self.sends_files = hasattr(os, "sendfile")
        self._can_tell_unsent = sys.platform == "linux"
        if connection.family != getattr(socket, "AF_UNIX", None):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def socket(self) -> socket.socket:
        """The socket itself."""
        return self._socket

    def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes; 0: the client sends no more."""
        return self._socket.recv_into(buffer)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until there is something to receive."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(timeout_seconds * 1000))

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send all parts together."""
        with self._sending:
            if len(parts) == 1:
                self._socket.sendall(parts[0])
            else:
                self._send_parts(parts)

    def _send_parts(self, parts: Sequence[Buffer]) -> None:
        for first in range(0, len(parts), _MAX_PARTS):
            group = parts[first : first + _MAX_PARTS]
            sent = self._socket.sendmsg(group)
            if sent == sum(memoryview(part).nbytes for part in group):
                continue
            for part in group:
                view = memoryview(part).cast("B")
                if sent < len(view):
                    self._socket.sendall(view[sent:])
                sent = max(0, sent - len(view))

    def send_file(self, header: Buffer, fd: int, file_offset: int, length: int) -> None:
        """Send a header and then a range of a file, which the kernel takes from its page cache."""
        with self._sending:
            self._socket.sendall(header, _MSG_MORE)
            own = self._socket.fileno()
            end = file_offset + length
            while file_offset < end:
                count = os.sendfile(own, fd, file_offset, end - file_offset)
                if not count:
                    raise EOFError("the file became shorter while it was being sent")
                file_offset += count

    def unsent(self) -> int:
        """What stands in the socket's queue; for a Unix socket also what the client has not read."""
        if not self._can_tell_unsent:
            return 0
        import fcntl

        count = array.array("i", [0])
        fcntl.ioctl(self._socket.fileno(), _SIOCOUTQ, count)
        return count[0]

    def shut_down(self) -> None:
        """End both directions."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was quicker

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
