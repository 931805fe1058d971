"""The bytes of the network block device protocol, written down a second time from its description."""

from collections.abc import Iterator, Sequence
from struct import pack, unpack_from
from typing import NamedTuple

OPTION_MAGIC = b"IHAVEOPT"
GREETING = b"NBDMAGIC" + OPTION_MAGIC + b"\x00\x03"
REPLY_MAGIC = bytes.fromhex("0003e889045565a9")

EXPORT_NAME, ABORT, LIST, PEEK, STARTTLS, INFO, GO = range(1, 8)
STRUCTURED_REPLY, LIST_CONTEXTS, SET_CONTEXTS, EXTENDED_HEADERS = range(8, 12)
ACK, SERVER, INFORMATION, CONTEXT = range(1, 5)
UNSUP, POLICY, INVALID, PLATFORM, TLS_REQD, UNKNOWN, SHUTDOWN, SIZE_REQD, TOO_BIG, EXT_REQD = range(
    0x80000001, 0x8000000B
)


class OptionReply(NamedTuple):
    option: int
    kind: int
    payload: bytes


def flags(fixed: bool = True, no_zeroes: bool = True) -> bytes:
    return pack(">I", fixed | no_zeroes << 1)


def option(number: int, payload: bytes = b"", length: int | None = None) -> bytes:
    return OPTION_MAGIC + pack(">II", number, len(payload) if length is None else length) + payload


def string(text: bytes) -> bytes:
    return pack(">I", len(text)) + text


def info_payload(name: bytes = b"", wanted: Sequence[int] = ()) -> bytes:
    return string(name) + pack(f">H{len(wanted)}H", len(wanted), *wanted)


def context_payload(name: bytes = b"", queries: Sequence[bytes] = ()) -> bytes:
    return string(name) + pack(">I", len(queries)) + b"".join(map(string, queries))


def reply(number: int, kind: int, payload: bytes = b"") -> bytes:
    return REPLY_MAGIC + pack(">III", number, kind, len(payload)) + payload


def replies(data: bytes) -> Iterator[OptionReply]:
    """Take option replies apart. Raises: AssertionError if there is anything else."""
    while data:
        assert data[:8] == REPLY_MAGIC, data[:40]
        number, kind, length = unpack_from(">III", data, 8)
        assert len(data) >= 20 + length
        yield OptionReply(number, kind, data[20 : 20 + length])
        data = data[20 + length :]
