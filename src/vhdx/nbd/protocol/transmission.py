"""The transmission phase as bytes: requests are taken apart, replies put together (NBD protocol, "Transmission").

Nothing here waits, and nothing here knows a socket or a device. `RequestReader` holds what has been received
and gives out whole requests. There are three kinds of `Replies`, of which a client has agreed to one: simple,
structured, extended.
"""

from __future__ import annotations

import mmap
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from vhdx.nbd.protocol.constants import (
    ERROR,
    EXTENDED_REPLY_HEADER,
    EXTENDED_REPLY_MAGIC,
    EXTENDED_REQUEST_HEADER,
    EXTENDED_REQUEST_MAGIC,
    MAX_STRING_BYTES,
    OFFSET_HOLE,
    REQUEST_HEADER,
    REQUEST_MAGIC,
    SIMPLE_REPLY_HEADER,
    SIMPLE_REPLY_MAGIC,
    STATUS,
    STATUS_DESCRIPTOR,
    STATUS_EXT,
    STATUS_EXT_DESCRIPTOR,
    STRUCTURED_REPLY_HEADER,
    STRUCTURED_REPLY_MAGIC,
    Command,
    CommandFlag,
    NbdError,
    ReplyFlag,
    ReplyType,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vhdx.nbd.protocol.events import Agreement

RECEIVE_SIZE: Final = 256 << 10
"""Enough for four writes of 64 KiB with one call; a larger buffer was not faster."""
MAX_PAYLOAD: Final = 32 << 20
"""Largest read and write: the length that the protocol lets every client expect to be served."""

_DONE: Final = int(ReplyFlag.DONE)
_READ: Final = int(Command.READ)
_WRITE: Final = int(Command.WRITE)
_PAYLOAD_LEN: Final = int(CommandFlag.PAYLOAD_LEN)
_OFFSET_DATA: Final = int(ReplyType.OFFSET_DATA)
# A chunk's header and the offset in front of its data, in one call: every small read needs one.
_DATA_HEAD: Final = Struct(">IHHQIQ")
_EXTENDED_DATA_HEAD: Final = Struct(">IHHQQQQ")


class ProtocolError(Exception):
    """The stream is out of step: nothing that the client sends can be understood any more."""


class Request(NamedTuple):
    """One request, without its payload. The numbers are the client's: they have not been checked."""

    command: int
    flags: int
    cookie: int
    offset: int
    length: int
    payload_length: int
    """Bytes that follow the request on the wire."""


class RequestReader:
    """Bytes in, requests out. Holds at most RECEIVE_SIZE bytes."""

    def __init__(self, *, extended: bool, received: bytes = b"") -> None:
        """`received`: what came behind the handshake already."""
        # Pages that nothing was received into take no memory: most clients send small requests.
        self._buffer = mmap.mmap(-1, max(RECEIVE_SIZE, len(received)))
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = len(received)
        self._buffer[: self._end] = received
        self._extended = extended
        self._struct = EXTENDED_REQUEST_HEADER if extended else REQUEST_HEADER
        self._magic = EXTENDED_REQUEST_MAGIC if extended else REQUEST_MAGIC

    def space(self) -> memoryview:
        """Where to put the bytes that are received next. Views that `peek` has given are not valid any more."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start:
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start, self._end = 0, rest
        return self._view[self._end :]

    def received(self, count: int) -> None:
        """Take note of bytes that have been put into `space`."""
        self._end += count

    @property
    def available(self) -> int:
        """Bytes received and not taken yet."""
        return self._end - self._start

    def request(self) -> Request | None:
        """Take the next request; None until more has been received. Raises: ProtocolError."""
        start = self._start
        if self._end - start < self._struct.size:
            return None
        magic, flags, command, cookie, offset, length = self._struct.unpack_from(self._buffer, start)
        if magic != self._magic:
            raise ProtocolError(f"a request begins with {magic:#010x}, not {self._magic:#010x}")
        self._start = start + self._struct.size
        has_payload = command == _WRITE or (flags & _PAYLOAD_LEN and self._extended)
        return Request(command, flags, cookie, offset, length, length if has_payload else 0)

    def peek(self, length: int) -> memoryview | None:
        """Take a payload that has been received as a whole, without a copy; None if it has not."""
        start = self._start
        if self._end - start < length:
            return None
        self._start = start + length
        return self._view[start : self._start]

    def take(self, into: memoryview) -> int:
        """Move the beginning of a payload into a buffer; return how much of it had been received."""
        count = min(len(into), self._end - self._start)
        into[:count] = self._view[self._start : self._start + count]
        self._start += count
        return count

    def skip(self, length: int) -> int:
        """Forget the beginning of a payload; return how much of it had been received."""
        count = min(length, self._end - self._start)
        self._start += count
        return count


class Replies(Protocol):
    """How replies to one client are spelled."""

    chunked: bool
    """Whether a read may be answered in several chunks, holes and errors among them."""
    data_header_size: int
    """Bytes in front of the data of a read."""

    def put_data_header(
        self,
        buffer: bytearray | memoryview,
        at: int,
        request: Request,
        offset: int,
        length: int,
        *,
        last: bool,
    ) -> None:
        """Write into a buffer what stands in front of read data. `last`: it ends the reply."""
        ...

    def hole(self, request: Request, offset: int, length: int, *, last: bool) -> bytes:
        """A part of a read that is zeroes."""
        ...

    def done(self, request: Request) -> bytes:
        """Success, with nothing (more) to say."""
        ...

    def error(self, request: Request, error: int, message: str = "") -> bytes:
        """Failure; ends the reply."""
        ...

    def status(
        self, request: Request, context_id: int, pieces: Iterable[tuple[int, int]], *, last: bool
    ) -> bytes:
        """What a context tells of a range: (length, flags) of neighbouring pieces."""
        ...


class SimpleReplies:
    """One header, then the data of a read."""

    chunked = False
    data_header_size = SIMPLE_REPLY_HEADER.size

    def put_data_header(
        self,
        buffer: bytearray | memoryview,
        at: int,
        request: Request,
        offset: int,
        length: int,
        *,
        last: bool,
    ) -> None:
        SIMPLE_REPLY_HEADER.pack_into(buffer, at, SIMPLE_REPLY_MAGIC, 0, request.cookie)

    def hole(self, request: Request, offset: int, length: int, *, last: bool) -> bytes:
        raise AssertionError("a simple reply has no chunks")

    def done(self, request: Request) -> bytes:
        return SIMPLE_REPLY_HEADER.pack(SIMPLE_REPLY_MAGIC, 0, request.cookie)

    def error(self, request: Request, error: int, message: str = "") -> bytes:
        return SIMPLE_REPLY_HEADER.pack(SIMPLE_REPLY_MAGIC, error, request.cookie)

    def status(
        self, request: Request, context_id: int, pieces: Iterable[tuple[int, int]], *, last: bool
    ) -> bytes:
        raise AssertionError("block status needs structured replies")


class StructuredReplies:
    """Chunks with 32-bit lengths."""

    chunked = True
    data_header_size = _DATA_HEAD.size

    def put_data_header(
        self,
        buffer: bytearray | memoryview,
        at: int,
        request: Request,
        offset: int,
        length: int,
        *,
        last: bool,
    ) -> None:
        _DATA_HEAD.pack_into(
            buffer, at, STRUCTURED_REPLY_MAGIC, last, _OFFSET_DATA, request.cookie, length + 8, offset
        )

    def hole(self, request: Request, offset: int, length: int, *, last: bool) -> bytes:
        return self._chunk(request, ReplyType.OFFSET_HOLE, OFFSET_HOLE.pack(offset, length), last=last)

    def done(self, request: Request) -> bytes:
        return self._chunk(request, ReplyType.NONE, b"", last=True)

    def error(self, request: Request, error: int, message: str = "") -> bytes:
        text = message.encode()[:MAX_STRING_BYTES]
        return self._chunk(request, ReplyType.ERROR, ERROR.pack(error, len(text)) + text, last=True)

    def status(
        self, request: Request, context_id: int, pieces: Iterable[tuple[int, int]], *, last: bool
    ) -> bytes:
        described = b"".join(STATUS_DESCRIPTOR.pack(length, flags) for length, flags in pieces)
        return self._chunk(request, ReplyType.BLOCK_STATUS, STATUS.pack(context_id) + described, last=last)

    def _chunk(self, request: Request, kind: ReplyType, content: bytes, *, last: bool) -> bytes:
        flags = _DONE if last else 0
        head = (STRUCTURED_REPLY_MAGIC, flags, kind, request.cookie, len(content))
        return STRUCTURED_REPLY_HEADER.pack(*head) + content


class ExtendedReplies(StructuredReplies):
    """Chunks with 64-bit lengths, which repeat the offset of the request."""

    data_header_size = _EXTENDED_DATA_HEAD.size

    def put_data_header(
        self,
        buffer: bytearray | memoryview,
        at: int,
        request: Request,
        offset: int,
        length: int,
        *,
        last: bool,
    ) -> None:
        head = (EXTENDED_REPLY_MAGIC, last, _OFFSET_DATA, request.cookie, request.offset, length + 8, offset)
        _EXTENDED_DATA_HEAD.pack_into(buffer, at, *head)

    def status(
        self, request: Request, context_id: int, pieces: Iterable[tuple[int, int]], *, last: bool
    ) -> bytes:
        described = [STATUS_EXT_DESCRIPTOR.pack(length, flags) for length, flags in pieces]
        content = STATUS_EXT.pack(context_id, len(described)) + b"".join(described)
        return self._chunk(request, ReplyType.BLOCK_STATUS_EXT, content, last=last)

    def _chunk(self, request: Request, kind: ReplyType, content: bytes, *, last: bool) -> bytes:
        flags = _DONE if last else 0
        head = (EXTENDED_REPLY_MAGIC, flags, kind, request.cookie, request.offset, len(content))
        return EXTENDED_REPLY_HEADER.pack(*head) + content


def replies_for(agreement: Agreement) -> Replies:
    """The kind of replies that a client has agreed to."""
    if agreement.extended:
        return ExtendedReplies()
    return StructuredReplies() if agreement.structured else SimpleReplies()


_READING: Final = frozenset(map(int, (Command.READ, Command.BLOCK_STATUS, Command.CACHE)))
_ALLOWED_FLAGS: Final[dict[int, int]] = {
    int(command): int(CommandFlag.FUA | more)
    for command, more in (
        (Command.READ, CommandFlag.DF),
        (Command.WRITE, CommandFlag.PAYLOAD_LEN),
        (Command.FLUSH, 0),
        (Command.TRIM, 0),
        (Command.CACHE, 0),
        (Command.WRITE_ZEROES, CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO),
        (Command.BLOCK_STATUS, CommandFlag.REQ_ONE),
    )
}
"""Flags that a command may carry. FUA is allowed with every command, and has a meaning where data change."""


class RequestRules:
    """What may be asked of one export."""

    def __init__(
        self, size: int, *, writable: bool, structured: bool, extended: bool, contexts: bool
    ) -> None:
        """`size` of the export in bytes; `contexts`: whether metadata contexts were agreed on."""
        self._size = size
        self._allowed_flags = _ALLOWED_FLAGS
        if not extended:
            self._allowed_flags = {**_ALLOWED_FLAGS, _WRITE: _ALLOWED_FLAGS[_WRITE] & ~_PAYLOAD_LEN}
        self._writable = writable
        self._plain = (_READ, _WRITE) if writable else (_READ,)
        self._structured = structured
        self._contexts = contexts

    def error(self, request: Request) -> int:
        """The error for a request that is wrong in itself; 0 if it may be tried."""
        command, flags, _, offset, length, _ = request
        if (
            command in self._plain
            and not flags
            and 0 < length <= MAX_PAYLOAD
            and offset + length <= self._size
        ):
            return 0  # nearly all requests end here
        allowed = self._allowed_flags.get(command)
        if allowed is None or flags & ~allowed:
            return NbdError.EINVAL
        if command not in _READING and not self._writable and command != Command.FLUSH:
            return NbdError.EPERM
        if offset + length > self._size:
            adds = command in (Command.WRITE, Command.WRITE_ZEROES)
            return NbdError.ENOSPC if adds else NbdError.EINVAL
        if command == Command.READ:
            return self._read_error(flags, length)
        if command == Command.WRITE and length > MAX_PAYLOAD:
            return NbdError.EINVAL
        if command == Command.BLOCK_STATUS and not (self._contexts and length):
            return NbdError.EINVAL
        return 0

    def _read_error(self, flags: int, length: int) -> int:
        if length > MAX_PAYLOAD:
            return NbdError.EOVERFLOW if self._structured else NbdError.EINVAL
        if not length or (flags & CommandFlag.DF and not self._structured):
            return NbdError.EINVAL
        return 0
