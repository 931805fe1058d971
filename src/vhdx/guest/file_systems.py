"""What a disk or a partition holds, told by the few bytes that mark it."""

from __future__ import annotations

from struct import unpack_from
from typing import TYPE_CHECKING, Final

from vhdx.guest.partition import read_some

if TYPE_CHECKING:
    from vhdx.blockdev.device import BlockDevice

BOOT_SECTOR_MARKS: Final = (
    (3, b"NTFS    ", "an NTFS file system"),
    (3, b"EXFAT   ", "an exFAT file system"),
    (3, b"ReFS\0\0\0\0", "a ReFS file system"),
    (3, b"-FVE-FS-", "a BitLocker volume"),
    (54, b"FAT12   ", "a FAT file system"),
    (54, b"FAT16   ", "a FAT file system"),
    (82, b"FAT32   ", "a FAT file system"),
)
"""Offset, bytes, meaning: of file systems whose first sector ends as a boot record does."""

_MARKS: Final = (
    *BOOT_SECTOR_MARKS,
    (0, b"XFSB", "an XFS file system"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"LUKS\xba\xbe", "a LUKS container"),
    (32, b"NXSB", "an APFS container"),
    (1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (0x10040, b"_BHRfS_M", "a btrfs file system"),
    (0x8001, b"CD001", "an ISO 9660 file system"),
)
_SWAP_MARKS: Final = (b"SWAPSPACE2", b"SWAP-SPACE")
_PAGE_SIZES: Final = (4096, 8192, 16384, 65536)
_EXT_SUPERBLOCK: Final = 1024
_LVM_LABEL_SECTORS: Final = range(4)


def recognise(device: BlockDevice, offset: int = 0) -> str | None:
    """What begins at a byte offset, with its article ("an ext4 file system"); None if nothing known does.

    A device that cannot be read there holds nothing known. Raises nothing.
    """
    for where, mark, meaning in _MARKS:
        if read_some(device, len(mark), offset + where) == mark:
            return meaning
    if any(read_some(device, 8, offset + 512 * sector) == b"LABELONE" for sector in _LVM_LABEL_SECTORS):
        return "an LVM physical volume"
    for page_size in _PAGE_SIZES:
        if read_some(device, 10, offset + page_size - 10) in _SWAP_MARKS:
            return "a Linux swap area"
    return _ext(read_some(device, 128, offset + _EXT_SUPERBLOCK))


def _ext(superblock: bytes) -> str | None:
    """Tell ext2, ext3 and ext4 apart by the features that only the younger ones have."""
    if len(superblock) < 128 or superblock[56:58] != b"\x53\xef":
        return None
    compatible, incompatible, read_only = unpack_from("<III", superblock, 92)
    if incompatible & ~0x17 or read_only & ~0x7:
        return "an ext4 file system"
    return "an ext3 file system" if compatible & 0x4 else "an ext2 file system"
