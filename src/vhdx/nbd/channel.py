"""A connection's bytes: what the server asks of a socket, encrypted or not.

One thread receives. Several may send: `send` takes a lock of its own, so that the parts of one call stand together
on the wire.
"""

from __future__ import annotations

import array
import os
import selectors
import socket
import threading
from typing import TYPE_CHECKING, Final, Protocol

from vhdx import _host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vhdx._buffer import Buffer

_MSG_MORE: Final[int] = getattr(socket, "MSG_MORE", 0)
_MAX_PARTS: Final = 512
"""Below IOV_MAX everywhere."""
_SIOCOUTQ: Final = 0x5411
"""Linux, <linux/sockios.h>; Python gives the same number the name TIOCOUTQ."""
# select() takes no descriptor above 1023, and a server may have more of them.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)
_SEND_BUFFER_SIZE: Final = 512 << 10
"""Of a Unix socket: a large reply then takes fewer switches between the two processes. The system may allow less."""


class ChannelError(Exception):
    """The connection cannot go on: it has failed, or the client has left in the middle of something."""


class Channel(Protocol):
    """A byte stream to a client. Every method but `close` may raise ChannelError."""

    peer: str
    """The client's name in the log."""
    sends_files: bool
    """Whether `send_file` works."""
    sent_bytes: int
    """Bytes sent so far, before encryption."""

    def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes, put what has come into a buffer, return how much that is; 0: the client sends no more."""
        ...

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until `receive_into` would return at once; False if the time runs out."""
        ...

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send all parts, in order and with nothing of another thread's in between."""
        ...

    def send_file(self, header: Buffer, fd: int, file_offset: int, length: int) -> None:
        """Send a header and a range of a file. Raises: ChannelError also if the file fails or ends early."""
        ...

    def taken_bytes(self) -> int:
        """How many of the bytes sent need no page of a file any more: copies were sent, or the client has them."""
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
        # A file's pages may be sent only where it can be told when the client has taken them.
        self.sends_files = _host.HAVE_SENDFILE and _host.HAVE_SIOCOUTQ
        self.sent_bytes = 0
        if connection.family != getattr(socket, "AF_UNIX", None):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:  # TCP finds out by itself how much it takes
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_SIZE)

    @property
    def socket(self) -> socket.socket:
        return self._socket

    def receive_into(self, buffer: memoryview) -> int:
        try:
            return self._socket.recv_into(buffer)
        except OSError as error:
            raise _failed(error) from None

    def wait(self, timeout_seconds: float) -> bool:
        try:
            with _Selector() as selector:
                selector.register(self._socket, selectors.EVENT_READ)
                return bool(selector.select(timeout_seconds))
        except (OSError, ValueError) as error:
            raise _failed(error) from None

    def send(self, parts: Sequence[Buffer]) -> None:
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
        """As every channel: what has left the socket's queue; of a Unix socket, what the client has read."""
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
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # it has ended already

    def shut_down(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client has ended both already

    def close(self) -> None:
        self._socket.close()


def _failed(error: Exception) -> ChannelError:
    return ChannelError(getattr(error, "strerror", None) or str(error))
