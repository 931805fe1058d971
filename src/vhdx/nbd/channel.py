"""A connection's bytes: what the server asks of a socket, encrypted or not.

One thread receives; several may send, one at a time, for which `send` takes its own lock: the parts of one
call stand together on the wire.
"""

from __future__ import annotations

import array
import os
import selectors
import socket
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
# select() takes no descriptor above 1023, and a server may have more of them.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)
_SEND_BUFFER_SIZE: Final = 512 << 10
"""Of a Unix socket, so that a large reply takes fewer turns of the two processes; the system may allow less."""


class ChannelError(Exception):
    """The connection cannot go on: it has failed, or the client has left in the middle of something."""


class Channel(Protocol):
    """A byte stream to a client. Every method but `close` may raise ChannelError."""

    peer: str
    """Who it is, for the log."""
    sends_files: bool
    """Whether `send_file` works."""
    sent_bytes: int
    """Everything sent so far, encryption not counted."""

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
        """Send a header and a range of a file. Raises: ChannelError also if the file fails or ends early."""
        ...

    def taken_bytes(self) -> int:
        """So many of the bytes sent have certainly left this machine's memory; all where files are not sent."""
        ...

    def stop_receiving(self) -> None:
        """Make `receive_into` return 0 from now on, also where it waits in another thread."""
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
        # Elsewhere it cannot be told when the client has taken what was sent.
        self.sends_files = sys.platform == "linux"
        self.sent_bytes = 0
        if connection.family != getattr(socket, "AF_UNIX", None):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:  # TCP finds out by itself how much it takes
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_SIZE)

    @property
    def socket(self) -> socket.socket:
        """The socket itself."""
        return self._socket

    def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes; 0: the client sends no more."""
        try:
            return self._socket.recv_into(buffer)
        except OSError as error:
            raise _failed(error) from None

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until there is something to receive."""
        try:
            with _Selector() as selector:
                selector.register(self._socket, selectors.EVENT_READ)
                return bool(selector.select(timeout_seconds))
        except (OSError, ValueError) as error:
            raise _failed(error) from None

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send all parts together."""
        try:
            with self._sending:
                for first in range(0, len(parts), _MAX_PARTS):
                    self._send_parts(parts[first : first + _MAX_PARTS])
        except OSError as error:
            raise _failed(error) from None

    def _send_parts(self, parts: Sequence[Buffer]) -> None:
        sent = self._socket.send(parts[0]) if len(parts) == 1 else self._socket.sendmsg(parts)
        for part in parts:
            size = len(part) if type(part) is bytes else memoryview(part).nbytes
            self.sent_bytes += size
            if sent < size:
                self._socket.sendall(memoryview(part).cast("B")[sent:])
            sent = max(0, sent - size)

    def send_file(self, header: Buffer, fd: int, file_offset: int, length: int) -> None:
        """Send a header and then a range of a file, which the kernel takes from its page cache."""
        try:
            with self._sending:
                self._socket.sendall(header, _MSG_MORE)
                self._send_range(fd, file_offset, length)
                self.sent_bytes += memoryview(header).nbytes + length
        except OSError as error:
            raise _failed(error) from None

    def _send_range(self, fd: int, file_offset: int, length: int) -> None:
        own = self._socket.fileno()
        end = file_offset + length
        while file_offset < end:
            count = os.sendfile(own, fd, file_offset, end - file_offset)
            if not count:
                raise ChannelError("the file became shorter while it was being sent")
            file_offset += count

    def taken_bytes(self) -> int:
        """What has left the socket's queue; for a Unix socket, what the client has read."""
        if not self.sends_files:
            return self.sent_bytes
        import fcntl

        unsent = array.array("i", [0])
        try:
            with self._sending:
                fcntl.ioctl(self._socket.fileno(), _SIOCOUTQ, unsent)
                return self.sent_bytes - unsent[0]
        except OSError as error:
            raise _failed(error) from None

    def stop_receiving(self) -> None:
        """End the direction from the client."""
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # it has ended already

    def shut_down(self) -> None:
        """End both directions."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was quicker

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _failed(error: Exception) -> ChannelError:
    return ChannelError(getattr(error, "strerror", None) or str(error))
