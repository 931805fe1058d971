"""CRC-32C (Castagnoli) as every checksummed structure uses it ([MS-VHDX] 2.2.2, 2.2.3, 2.3.1)."""

import struct
from typing import Final

from fastcrc.crc32 import iscsi

from vhdx._buffer import Buffer

CHECKSUM_OFFSET: Final = 4
"""All three checksummed structures keep the field here, and count it as zero."""

_ZERO_FIELD: Final = bytes(4)


def crc32c(data: Buffer, initial: int | None = None) -> int:
    """CRC-32C of `data`; `initial` is the result for the bytes before it."""
    return iscsi(data) if initial is None else iscsi(data, initial)


def structure_checksum(data: Buffer) -> int:
    """CRC-32C of a structure whose checksum field (4 bytes at offset 4) counts as zero."""
    view = memoryview(data)
    crc = crc32c(_ZERO_FIELD, crc32c(view[:CHECKSUM_OFFSET]))
    return crc32c(view[CHECKSUM_OFFSET + 4 :], crc)


def stored_checksum(data: Buffer) -> int:
    """The checksum field of a structure."""
    field: int = struct.unpack_from("<I", data, CHECKSUM_OFFSET)[0]
    return field


def seal(data: bytearray) -> bytes:
    """Put the right checksum into a structure and return it as bytes."""
    struct.pack_into("<I", data, CHECKSUM_OFFSET, structure_checksum(data))
    return bytes(data)
