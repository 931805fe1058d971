"""A client's half of the handshake taken apart: its flags, then option after option, each once it is complete.

Of a payload longer than 64 KiB nothing is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx._units import KIB, MIB
from vhdx.nbd.protocol.constants import CLIENT_FLAGS, OPTION_HEADER, OPTION_MAGIC, ClientFlag

if TYPE_CHECKING:
    from vhdx._buffer import Buffer

MAX_PAYLOAD_BYTES: Final = 64 * KIB
"""Longest payload of an option that is kept; a longer one is passed over."""
MAX_SKIPPED_BYTES: Final = MIB
"""Longest payload of an option that is passed over; a longer one ends the connection."""
MAX_OPTIONS: Final = 1024
"""Most options in one handshake."""


class BreachError(Exception):
    """The client did something after which the connection must end; the text says what."""


class OptionMessage(NamedTuple):
    """An option, whether or not this server knows it."""

    option: int
    payload: bytes | None
    """None if the payload was too long to be kept."""


class _Header(NamedTuple):
    option: int
    length: int
    """Bytes of the payload that have not been taken yet."""
    kept: bool
    """Whether the payload is short enough to be kept."""


class OptionStream:
    """The bytes that a client has sent, and their meaning as far as they are complete."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._header: _Header | None = None
        self._options = 0

    def feed(self, data: Buffer) -> None:
        """Add bytes."""
        self._pending += data

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def rest(self) -> bytes:
        """All bytes that have not been taken."""
        return bytes(self._pending)

    def flags(self) -> ClientFlag | None:
        """Take the client's flags; None if more bytes are needed. Raises: BreachError."""
        if len(self._pending) < CLIENT_FLAGS.size:
            return None
        (flags,) = CLIENT_FLAGS.unpack(self._take(CLIENT_FLAGS.size))
        unknown = flags & ~sum(ClientFlag)  # ~ of an IntFlag would keep its known flags only
        if unknown:
            raise BreachError(f"unknown client flags {unknown:#x}")
        return ClientFlag(flags)

    def option(self) -> OptionMessage | None:
        """Take the next option; None if more bytes are needed. Raises: BreachError."""
        if self._header is None:
            if len(self._pending) < OPTION_HEADER.size:
                return None
            self._header = self._check_header(*OPTION_HEADER.unpack(self._take(OPTION_HEADER.size)))
        option, length, kept = self._header
        if not kept:
            dropped = min(length, len(self._pending))
            del self._pending[:dropped]
            self._header = _Header(option, length - dropped, kept)
            if dropped < length:
                return None
        elif len(self._pending) < length:
            return None
        self._header = None
        return OptionMessage(option, self._take(length) if kept else None)

    def _take(self, length: int) -> bytes:
        piece = bytes(memoryview(self._pending)[:length])
        del self._pending[:length]
        return piece

    def _check_header(self, magic: int, option: int, length: int) -> _Header:
        if magic != OPTION_MAGIC:
            raise BreachError(f"an option begins with {magic:#018x} instead of {OPTION_MAGIC:#018x}")
        if length > MAX_SKIPPED_BYTES:
            raise BreachError(f"option {option} has a payload of {length} bytes")
        self._options += 1
        if self._options > MAX_OPTIONS:
            raise BreachError(f"more than {MAX_OPTIONS} options")
        return _Header(option, length, length <= MAX_PAYLOAD_BYTES)
