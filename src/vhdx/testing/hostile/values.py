"""Values that code gets wrong: limits, neighbours, other structures' offsets."""

from collections.abc import Callable
from typing import Final

from vhdx._units import GIB, KIB, MIB, TIB
from vhdx.format.guids import (
    BAT_REGION,
    CHS_PARAMETERS,
    FILE_PARAMETERS,
    INCOMPLETE_FILE,
    LOGICAL_SECTOR_SIZE,
    METADATA_REGION,
    PARENT_LOCATOR,
    PHYSICAL_SECTOR_SIZE,
    VHDX_LOCATOR_TYPE,
    VIRTUAL_DISK_ID,
    VIRTUAL_DISK_SIZE,
    ZERO_GUID,
)
from vhdx.testing.hostile.anatomy import Field
from vhdx.testing.hostile.canvas import Canvas
from vhdx.testing.image.log_entries import LOG_GUID, STALE_LOG_GUID

GUIDS: Final = (
    ZERO_GUID,
    BAT_REGION,
    METADATA_REGION,
    FILE_PARAMETERS,
    VIRTUAL_DISK_SIZE,
    VIRTUAL_DISK_ID,
    LOGICAL_SECTOR_SIZE,
    PHYSICAL_SECTOR_SIZE,
    PARENT_LOCATOR,
    CHS_PARAMETERS,
    INCOMPLETE_FILE,
    VHDX_LOCATOR_TYPE,
    LOG_GUID,
    STALE_LOG_GUID,
)
_SIGNATURES: Final = (b"head", b"regi", b"loge", b"desc", b"zero", b"data", b"meta", bytes(4))
_SIZES: Final = (*(512, 4 * KIB, 64 * KIB, MIB, 2 * MIB, 256 * MIB, GIB, 4 * GIB, TIB, 64 * TIB, 256 * TIB),)
_SMALL: Final = (0, 1, 2, 3, 4, 5, 6, 7, 126, 127, 128, 255, 256, 1023, 1024, 2047, 2048)
_UNITS: Final = (1, 8, 512, 4 * KIB, 64 * KIB, MIB)


def wrong_value(canvas: Canvas, field: Field) -> bytes:
    """Bytes to put into a field instead of what is there."""
    if field.size == 16 and field.name != "All":
        return _guid(canvas)
    if field.name == "Signature" and canvas.chance.random() < 0.7:
        signature = canvas.chance.choice(_SIGNATURES)
        return signature.ljust(field.size, b"\0")[: field.size]
    if field.name == "Entry" and canvas.chance.random() < 0.8:
        return bat_entry(canvas, int.from_bytes(canvas.read(field.file_offset, 8), "little"))
    old = int.from_bytes(canvas.read(field.file_offset, field.size), "little")
    value = canvas.chance.choice(_CHOICES)(canvas, old, 8 * field.size)
    return (value % (1 << 8 * field.size)).to_bytes(field.size, "little")


def _guid(canvas: Canvas) -> bytes:
    if canvas.chance.random() < 0.2:
        return canvas.chance.randbytes(16)
    return canvas.chance.choice(GUIDS).bytes_le


def bat_entry(canvas: Canvas, old: int) -> bytes:
    """A BAT entry with another state, place or reserved bit than the old one."""
    chance = canvas.chance
    place = chance.choice([old >> 20 << 20, old >> 20 << 20, some_offset(canvas), 0, 0xFFFFFFFFFFF << 20])
    state = chance.choice([old & 7, chance.randrange(8), chance.choice((6, 7))])
    reserved = chance.choice((0, 0, 0, 0, 1 << chance.randrange(3, 20)))
    return (place >> 20 << 20 | reserved | state).to_bytes(8, "little")


def some_offset(canvas: Canvas) -> int:
    """A file offset where something begins or ends, or one beside it."""
    chance, size = canvas.chance, canvas.store.size()
    at = chance.choice([*canvas.anatomy.offsets, size, size - MIB, size // MIB * MIB, 0])
    value = at + chance.choice((0, 0, 0, 1, -1, 8, 512, -512, 4096, -4096, MIB, -MIB, 2 * MIB))
    return max(value, 0)


def _small(canvas: Canvas, _old: int, _bits: int) -> int:
    return canvas.chance.choice(_SMALL)


def _limit(canvas: Canvas, _old: int, bits: int) -> int:
    return (1 << canvas.chance.choice((bits, bits - 1, bits // 2))) + canvas.chance.choice((-2, -1, 0, 1))


def _power(canvas: Canvas, _old: int, bits: int) -> int:
    return 1 << canvas.chance.randrange(bits)


def _size(canvas: Canvas, _old: int, _bits: int) -> int:
    return canvas.chance.choice(_SIZES) + canvas.chance.choice((0, 0, 0, 1, -1, 512, -512))


def _beside(canvas: Canvas, old: int, _bits: int) -> int:
    return old + canvas.chance.choice((-1, 1)) * canvas.chance.choice(_UNITS)


def _scaled(canvas: Canvas, old: int, _bits: int) -> int:
    return canvas.chance.choice((old * 2, old // 2, old * 255, -old, ~old))


def _bit(canvas: Canvas, old: int, bits: int) -> int:
    return old ^ 1 << canvas.chance.randrange(bits)


def _offset(canvas: Canvas, _old: int, _bits: int) -> int:
    return some_offset(canvas)


def _noise(canvas: Canvas, _old: int, bits: int) -> int:
    return canvas.chance.getrandbits(bits)


_CHOICES: Final[tuple[Callable[[Canvas, int, int], int], ...]] = (
    _small,
    _limit,
    _power,
    _size,
    _beside,
    _beside,
    _scaled,
    _bit,
    _offset,
    _offset,
    _noise,
)
