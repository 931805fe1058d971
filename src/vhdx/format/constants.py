"""Fixed offsets, sizes and limits of the format that more than one module needs ([MS-VHDX] 2)."""

from typing import Final

from vhdx._units import GIB, KIB, MIB, TIB

FILE_SIGNATURE: Final = b"vhdxfile"
"""The first bytes of every VHDX ([MS-VHDX] 2.2.1)."""

HEADER_SECTION_SIZE: Final = MIB
"""Identifier, headers and region tables lie below; everything else lies at or above ([MS-VHDX] 2.1)."""

STRUCTURE_ALIGNMENT: Final = MIB
"""Log, regions, payload blocks and sector bitmap blocks begin at multiples of this."""

HEADER_FILE_OFFSETS: Final = (64 * KIB, 128 * KIB)
REGION_TABLE_FILE_OFFSETS: Final = (192 * KIB, 256 * KIB)

FIRST_LOGGED_FILE_OFFSET: Final = REGION_TABLE_FILE_OFFSETS[0]
"""Below lie the identifier and the headers, which never change through the log."""

LOG_SECTOR_SIZE: Final = 4 * KIB
"""Unit of the log, and of every change made through it."""

MAX_LOG_LENGTH: Final = GIB
"""Hardening: the field allows nearly 4 GiB, no writer makes more than a few MiB."""

MAX_VIRTUAL_SIZE: Final = 64 * TIB
MIN_BLOCK_SIZE: Final = MIB
MAX_BLOCK_SIZE: Final = 256 * MIB
SECTOR_SIZES: Final = (512, 4096)

MAX_BLOCK_FILE_OFFSET: Final = 256 * TIB
"""Hardening: no block of a 64 TiB disk needs to lie higher (OpenVMM has the same limit)."""

BITMAP_BLOCK_SIZE: Final = MIB
"""One sector bitmap block, with one bit for each of 2^23 sectors ([MS-VHDX] 2.4)."""

BAT_ENTRY_SIZE: Final = 8
