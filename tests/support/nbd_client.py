"""A client of network block devices that has its own idea of the protocol, and sends nonsense as readily as sense."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from struct import calcsize, pack, unpack, unpack_from

from support import nbd_wire as wire

GUARD_SECONDS = 60
"""After so long without a byte, a test has hung."""

READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD = 1, 2, 4, 8, 16, 32
EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108

SIMPLE, STRUCTURED, EXTENDED = "simple", "structured", "extended"
STYLES = (SIMPLE, STRUCTURED, EXTENDED)
"""Kinds of replies that a client can agree to."""


@dataclass
class Reply:
    """All that came back for one request."""

    cookie: int
    error: int = 0
    message: str = ""
    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    """Offset and content, holes filled in."""
    holes: list[tuple[int, int]] = field(default_factory=list)
    status: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """By context id: length and flags."""

    @property
    def data(self) -> bytes:
        """The content of a read, whose pieces must follow each other without a gap."""
        ordered = sorted(self.pieces)
        for (offset, content), (following, _) in pairwise(ordered):
            assert offset + len(content) == following
        return b"".join(content for _, content in ordered)


class Client:
    """One connection. Every wait ends with an error after GUARD_SECONDS."""

    def __init__(self, address: str | Path | tuple[str, int]) -> None:
        family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        self.socket: socket.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(GUARD_SECONDS)
        self.socket.connect(address if isinstance(address, tuple) else str(address))
        self.style = SIMPLE
        self.size = 0
        self.flags = 0
        self.contexts: dict[int, bytes] = {}
        self._open: dict[int, Reply] = {}
        self._lengths: dict[int, tuple[int, int]] = {}
        """Offset and length of reads under way: a simple reply does not tell."""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    # Bytes

    def send(self, data: bytes) -> None:
        """Send anything."""
        self.socket.sendall(data)

    def receive(self, count: int) -> bytes:
        """Receive exactly so much. Raises: EOFError."""
        content = bytearray(count)
        view = memoryview(content)
        while view:
            got = self.socket.recv_into(view)
            if not got:
                raise EOFError(f"the server hung up, {len(view)} bytes before the end of {count}")
            view = view[got:]
        return bytes(content)

    def is_closed(self) -> bool:
        """Whether the server hangs up, whatever it says before."""
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    # The handshake

    def greet(self, *, no_zeroes: bool = True) -> Client:
        """Exchange greetings."""
        assert self.receive(18) == wire.GREETING
        self.send(wire.flags(no_zeroes=no_zeroes))
        return self

    def option(self, number: int, payload: bytes = b"") -> list[wire.OptionReply]:
        """Send an option; return all replies up to the one that ends them."""
        self.send(wire.option(number, payload))
        return self.option_replies()

    def option_replies(self) -> list[wire.OptionReply]:
        """Receive the replies to an option."""
        replies: list[wire.OptionReply] = []
        while not replies or wire.ACK != replies[-1].kind < wire.UNSUP:
            header = self.receive(20)
            (length,) = unpack_from(">I", header, 16)
            replies += wire.replies(header + self.receive(length))
        return replies

    def start_tls(self, context: ssl.SSLContext, server_name: str) -> Client:
        """Go on encrypted."""
        assert self.option(wire.STARTTLS) == [(wire.STARTTLS, wire.ACK, b"")]
        self.socket = context.wrap_socket(self.socket, server_hostname=server_name)
        return self

    def go(self, name: bytes = b"", style: str = STRUCTURED, contexts: Sequence[bytes] = ()) -> Client:
        """Agree on a style of replies and on contexts, and enter transmission."""
        self.style = style
        if style != SIMPLE:
            number = wire.STRUCTURED_REPLY if style == STRUCTURED else wire.EXTENDED_HEADERS
            assert self.option(number)[-1].kind == wire.ACK
        if contexts:
            *chosen, end = self.option(wire.SET_CONTEXTS, wire.context_payload(name, contexts))
            assert end.kind == wire.ACK
            self.contexts = {int.from_bytes(reply.payload[:4], "big"): reply.payload[4:] for reply in chosen}
        *told, end = self.option(wire.GO, wire.info_payload(name, [3]))
        assert end.kind == wire.ACK, end
        (export,) = (reply.payload for reply in told if reply.payload[:2] == b"\0\0")
        self.size, self.flags = unpack(">QH", export[2:])
        return self

    # Transmission

    def request(
        self,
        command: int,
        offset: int = 0,
        length: int = 0,
        *,
        flags: int = 0,
        cookie: int = 1,
        payload: bytes = b"",
    ) -> bytes:
        """Make a request as this connection spells it, followed by a payload."""
        if command == READ:
            self._lengths[cookie] = (offset, length)
        if self.style == EXTENDED:
            if payload or command == WRITE:
                flags |= PAYLOAD
            return pack(">IHHQQQ", 0x21E41C71, flags, command, cookie, offset, length) + payload
        return pack(">IHHQQI", 0x25609513, flags, command, cookie, offset, length) + payload

    def ask(
        self, command: int, offset: int = 0, length: int = 0, *, flags: int = 0, cookie: int = 1
    ) -> Reply:
        """Make a request without a payload, and wait for its reply."""
        self.send(self.request(command, offset, length, flags=flags, cookie=cookie))
        return self.reply()

    def read(self, offset: int, length: int) -> bytes:
        """Read, successfully."""
        reply = self.ask(READ, offset, length)
        assert not reply.error, reply
        assert len(reply.data) == length
        return reply.data

    def write(self, offset: int, payload: bytes, *, flags: int = 0, cookie: int = 1) -> Reply:
        """Write, and wait for the reply."""
        self.send(self.request(WRITE, offset, len(payload), flags=flags, cookie=cookie, payload=payload))
        return self.reply()

    def disconnect(self) -> None:
        """Say goodbye, and wait for the end."""
        self.send(self.request(DISC))
        assert self.is_closed()
        self.close()

    def reply(self) -> Reply:
        """Wait until all of a reply is there, whichever request it belongs to."""
        while True:
            reply, done = self._simple() if self.style == SIMPLE else self._chunk()
            if done:
                self._open.pop(reply.cookie, None)
                return reply

    def _simple(self) -> tuple[Reply, bool]:
        magic, error, cookie = unpack(">IIQ", self.receive(16))
        assert magic == 0x67446698
        reply = Reply(cookie, error)
        if cookie in self._lengths:
            offset, length = self._lengths.pop(cookie)
            if not error:
                reply.pieces.append((offset, self.receive(length)))
        return reply, True

    def _chunk(self) -> tuple[Reply, bool]:
        if self.style == STRUCTURED:
            magic, flags, kind, cookie, length = unpack(">IHHQI", self.receive(20))
            assert magic == 0x668E33EF
        else:
            magic, flags, kind, cookie, _, length = unpack(">IHHQQQ", self.receive(32))
            assert magic == 0x6E8A278C
        reply = self._open.setdefault(cookie, Reply(cookie))
        self._take(reply, kind, self.receive(length))
        return reply, bool(flags & 1)

    def _take(self, reply: Reply, kind: int, content: bytes) -> None:
        match kind:
            case 0:
                assert not content
            case 1:
                (offset,) = unpack_from(">Q", content)
                reply.pieces.append((offset, content[8:]))
            case 2:
                offset, length = unpack(">QI", content)
                reply.pieces.append((offset, bytes(length)))
                reply.holes.append((offset, length))
            case 5:
                assert self.style == STRUCTURED
                (context,) = unpack_from(">I", content)
                reply.status[context] = _pairs(">II", content[4:])
            case 6:
                assert self.style == EXTENDED
                context, count = unpack_from(">II", content)
                reply.status[context] = _pairs(">QQ", content[8:])
                assert len(reply.status[context]) == count
            case 0x8001 | 0x8002:
                reply.error, length = unpack_from(">IH", content)
                reply.message = content[6 : 6 + length].decode()
            case _:
                raise AssertionError(f"a chunk of type {kind:#x}")


def _pairs(layout: str, content: bytes) -> list[tuple[int, int]]:
    size = calcsize(layout)
    assert len(content) % size == 0
    pairs = [unpack_from(layout, content, at) for at in range(0, len(content), size)]
    return [(first, second) for first, second in pairs]
