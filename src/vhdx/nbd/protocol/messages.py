"""The messages of the handshake: option payloads to values, replies to bytes.

Pure. Source: doc/proto.md, "Option types" and "Option reply types". A string is UTF-8 of at most 4096 bytes
without NUL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vhdx.errors import RequestError
from vhdx.nbd.protocol.constants import (
    EXPORT_NAME_PADDING,
    EXPORT_NAME_REPLY,
    MAX_STRING_BYTES,
    OPTION_REPLY_HEADER,
    OPTION_REPLY_MAGIC,
    InfoType,
    OptionReply,
)

if TYPE_CHECKING:
    from vhdx.nbd.protocol.constants import TransmissionFlag


class MessageError(Exception):
    """A client's payload breaks the protocol; the text says how."""


class InfoRequest(NamedTuple):
    """Payload of INFO and GO."""

    name: str
    wanted: frozenset[int]
    """Info types, known or not."""


class ContextRequest(NamedTuple):
    """Payload of LIST_META_CONTEXT and SET_META_CONTEXT."""

    name: str
    queries: tuple[str, ...]


class _Payload:
    """Takes a payload apart, item after item."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def take(self, length: int, what: str) -> bytes:
        end = self._position + length
        if end > len(self._content):
            raise MessageError(f"{what} reaches {end - len(self._content)} bytes past the end of the payload")
        piece = self._content[self._position : end]
        self._position = end
        return piece

    def number(self, length: int, what: str) -> int:
        return int.from_bytes(self.take(length, what), "big")

    def string(self, what: str) -> str:
        length = self.number(4, f"length of {what}")
        return decode_string(self.take(length, what), what)

    def end(self) -> None:
        left = len(self._content) - self._position
        if left:
            raise MessageError(f"{left} bytes follow the end of the payload's last item")


def decode_string(content: bytes, what: str) -> str:
    """Decode a string that a client sent. Raises: MessageError."""
    if len(content) > MAX_STRING_BYTES:
        raise MessageError(f"{what} has {len(content)} bytes, at most {MAX_STRING_BYTES} are allowed")
    if 0 in content:
        raise MessageError(f"{what} contains a NUL")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise MessageError(f"{what} is not UTF-8") from None


def check_export_name(name: str) -> None:
    """Refuse a name that cannot be told to clients. Raises: RequestError."""
    try:
        decode_string(name.encode(), "the export's name")
    except UnicodeEncodeError:
        raise RequestError(f"export name {name!a} cannot be written as UTF-8; give another one") from None
    except MessageError as error:
        raise RequestError(f"{error}; give a shorter or plainer one") from None


def check_empty(payload: bytes) -> None:
    """Refuse a payload where none may be. Raises: MessageError."""
    if payload:
        raise MessageError(f"this option takes no payload, found {len(payload)} bytes")


def parse_info_request(payload: bytes) -> InfoRequest:
    """Parse the payload of INFO or GO. Raises: MessageError."""
    rest = _Payload(payload)
    name = rest.string("the export's name")
    count = rest.number(2, "number of information requests")
    wanted = frozenset(rest.number(2, "information request") for _ in range(count))
    rest.end()
    return InfoRequest(name, wanted)


def parse_context_request(payload: bytes) -> ContextRequest:
    """Parse the payload of LIST_META_CONTEXT or SET_META_CONTEXT. Raises: MessageError."""
    rest = _Payload(payload)
    name = rest.string("the export's name")
    count = rest.number(4, "number of queries")
    # A count that is too large ends with an error at the end of the payload.
    queries = tuple(rest.string("query") for _ in range(count))
    rest.end()
    return ContextRequest(name, queries)


def option_reply(option: int, reply: OptionReply, payload: bytes = b"") -> bytes:
    """Encode one reply to an option."""
    return OPTION_REPLY_HEADER.pack(OPTION_REPLY_MAGIC, option, reply, len(payload)) + payload


def error_reply(option: int, error: OptionReply, message: str) -> bytes:
    """Encode an error and what to tell the user."""
    return option_reply(option, error, _shown(message))


def server_reply(option: int, name: str, description: str) -> bytes:
    """Encode an export as LIST shows it."""
    text = name.encode()
    payload = len(text).to_bytes(4, "big") + text + _shown(description)
    return option_reply(option, OptionReply.SERVER, payload)


def context_reply(option: int, context_id: int, name: str) -> bytes:
    """Encode a metadata context. In answers to LIST_META_CONTEXT, which has no ids, the id is 0."""
    return option_reply(option, OptionReply.META_CONTEXT, context_id.to_bytes(4, "big") + name.encode())


def export_info(option: int, size: int, flags: TransmissionFlag) -> bytes:
    """Encode size (bytes) and abilities."""
    return _info(option, InfoType.EXPORT, EXPORT_NAME_REPLY.pack(size, flags))


def name_info(option: int, name: str) -> bytes:
    """Encode the export's own name."""
    return _info(option, InfoType.NAME, name.encode())


def description_info(option: int, description: str) -> bytes:
    """Encode the export's description."""
    return _info(option, InfoType.DESCRIPTION, _shown(description))


def block_size_info(option: int, minimum: int, preferred: int, maximum_payload: int) -> bytes:
    """Encode the size constraints, in bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in (minimum, preferred, maximum_payload))
    return _info(option, InfoType.BLOCK_SIZE, sizes)


def export_name_reply(size: int, flags: TransmissionFlag, *, padded: bool) -> bytes:
    """Encode the answer to EXPORT_NAME."""
    return EXPORT_NAME_REPLY.pack(size, flags) + (EXPORT_NAME_PADDING if padded else b"")


def _info(option: int, kind: InfoType, content: bytes) -> bytes:
    return option_reply(option, OptionReply.INFO, kind.to_bytes(2, "big") + content)


def _shown(text: str) -> bytes:
    """Encode what a person is to read; what does not fit a string is left out."""
    encoded = text.replace("\0", "").encode(errors="replace")
    return encoded[:MAX_STRING_BYTES].decode(errors="ignore").encode()
