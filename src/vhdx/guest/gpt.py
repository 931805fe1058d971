"""The GUID partition table: a header in sector 1, its array of entries, and copies of both at the disk's end.

UEFI specification, 5.3. Both copies carry checksums, so that a damaged one is told from a sound one; which
numbers a sound one may hold is judged here all the same, because whoever wrote it could compute a checksum.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID
from zlib import crc32

from vhdx._units import is_power_of_two
from vhdx.guest.partition import read_some

if TYPE_CHECKING:
    from vhdx.blockdev.device import BlockDevice
    from vhdx.guest.partition import Entries

SIGNATURE: Final = b"EFI PART"
HEADER_SIZE: Final = 92
ENTRY_SIZES: Final = range(128, 4096 + 1)
MAX_ENTRIES: Final = 4096
MAX_ARRAY_SIZE: Final = 4 << 20

_HEADER: Final = Struct("<8sIIIIQQQQ16sQIII")
_ENTRY: Final = Struct("<16s16sQQQ72s")
_UNUSED: Final = bytes(16)


class GptHeader(NamedTuple):
    """The fields of a header, in their order. Places in sectors."""

    signature: bytes
    revision: int
    header_size: int
    header_checksum: int
    reserved: int
    own_sector: int
    other_sector: int
    first_usable: int
    last_usable: int
    disk_guid: bytes
    array_sector: int
    entry_count: int
    entry_size: int
    array_checksum: int


class DamagedTableError(Exception):
    """A header or its array cannot be believed; the message says why."""


def has_header(device: BlockDevice, sector_size: int) -> bool:
    """Whether a header, sound or not, stands where the first one belongs."""
    return read_some(device, len(SIGNATURE), sector_size) == SIGNATURE


def read_gpt(device: BlockDevice, sector_size: int) -> tuple[bytes, GptHeader, list[str]]:
    """The array of entries, of the first copy that is sound; with what was wrong with the one before.

    Raises: DamagedTableError if neither is.
    """
    faults: list[str] = []
    for which, sector in (("first", 1), ("backup", device.size // sector_size - 1)):
        try:
            header = _header(device, sector, sector_size)
            return _array(device, header, sector_size), header, faults
        except DamagedTableError as error:
            faults.append(f"the {which} partition table (GPT header in sector {sector}) is damaged: {error}")
    raise DamagedTableError("; ".join(faults))


def _header(device: BlockDevice, sector: int, sector_size: int) -> GptHeader:
    content = read_some(device, sector_size, sector * sector_size)
    if not content.startswith(SIGNATURE) or len(content) < sector_size:
        raise DamagedTableError("it has no signature, or cannot be read")
    header = GptHeader(*_HEADER.unpack_from(content))
    if not HEADER_SIZE <= header.header_size <= sector_size:
        raise DamagedTableError(f"it claims a size of {header.header_size} bytes")
    checked = content[:16] + bytes(4) + content[20 : header.header_size]
    if crc32(checked) != header.header_checksum:
        raise DamagedTableError("its checksum is wrong")
    if header.own_sector != sector:
        raise DamagedTableError(f"it says that it stands in sector {header.own_sector}")
    if header.entry_size not in ENTRY_SIZES or not is_power_of_two(header.entry_size):
        raise DamagedTableError(
            f"an entry of {header.entry_size} bytes is none of 128, 256, ... {ENTRY_SIZES.stop - 1}"
        )
    array_size = header.entry_count * header.entry_size
    if header.entry_count > MAX_ENTRIES or array_size > MAX_ARRAY_SIZE:
        raise DamagedTableError(
            f"it claims {header.entry_count} entries of {header.entry_size} bytes;"
            f" more than {MAX_ENTRIES}, or {MAX_ARRAY_SIZE >> 20} MiB, are not read"
        )
    return header


def _array(device: BlockDevice, header: GptHeader, sector_size: int) -> bytes:
    length, offset = header.entry_count * header.entry_size, header.array_sector * sector_size
    content = read_some(device, length, offset)
    if len(content) < length:
        raise DamagedTableError(f"its entries in sector {header.array_sector} cannot be read in full")
    if crc32(content) != header.array_checksum:
        raise DamagedTableError(f"the checksum of its entries in sector {header.array_sector} is wrong")
    return content


def collect_gpt(array: bytes, header: GptHeader, found: Entries) -> None:
    """Admit the partitions of an array."""
    for index in range(header.entry_count):
        kind, _, first, last, _, name = _ENTRY.unpack_from(array, index * header.entry_size)
        if kind == _UNUSED:
            continue
        if first < 2:
            found.warn(f"partition {index + 1} is left out: it begins in sector {first}, in the table itself")
            continue
        label = name.decode("utf-16-le", "replace").partition("\0")[0]
        found.admit(index + 1, first, last - first + 1, str(UUID(bytes_le=kind)), label)
