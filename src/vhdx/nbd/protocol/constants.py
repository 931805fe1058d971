"""The numbers of the network block device protocol, under the names the protocol gives them (without NBD_).

Source: NetworkBlockDevice/nbd, doc/proto.md; what concerns extended headers is in the same file on its branch
extension-ext-header. Everything on the wire is big-endian.
"""

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

SERVER_MAGIC: Final = 0x4E42444D41474943
"""First in the greeting: "NBDMAGIC"."""
OPTION_MAGIC: Final = 0x49484156454F5054
"""Second in the greeting, and in front of every option: "IHAVEOPT"."""
OPTION_REPLY_MAGIC: Final = 0x0003E889045565A9
REQUEST_MAGIC: Final = 0x25609513
EXTENDED_REQUEST_MAGIC: Final = 0x21E41C71
SIMPLE_REPLY_MAGIC: Final = 0x67446698
STRUCTURED_REPLY_MAGIC: Final = 0x668E33EF
EXTENDED_REPLY_MAGIC: Final = 0x6E8A278C

GREETING: Final = Struct(">QQH")
"""Server magic, option magic, handshake flags."""
CLIENT_FLAGS: Final = Struct(">I")
OPTION_HEADER: Final = Struct(">QII")
"""Magic, option, payload length."""
OPTION_REPLY_HEADER: Final = Struct(">QIII")
"""Magic, option, reply type, payload length."""
EXPORT_NAME_REPLY: Final = Struct(">QH")
"""Size, transmission flags."""
EXPORT_NAME_PADDING: Final = bytes(124)
"""Follows that reply unless both sides said NO_ZEROES."""
REQUEST_HEADER: Final = Struct(">IHHQQI")
"""Magic, command flags, command, cookie, offset, length."""
EXTENDED_REQUEST_HEADER: Final = Struct(">IHHQQQ")
"""As REQUEST_HEADER; length is the payload's if the flag PAYLOAD_LEN is set, else that of the range."""
SIMPLE_REPLY_HEADER: Final = Struct(">IIQ")
"""Magic, error, cookie."""
STRUCTURED_REPLY_HEADER: Final = Struct(">IHHQI")
"""Magic, reply flags, reply type, cookie, payload length."""
EXTENDED_REPLY_HEADER: Final = Struct(">IHHQQQ")
"""Magic, reply flags, reply type, cookie, offset of the request, payload length."""
OFFSET_DATA: Final = Struct(">Q")
"""Offset; the data follow."""
OFFSET_HOLE: Final = Struct(">QI")
"""Offset, length."""
ERROR: Final = Struct(">IH")
"""Error, length of the message that follows."""
ERROR_OFFSET: Final = Struct(">Q")
"""Offset, behind the message."""
STATUS: Final = Struct(">I")
"""Context id; descriptors follow."""
STATUS_DESCRIPTOR: Final = Struct(">II")
"""Length, status."""
STATUS_EXT: Final = Struct(">II")
"""Context id, number of the descriptors that follow."""
STATUS_EXT_DESCRIPTOR: Final = Struct(">QQ")
"""Length, status."""
STATUS_QUERY: Final = Struct(">Q")
"""Payload of an extended BLOCK_STATUS request: length of the range; context ids, 32 bits each, follow."""

MAX_STRING_BYTES: Final = 4096
"""Longest name, description, query or message."""
MAX_STATUS_DESCRIPTORS: Final = 1 << 20
"""Most descriptors that one reply may hold."""
MAX_UNFRAGMENTED_BYTES: Final = 1 << 16
"""A read with DF up to this length must be answered in one piece."""

BASE_ALLOCATION: Final = "base:allocation"
"""Metadata context of the protocol: holes and zeroes (StateFlag)."""
VHDX_DEPTH: Final = "vhdx:depth"
"""Metadata context of our own: which file of the chain a range comes from, 0 = the leaf."""
CONTEXTS: Final = (BASE_ALLOCATION, VHDX_DEPTH)
"""Every export has these."""


class HandshakeFlag(IntFlag):
    """What the server can do, in its greeting."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class ClientFlag(IntFlag):
    """The client's answer to the greeting."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class TransmissionFlag(IntFlag):
    """What an export can do."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_RESIZE = 1 << 9
    SEND_CACHE = 1 << 10
    SEND_FAST_ZERO = 1 << 11
    BLOCK_STATUS_PAYLOAD = 1 << 12


class Option(IntEnum):
    """What a client asks for before transmission."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    PEEK_EXPORT = 4
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10
    EXTENDED_HEADERS = 11


class OptionReply(IntEnum):
    """Kind of a reply to an option; errors have bit 31 set."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = (1 << 31) + 1
    ERR_POLICY = (1 << 31) + 2
    ERR_INVALID = (1 << 31) + 3
    ERR_PLATFORM = (1 << 31) + 4
    ERR_TLS_REQD = (1 << 31) + 5
    ERR_UNKNOWN = (1 << 31) + 6
    ERR_SHUTDOWN = (1 << 31) + 7
    ERR_BLOCK_SIZE_REQD = (1 << 31) + 8
    ERR_TOO_BIG = (1 << 31) + 9
    ERR_EXT_HEADER_REQD = (1 << 31) + 10


class InfoType(IntEnum):
    """What can be asked about an export."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class Command(IntEnum):
    """What a client asks for in transmission."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7
    RESIZE = 8


class CommandFlag(IntFlag):
    """How a command is to be done."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3
    FAST_ZERO = 1 << 4
    PAYLOAD_LEN = 1 << 5


class ReplyFlag(IntFlag):
    """Flags of a structured or extended reply."""

    DONE = 1 << 0


class ReplyType(IntEnum):
    """Kind of a structured or extended reply; errors have bit 15 set."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    BLOCK_STATUS_EXT = 6
    ERROR = (1 << 15) + 1
    ERROR_OFFSET = (1 << 15) + 2


class StateFlag(IntFlag):
    """Status of a range in the context base:allocation."""

    HOLE = 1 << 0
    ZERO = 1 << 1


class NbdError(IntEnum):
    """Errors of a command; the numbers are the protocol's own, whatever errno says here."""

    EPERM = 1
    EIO = 5
    ENOMEM = 12
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75
    ENOTSUP = 95
    ESHUTDOWN = 108
