"""Images whose log holds changes that their BAT lacks."""

from support.cases import pattern, sound
from support.units import MIB
from vhdx import CorruptImageError
from vhdx.format.bat import PayloadState, make_entry
from vhdx.format.log import LogChange
from vhdx.rules import RuleCode
from vhdx.testing import ImageBuilder

GROWN = 1
"""Block that the first change makes present."""
ZEROED = 3
"""Block that the second change makes zero."""


def unlogged() -> ImageBuilder:
    """The sound image, with content waiting for block GROWN that its BAT does not show yet."""
    image = sound()
    image.add_block(GROWN, pattern(9))
    del image.bat[GROWN]
    return image


def waiting_offset(image: ImageBuilder) -> int:
    """File offset of the content that waits."""
    return image.content[-1][0]


def grow(image: ImageBuilder) -> list[LogChange]:
    """The change that shows it."""
    return image.bat_change(GROWN, make_entry(PayloadState.FULLY_PRESENT, waiting_offset(image)))


def grow_then_zero(image: ImageBuilder) -> tuple[list[LogChange], list[LogChange]]:
    """The change above, and one after it that makes block ZEROED zero as well."""
    first = grow(image)
    later = image.copy()
    later.set_block(GROWN, PayloadState.FULLY_PRESENT, waiting_offset(image))
    return first, later.bat_change(ZEROED, PayloadState.ZERO)


def applied(*blocks: int) -> bytes:
    """Content of the image when changes to these blocks have been applied."""
    content = bytearray(4 * MIB + MIB // 2)
    content[:MIB] = pattern(1, MIB)
    content[3 * MIB : 3 * MIB + 4096] = pattern(2)
    content[4 * MIB : 4 * MIB + 4096] = pattern(3)
    if GROWN in blocks:
        content[GROWN * MIB : GROWN * MIB + 4096] = pattern(9)
    if ZEROED in blocks:
        content[ZEROED * MIB : (ZEROED + 1) * MIB] = bytes(MIB)
    return bytes(content)


def message_of_no_sequence(error: CorruptImageError) -> bool:
    """Whether an error says that the log holds no sequence, and how to read the image nevertheless."""
    return error.code is RuleCode.LOG_NO_SEQUENCE and "replay='ignore'" in str(error)
