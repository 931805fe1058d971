"""A connection in transmission over a socket pair, and a device whose every call a test can hold up or break."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vhdx._buffer import Buffer
from vhdx.blockdev.device import DirectDevice, Place
from vhdx.disks.raw import RawDevice
from vhdx.nbd.budget import Budget
from vhdx.nbd.channel import ChannelError, SocketChannel
from vhdx.nbd.connection import Connection
from vhdx.nbd.protocol.events import Agreement
from vhdx.nbd.protocol.transmission import ProtocolError
from vhdx.nbd.server_log import ServerLog
from vhdx.nbd.shared import Shared
from vhdx.storage.base import ByteStore
from vhdx.storage.file import FileStore

GUARD_SECONDS = 20.0
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO = 1, 2, 4, 8, 16
STRUCTURED = Agreement("", True, False, ((1, "base:allocation"), (2, "vhdx:depth")))
SIMPLE = Agreement("", False, False, ())


class Reply(NamedTuple):
    """What came back for one request: the data (holes filled in), the error, how many chunks and holes."""

    cookie: int
    error: int
    data: bytes
    holes: int
    chunks: int


class Talk:
    """A client that speaks structured replies over a socket."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.socket.settimeout(GUARD_SECONDS)
        self._parts: dict[int, list[tuple[int, bytes]]] = {}
        self._counts: dict[int, tuple[int, int]] = {}

    def ask(
        self,
        command: int,
        offset: int = 0,
        length: int = 0,
        *,
        cookie: int = 1,
        flags: int = 0,
        payload: bytes = b"",
    ) -> None:
        """Send a request."""
        head = struct.pack(
            ">IHHQQI", 0x25609513, flags, command, cookie, offset, len(payload) if payload else length
        )
        self.socket.sendall(head + payload)

    def exactly(self, count: int) -> bytes:
        """So many bytes."""
        found = bytearray()
        while len(found) < count:
            piece = self.socket.recv(count - len(found))
            if not piece:
                raise EOFError(f"the server closed the connection; {len(found)} of {count} bytes came")
            found += piece
        return bytes(found)

    def answer(self) -> Reply:
        """Wait for the next reply that is complete."""
        while True:
            magic, flags, kind, cookie, length = struct.unpack(">IHHQI", self.exactly(20))
            assert magic == 0x668E33EF
            content = self.exactly(length)
            holes, chunks = self._counts.pop(cookie, (0, 0))
            parts = self._parts.pop(cookie, [])
            error = 0
            if kind == 1:
                parts.append((struct.unpack_from(">Q", content)[0], content[8:]))
            elif kind == 2:
                offset, size = struct.unpack(">QI", content)
                parts.append((offset, bytes(size)))
                holes += 1
            elif kind == 5:
                parts.append((len(parts), content))
            elif kind & 0x8000:
                error = struct.unpack_from(">I", content)[0]
            if flags & 1:
                data = b"".join(piece for _, piece in sorted(parts))
                return Reply(cookie, error, data, holes, chunks + 1)
            self._parts[cookie] = parts
            self._counts[cookie] = holes, chunks + 1

    def read(self, offset: int, length: int, flags: int = 0) -> Reply:
        """Read and wait for it."""
        self.ask(READ, offset, length, flags=flags)
        return self.answer()


class Puppet(RawDevice):
    """A raw disk; calls that a test names wait until it lets them go, or fail."""

    def hold(self, name: str) -> threading.Event:
        """Calls of this name wait for the event."""
        event = threading.Event()
        self.held[name] = event
        return event

    def __init__(self, store: ByteStore) -> None:
        super().__init__(store, writable=True)
        self.held: dict[str, threading.Event] = {}
        self.broken: dict[str, Exception] = {}
        self.calls: list[str] = []
        self.places = self.quick = True

    @classmethod
    def make(cls, path: Path, content: bytes) -> Puppet:
        """A writable disk with this content."""
        path.write_bytes(content)
        return cls(FileStore.open(path, writable=True))

    def _meet(self, name: str) -> None:
        self.calls.append(name)
        if name in self.broken:
            raise self.broken[name]
        if name in self.held:
            assert self.held[name].wait(GUARD_SECONDS)

    def place(self, offset: int, length: int) -> Place | None:
        return super().place(offset, length) if self.places else None

    def writes_in_place(self, offset: int, length: int) -> bool:
        return self.quick and super().writes_in_place(offset, length)

    def pread_into(self, buffer: Buffer, offset: int) -> None:
        self._meet("pread_into")
        super().pread_into(buffer, offset)

    def pwrite(self, data: Buffer, offset: int, *, fua: bool = False) -> None:
        self._meet("pwrite")
        super().pwrite(data, offset, fua=fua)

    def flush(self) -> None:
        self._meet("flush")
        super().flush()

    def write_zeroes(
        self, length: int, offset: int, *, may_unmap: bool = True, fua: bool = False, fast_only: bool = False
    ) -> None:
        self._meet("write_zeroes")
        super().write_zeroes(length, offset, may_unmap=may_unmap, fua=fua, fast_only=fast_only)


class Session(NamedTuple):
    """One conversation."""

    talk: Talk
    connection: Connection
    lines: list[str]
    ended: list[str]
    """Why the connection ended, once it has."""
    thread: threading.Thread

    def wait(self) -> str:
        """Wait for the connection's end."""
        self.thread.join(GUARD_SECONDS)
        assert not self.thread.is_alive()
        return self.ended[0]


@contextmanager
def session(
    device: DirectDevice,
    agreement: Agreement = STRUCTURED,
    *,
    budget: Budget | None = None,
    received: bytes = b"",
) -> Iterator[Session]:
    """A client connected to a device."""
    ours, theirs = socket.socketpair()
    channel = SocketChannel(theirs, "client")
    lines: list[str] = []
    ended: list[str] = []
    connection = Connection(channel, device, agreement, received, Shared(ServerLog(lines.append), budget))

    def run() -> None:
        try:
            connection.run()
            ended.append("left")
        except (ChannelError, ProtocolError) as error:
            ended.append(str(error))
        finally:
            channel.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield Session(Talk(ours), connection, lines, ended, thread)
    finally:
        ours.close()
        thread.join(GUARD_SECONDS)
        assert not thread.is_alive()
