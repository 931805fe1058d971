"""Listening, and one thread for each client: handshake, then transmission.

Only clients that have not finished their handshake are ever dropped: after a deadline, or when so many of them are
there that no other client could come in.
"""

from __future__ import annotations

import math
import selectors
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vhdx.errors import VhdxError
from vhdx.nbd.channel import Channel, ChannelError, SocketChannel
from vhdx.nbd.connection import Connection
from vhdx.nbd.export import offer
from vhdx.nbd.protocol.constants import OptionReply
from vhdx.nbd.protocol.events import Close, OpenExport, Send, StartTls, Transmit
from vhdx.nbd.protocol.handshake import Handshake
from vhdx.nbd.protocol.transmission import ProtocolError
from vhdx.nbd.shared import Shared

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from vhdx.blockdev.device import DirectDevice
    from vhdx.nbd.export import Export
    from vhdx.nbd.protocol.events import Agreement
    from vhdx.nbd.server_log import ServerLog

HANDSHAKE_SECONDS: Final = 10.0
STOP_SECONDS: Final = 3.0
"""How long replies under way may take once the server has been told to stop."""
MAX_HANDSHAKES: Final = 64
MAX_CONNECTIONS: Final = 512
_RECEIVE_SIZE: Final = 4096
_FULL_PAUSE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server's clients get, and may do."""

    default_export: str | None = None
    """The export that a client gets if it names none."""
    tls: ssl.SSLContext | None = None
    """Clients must use TLS; with None they cannot."""
    persistent: bool = False
    """Go on when the last client has left."""
    max_connections: int = MAX_CONNECTIONS


class _Client:
    """One connection, from accept to close."""

    def __init__(self, channel: SocketChannel) -> None:
        self.channel: Channel = channel
        self.deadline: float | None = time.monotonic() + HANDSHAKE_SECONDS
        """When the handshake must be over; None once it is."""
        self.thread: threading.Thread | None = None
        self.connection: Connection | None = None
        """None until the handshake is over."""


class Server:
    """Serves exports on listening sockets until it is stopped."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        exports: Mapping[str, Export],
        server_log: ServerLog,
        settings: ServerSettings | None = None,
    ) -> None:
        """Take over listening sockets. `exports` by name."""
        self._listeners = listeners
        self._exports = exports
        self._log = server_log
        self._settings = settings or ServerSettings()
        self._shared = Shared(server_log)
        self._lock = threading.Lock()
        self._clients: dict[_Client, None] = {}
        """Oldest first."""
        self._stopping = False
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)

    def stop(self) -> None:
        """Make `serve` return soon. May be called from a signal handler and from any thread."""
        self._stopping = True
        try:
            self._waker.send(b"\0")
        except OSError:
            pass  # `serve` has been woken already, or has returned

    def serve(self) -> None:
        """Accept clients until `stop`, or until the last client has left a server that is not persistent.

        Returns when every client has been answered and every export is closed. Raises: OSError, VhdxError
        from closing the exports.
        """
        try:
            with selectors.DefaultSelector() as selector:
                for listener in self._listeners:
                    listener.setblocking(False)
                    selector.register(listener, selectors.EVENT_READ, listener)
                selector.register(self._wakened, selectors.EVENT_READ)
                while not self._stopping:
                    for key, _ in selector.select(self._next_deadline()):
                        if key.data is None:
                            self._wakened.recv(4096)
                        else:
                            self._accept(key.data)
                    self._drop_late_handshakes()
        finally:
            self._close()

    # -- coming and going --------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, address = listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client has left already
        except OSError as error:
            self._relieve(error.strerror)
            return
        connection.setblocking(True)
        client = _Client(SocketChannel(connection, _spell_peer(connection, address)))
        with self._lock:
            handshakes = sum(other.deadline is not None for other in self._clients)
            is_full = len(self._clients) >= self._settings.max_connections
            self._clients[client] = None
        if (is_full or handshakes >= MAX_HANDSHAKES) and not self._drop_oldest_handshake(except_for=client):
            self._log.line(f"{client.channel.peer}: refused: {len(self._clients) - 1} clients are connected")
            self._forget(client)
            client.channel.close()
            return
        client.thread = threading.Thread(
            target=self._run, args=(client,), name=f"nbd {client.channel.peer}", daemon=True
        )
        try:
            client.thread.start()
        except RuntimeError as error:
            self._relieve(error)
            self._forget(client)
            client.channel.close()

    def _relieve(self, reason: object) -> None:
        """Make some room, and wait a little, after the process or the system has met one of its limits."""
        self._log.line(f"cannot take another client: {reason}")
        self._drop_oldest_handshake()
        time.sleep(_FULL_PAUSE_SECONDS)

    def _next_deadline(self) -> float | None:
        with self._lock:
            deadlines = [client.deadline for client in self._clients if client.deadline is not None]
        if not deadlines:
            return None
        # A client whose export is being opened has an infinite deadline, and gets a finite one again: do not sleep
        # for longer than a handshake may take.
        return min(max(0.0, min(deadlines) - time.monotonic()), HANDSHAKE_SECONDS)

    def _drop_late_handshakes(self) -> None:
        now = time.monotonic()
        for client in self._unfinished():
            if client.deadline is not None and client.deadline <= now:
                self._drop(client, "no handshake in time")

    def _drop_oldest_handshake(self, except_for: _Client | None = None) -> bool:
        """End the oldest unfinished handshake; False if there is none."""
        return any(
            client is not except_for and self._drop(client, "made room for another client")
            for client in self._unfinished()
        )

    def _unfinished(self) -> list[_Client]:
        with self._lock:
            return [client for client in self._clients if client.deadline is not None]

    def _drop(self, client: _Client, reason: str) -> bool:
        """End a handshake; False if it has come to its own end meanwhile."""
        with self._lock:
            if client.deadline is None or client not in self._clients:
                return False
            del self._clients[client]
        self._log.line(f"{client.channel.peer}: {reason}")
        client.channel.shut_down()
        return True

    def _forget(self, client: _Client) -> None:
        with self._lock:
            self._clients.pop(client, None)

    # -- one client, in its own thread ---------------------------------------------------------------------------

    def _run(self, client: _Client) -> None:
        peer = client.channel.peer
        try:
            self._handshake_and_serve(client)
        except (ChannelError, ProtocolError) as error:
            self._log.line(f"{peer}: closed: {error}")
        finally:
            client.channel.close()
            self._forget(client)
            if client.connection is not None and not self._settings.persistent:
                self._stop_if_unused()

    def _stop_if_unused(self) -> None:
        """Stop a server that is to end when its last client has left."""
        with self._lock:
            is_unused = all(client.connection is None for client in self._clients)
        if is_unused:
            self.stop()

    def _handshake_and_serve(self, client: _Client) -> None:
        names = {name: export.description for name, export in self._exports.items()}
        settings = self._settings
        handshake = Handshake(names, tls=settings.tls is not None, default_export=settings.default_export)
        opened = _ClientExport(self._exports, self._log, client)
        try:
            client.channel.send((handshake.greeting(),))
            agreement = self._negotiate(client, handshake, opened)
            if agreement is None or opened.device is None:
                return
            connection = Connection(client.channel, opened.device, agreement, handshake.unread, self._shared)
            with self._lock:
                client.connection = connection
                if self._stopping:
                    connection.stop()
            self._log.line(f"{client.channel.peer}: connected to {agreement.export_name!r}")
            connection.run()
            self._log.detail(f"{client.channel.peer}: left")
        finally:
            opened.close()

    def _negotiate(self, client: _Client, handshake: Handshake, opened: _ClientExport) -> Agreement | None:
        """Do the handshake; None if it leads to nothing."""
        buffer = bytearray(_RECEIVE_SIZE)
        while count := client.channel.receive_into(memoryview(buffer)):
            handshake.receive(bytes(buffer[:count]))
            while event := handshake.next_event():
                match event:
                    case Send(data):
                        client.channel.send((data,))
                    case StartTls():
                        self._start_tls(client)
                        handshake.tls_started()
                    case OpenExport(name):
                        if opened.open(name, handshake) and handshake.is_over and not self._keep(client):
                            return None
                    case Transmit(agreement):
                        return agreement
                    case Close(reason):
                        if reason:
                            self._log.line(f"{client.channel.peer}: closed: {reason}")
                        return None
        return None

    def _keep(self, client: _Client) -> bool:
        """Decide that a client will not be dropped, before it hears so; False if it has been dropped already."""
        with self._lock:
            client.deadline = None
            return client in self._clients and not self._stopping

    def _start_tls(self, client: _Client) -> None:
        from vhdx.nbd.tls import TlsChannel

        context, deadline = self._settings.tls, client.deadline
        assert context is not None
        assert deadline is not None
        assert isinstance(client.channel, SocketChannel)
        channel = client.channel = TlsChannel(client.channel, context)
        channel.handshake(deadline)

    # -- the end -------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Answer what was asked, then close everything."""
        self._stopping = True
        for listener in self._listeners:
            listener.close()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.channel.stop_receiving()
            if client.connection is not None:
                client.connection.stop()
        give_up = time.monotonic() + STOP_SECONDS
        for client in clients:
            if client.thread is not None:
                client.thread.join(max(0.0, give_up - time.monotonic()))
        for client in clients:
            client.channel.shut_down()
        for client in clients:
            if client.thread is not None:
                client.thread.join()
        for export in self._exports.values():
            export.close()
        self._waker.close()
        self._wakened.close()


class _ClientExport:
    """The export that has been opened for one client."""

    def __init__(self, exports: Mapping[str, Export], server_log: ServerLog, client: _Client) -> None:
        self._exports = exports
        self._log = server_log
        self._client = client
        self._export: Export | None = None
        self.device: DirectDevice | None = None

    def open(self, name: str, handshake: Handshake) -> bool:
        """Open an export, and tell the handshake whether that succeeded. The client's deadline waits meanwhile."""
        export = self._exports[name]
        client, began = self._client, time.monotonic()
        deadline, client.deadline = client.deadline, math.inf
        assert deadline is not None
        try:
            if self.device is None or export is not self._export:
                self.close()
                self.device = export.acquire()
                self._export = export
            handshake.opened(offer(self.device, export.description))
        except (VhdxError, OSError) as error:
            self._log.line(f"{client.channel.peer}: {name!r} cannot be opened: {error}")
            handshake.refused(OptionReply.ERR_UNKNOWN, "the export cannot be opened")
            return False
        else:
            return True
        finally:
            client.deadline = deadline + time.monotonic() - began

    def close(self) -> None:
        """Give the export back."""
        export, self._export, self.device = self._export, None, None
        if export is not None:
            try:
                export.release()
            except (VhdxError, OSError) as error:
                self._log.line(f"{self._client.channel.peer}: {export.name!r} was not closed well: {error}")


def _spell_peer(connection: socket.socket, address: object) -> str:
    if isinstance(address, tuple):
        return f"{address[0]}:{address[1]}"
    # The client of a Unix socket has no address. Where the system tells, its process has a number.
    peer_credentials = getattr(socket, "SO_PEERCRED", None)
    if peer_credentials is None:
        return f"client {connection.fileno()}"
    process_id = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, peer_credentials, 4), "little")
    return f"pid {process_id}.{connection.fileno()}"
