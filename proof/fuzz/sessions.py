"""Whole conversations of a client with the server, sound and damaged ones, without a socket.

A conversation is made from a seed: a handshake, then requests of all kinds, some of which cannot be; it is cut
into pieces at random, and every other time its bytes are damaged. What must hold: the server raises nothing but
what ends a connection, gives back all memory, and sends a stream that can be taken apart; while nothing is
damaged, each request is answered once, and a read with what the disk holds.
"""

from __future__ import annotations

import random
import struct
import threading
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx._units import MIB
from vhdx.disks.chain import open_disk
from vhdx.disks.raw import RawDevice
from vhdx.nbd.budget import Budget
from vhdx.nbd.channel import ChannelError
from vhdx.nbd.connection import Connection
from vhdx.nbd.export import offer
from vhdx.nbd.protocol.events import Close, OpenExport, Send, StartTls, Transmit
from vhdx.nbd.protocol.handshake import Handshake
from vhdx.nbd.protocol.transmission import ProtocolError
from vhdx.nbd.server_log import ServerLog
from vhdx.nbd.shared import Shared
from vhdx.ops.create import create
from vhdx.storage.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import DirectDevice
    from vhdx.nbd.protocol.events import Agreement

_SIZE: Final = 4 * MIB
_CONTENT: Final = random.Random(0).randbytes(_SIZE)
_READ, _WRITE, _DISC, _FLUSH, _TRIM, _CACHE, _ZEROES, _STATUS = range(8)
_LENGTHS: Final = (0, 1, 511, 512, 4096, 32768, 65536, 100_000, MIB, MIB + 1, _SIZE, 2**25 + 1, 2**32 - 1)


_CHANGING: Final = frozenset((_WRITE, _TRIM, _ZEROES))


class _Form(NamedTuple):
    """A way to spell requests and replies, from the protocol's description."""

    option: int | None
    """That the client has to name."""
    request_magic: int
    request: struct.Struct
    reply_magic: int
    reply: struct.Struct


_SIMPLE: Final = _Form(None, 0x25609513, struct.Struct(">IHHQQI"), 0x67446698, struct.Struct(">IIQ"))
_STRUCTURED: Final = _Form(8, 0x25609513, struct.Struct(">IHHQQI"), 0x668E33EF, struct.Struct(">IHHQI"))
_EXTENDED: Final = _Form(11, 0x21E41C71, struct.Struct(">IHHQQQ"), 0x6E8A278C, struct.Struct(">IHHQQQ"))


class SessionError(AssertionError):
    """The server did what it must not."""


class Outcome(NamedTuple):
    """What became of a conversation."""

    end: str
    """"left", or why the connection ended."""
    replies: int
    damaged: bool


class _Script:
    """A channel whose client says what is written down, and keeps what it is told."""

    peer = "script"
    sends_files = False

    def __init__(self, stream: bytes, rng: random.Random) -> None:
        self._stream = stream
        self._rng = rng
        self._position = 0
        self._lock = threading.Lock()
        self.sent = bytearray()
        self.sent_bytes = 0

    def receive_into(self, buffer: memoryview) -> int:
        step = min(len(buffer), self._rng.choice((1, 7, 28, 100, 4096, 65536)))
        piece = self._stream[self._position : self._position + step]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def wait(self, timeout_seconds: float) -> bool:  # noqa: ARG002 - a script never lets anybody wait
        return True

    def send(self, parts: Sequence[Buffer]) -> None:
        with self._lock:
            for part in parts:
                self.sent += part
            self.sent_bytes = len(self.sent)

    def send_file(self, header: Buffer, fd: int, file_offset: int, length: int) -> None:  # noqa: ARG002
        raise ChannelError("a script sends no files")

    def taken_bytes(self) -> int:
        return len(self.sent)

    def stop_receiving(self) -> None:
        self._position = len(self._stream)

    shut_down = close = stop_receiving


def hold_session(seed: int) -> Outcome:
    """Have one conversation. Raises: SessionError, and whatever the server lets escape."""
    rng = random.Random(seed)
    form = rng.choice((_SIMPLE, _STRUCTURED, _EXTENDED))
    requests = list(_requests(rng, form))
    stream = _handshake(rng, form) + b"".join(message for _, message in requests)
    damaged = seed % 2 == 1
    if damaged:
        stream = _damage(stream, rng)
    channel, budget = _Script(stream, rng), Budget(8 * MIB)
    device = RawDevice(MemoryStore(_CONTENT)) if rng.random() < 0.5 else open_disk(_image())
    try:
        end, greeted = _serve(channel, device, budget)
    finally:
        device.close()
    if budget.used:
        raise SessionError(f"{budget.used} bytes of payload were not given back")
    replies = 0
    if not damaged:
        if greeted is None:
            raise SessionError(f"a sound handshake failed: {end}")
        asked = {request.cookie: request for request, _ in requests}
        for reply in _replies(bytes(channel.sent[greeted:]), form, asked):
            replies += 1
            _judge(reply, asked)
        if end == "left" and asked:
            raise SessionError(f"never answered: {sorted(asked)}")
    return Outcome(end, replies, damaged)


class _Reply(NamedTuple):
    cookie: int
    error: int
    pieces: list[tuple[int, bytes]]
    """(virtual offset, data) of what was read, in order."""


def _judge(reply: _Reply, asked: dict[int, _Asked]) -> None:
    """Hold a reply against its request, which is then forgotten. Raises: SessionError."""
    request = asked.pop(reply.cookie, None)
    if request is None:
        raise SessionError(f"a reply to {reply.cookie}, which waits for none")
    fits = request.offset + request.length <= _SIZE
    if request.command in _CHANGING and not reply.error:
        raise SessionError(f"{request} was done on a disk for reading")
    if request.command == _READ and not reply.error:
        found = b"".join(data for _, data in sorted(reply.pieces))
        if not fits or found != _CONTENT[request.offset : request.offset + request.length]:
            raise SessionError(f"{request} was answered with other bytes")


def _replies(stream: bytes, form: _Form, asked: dict[int, _Asked]) -> Iterator[_Reply]:
    """Take the server's stream apart. Raises: SessionError."""
    pieces: dict[int, list[tuple[int, bytes]]] = {}
    at = 0
    while at < len(stream):
        if len(stream) - at < form.reply.size:
            raise SessionError("the replies end in the middle of one")
        magic, *fields = form.reply.unpack_from(stream, at)
        at += form.reply.size
        if magic != form.reply_magic:
            raise SessionError(f"byte {at} of the replies is no reply")
        if form is _SIMPLE:
            error, cookie = fields
            request = asked.get(cookie)
            length = request.length if request and request.command == _READ and not error else 0
            yield _Reply(cookie, error, [(request.offset if request else 0, stream[at : at + length])])
            at += length
            continue
        flags, kind, cookie, *_, length = fields
        content = stream[at : at + length]
        at += length
        error = struct.unpack_from(">I", content)[0] if kind & 0x8000 else 0
        if kind == 1:
            pieces.setdefault(cookie, []).append((struct.unpack_from(">Q", content)[0], content[8:]))
        elif kind == 2:
            offset, size = struct.unpack(">QI", content)
            pieces.setdefault(cookie, []).append((offset, bytes(size)))
        if flags & 1:
            yield _Reply(cookie, error, pieces.pop(cookie, []))


def _serve(channel: _Script, device: DirectDevice, budget: Budget) -> tuple[str, int | None]:
    """Run both phases; how it ended, and how much had been sent when transmission began (None: it did not)."""
    handshake = Handshake({"": "a disk"}, tls=False, default_export="")
    channel.send((handshake.greeting(),))
    agreement: Agreement | None = None
    buffer = bytearray(512)
    while agreement is None:
        count = channel.receive_into(memoryview(buffer))
        if not count:
            return "left in the handshake", None
        handshake.receive(bytes(buffer[:count]))
        for event in iter(handshake.next_event, None):
            match event:
                case Send(data):
                    channel.send((data,))
                case OpenExport():
                    handshake.opened(offer(device, ""))
                case Transmit(found):
                    agreement = found
                case Close(reason):
                    return reason or "aborted", None
                case StartTls():
                    raise SessionError("TLS was started by a server that has none")
    greeted = len(channel.sent)
    connection = Connection(
        channel, device, agreement, handshake.unread, Shared(ServerLog(lambda _: None), budget)
    )
    try:
        connection.run()
    except (ProtocolError, ChannelError) as error:
        return str(error), greeted
    return "left", greeted


@cache
def _image() -> MemoryStore:
    """A VHDX with the same content."""
    store = MemoryStore()
    create(store, _SIZE, block_size=MIB)
    with open_disk(store, "r+") as disk:
        disk.pwrite(_CONTENT, 0)
    return store


def _handshake(rng: random.Random, form: _Form) -> bytes:
    """What a client says before its first request."""

    def option(number: int, payload: bytes = b"") -> bytes:
        return b"IHAVEOPT" + struct.pack(">II", number, len(payload)) + payload

    said = [struct.pack(">I", 3)]
    if rng.random() < 0.3:
        said.append(option(rng.randrange(20, 2**32)))
    if form.option is not None:
        said.append(option(form.option))
        queries = [b"base:allocation", b"vhdx:depth", b"x:y"]
        payload = struct.pack(">II", 0, len(queries))
        said.append(option(10, payload + b"".join(struct.pack(">I", len(q)) + q for q in queries)))
    go = option(7, struct.pack(">IH", 0, 0))
    said.append(option(6, struct.pack(">IH", 0, 0)) + go if rng.random() < 0.3 else go)
    return b"".join(said)


class _Asked(NamedTuple):
    command: int
    offset: int
    length: int
    cookie: int


def _requests(rng: random.Random, form: _Form) -> Iterator[tuple[_Asked, bytes]]:
    """Requests with cookies of their own, and what stands for them on the wire."""
    for cookie in range(rng.randrange(40)):
        command = rng.choice((_READ, _READ, _READ, _WRITE, _FLUSH, _TRIM, _CACHE, _ZEROES, _STATUS, 77))
        offset = rng.choice((0, rng.randrange(_SIZE), _SIZE - 1, _SIZE, 2**64 - 1))
        length = rng.choice(_LENGTHS)
        flags = rng.choice((0, 0, 0, 1, 2, 4, 8, 16, 1 << 9)) if form.option else 0
        payload = b""
        if command == _WRITE:
            payload = bytes(rng.choice((0, 1, 512, 4096, 70_000)))
            length = len(payload)
            flags |= 32 if form is _EXTENDED else 0
        elif command == _FLUSH:
            offset = length = 0
        message = form.request.pack(form.request_magic, flags, command, cookie, offset, length)
        yield _Asked(command, offset, length, cookie), message + payload


def _damage(stream: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(stream)
    for _ in range(rng.choice((1, 1, 2, 5, 50))):
        at = rng.randrange(len(damaged))
        match rng.randrange(4):
            case 0:
                damaged[at] ^= 1 << rng.randrange(8)
            case 1:
                damaged[at] = rng.choice((0, 0xFF, 0x7F, 0x80))
            case 2:
                del damaged[at : at + rng.randrange(1, 40)]
            case _:
                damaged[at:at] = rng.randbytes(rng.randrange(1, 40))
        if not damaged:
            break
    return bytes(damaged)
