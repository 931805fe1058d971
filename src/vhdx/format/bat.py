"""The block allocation table's entries ([MS-VHDX] 2.5), and the one table of what each state means."""

from enum import Enum, IntEnum
from typing import Final

OFFSET_MASK: Final = ((1 << 64) - 1) & ~((1 << 20) - 1)
"""Bits 20-63: the file offset in bytes, a multiple of 1 MiB."""
RESERVED_MASK: Final = 0xFFFF8
STATE_MASK: Final = 7


class PayloadState(IntEnum):
    """State of a payload block ([MS-VHDX] 2.5.1.1). 4 is reserved, and so is 5, but for one old draft."""

    NOT_PRESENT = 0
    UNDEFINED = 1
    ZERO = 2
    UNMAPPED = 3
    RESERVED_4 = 4
    OLD_UNMAPPED = 5
    FULLY_PRESENT = 6
    PARTIALLY_PRESENT = 7


class BitmapState(IntEnum):
    """State of a sector bitmap block ([MS-VHDX] 2.5.1.2); all other values are reserved."""

    NOT_PRESENT = 0
    PRESENT = 6


class ContentSource(Enum):
    """Where a block's content comes from when it is read."""

    FILE = "this file"
    ZERO = "zeroes"
    TRANSPARENT = "the parent, or zeroes without one"
    BITMAP = "this file or the parent, as the sector bitmap says"
    INVALID = "nowhere: the state is not allowed"


CONTENT: Final = (
    ContentSource.TRANSPARENT,  # NOT_PRESENT
    ContentSource.ZERO,  # UNDEFINED: anything is permitted; zeroes are stable and leak nothing
    ContentSource.ZERO,  # ZERO
    ContentSource.ZERO,  # UNMAPPED: likewise, never the anchored old content
    ContentSource.INVALID,  # reserved
    ContentSource.ZERO,  # the 0.95 draft's UNMAPPED
    ContentSource.FILE,  # FULLY_PRESENT: the bitmap must not be looked at
    ContentSource.BITMAP,  # PARTIALLY_PRESENT
)
"""Indexed by state."""

OWNS_SPACE: Final = (False, False, False, False, False, False, True, True)
"""Indexed by state: the offset is that of file space the block owns. Holds for sector bitmaps, too."""

MAY_ANCHOR: Final = (False, True, False, True, False, True, False, False)
"""Indexed by state: a non-zero offset is a soft anchor, file space kept for the block without content."""

MAX_ENTRY_WITHOUT_SPACE: Final = int(PayloadState.UNMAPPED)
"""A payload entry up to this value is a state that any image may have, and names no file space: it is right."""


def entry_state(entry: int) -> int:
    """State bits of an entry, 0-7."""
    return entry & STATE_MASK


def entry_file_offset(entry: int) -> int:
    """File offset of an entry, in bytes."""
    return entry & OFFSET_MASK


def make_entry(state: int, file_offset: int = 0) -> int:
    """Build an entry from a state and a file offset in bytes (a multiple of 1 MiB)."""
    return file_offset | state


def owned_file_offset(entry: int) -> int:
    """File offset of the space that a payload entry keeps, soft anchors included; 0 if it keeps none."""
    state = entry & STATE_MASK
    return entry & OFFSET_MASK if OWNS_SPACE[state] or MAY_ANCHOR[state] else 0


def is_bitmap_present(entry: int) -> bool:
    """Whether a sector bitmap entry names a bitmap: state 6, or the reserved 7, which some readers take for 6."""
    return OWNS_SPACE[entry & STATE_MASK]
