"""Test content: each sector names the write that put it there and its place, so a misplaced one is recognised."""

import struct
import zlib
from functools import lru_cache
from typing import Final, NamedTuple, Self

from vhdx.testing.crash.pages import SECTOR_SIZE, ZERO_SECTOR

_MAGIC: Final = b"STMP"
_FIELDS: Final = struct.Struct("<4sIQQ")
_REPEATS: Final = SECTOR_SIZE // 32
assert _FIELDS.size == 24

PARENT: Final = 1
"""Generation of what a parent holds."""
FIRST: Final = 2
"""Generation of what an image held before the test wrote to it; later ones count its sessions."""
GARBAGE: Final = 0xDEAD
"""Generation of what lies in file space that belongs to no block: no read may ever return it."""


class Stamp(NamedTuple):
    """What a sector says of itself."""

    write: int
    """Number of the write that put it there."""
    sector: int
    """Virtual offset // 512 at which it belongs."""
    generation: int

    def encode(self) -> bytes:
        """The 512 bytes: 32 bytes, sixteen times over."""
        fields = _FIELDS.pack(_MAGIC, self.generation, self.write, self.sector)
        return (fields + zlib.crc32(fields).to_bytes(8, "little")) * _REPEATS

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """Read a sector; None if it is no whole stamp."""
        unit = data[:32]
        if unit[:4] != _MAGIC or data != unit * _REPEATS:
            return None
        if zlib.crc32(unit[:24]) != int.from_bytes(unit[24:32], "little"):
            return None
        _, generation, write, sector = _FIELDS.unpack_from(unit)
        return cls(write, sector, generation)

    def __str__(self) -> str:
        if self.generation == GARBAGE:
            return f"garbage of unowned file space (piece {self.sector})"
        origin = {PARENT: "the parent", FIRST: "the image's first content"}.get(self.generation)
        return f"sector {self.sector} of {origin or f'write {self.write}'}"


def stamped_sectors(write: int, offset: int, length: int, generation: int) -> bytes:
    """Content for a range of a disk: whole sectors, offset and length in bytes."""
    first = offset // SECTOR_SIZE
    return b"".join(
        Stamp(write, sector, generation).encode() for sector in range(first, first + length // SECTOR_SIZE)
    )


@lru_cache(maxsize=16)
def garbage(length: int) -> bytes:
    """What file space holds that no block owns."""
    return stamped_sectors(0, 0, length, GARBAGE)


def describe_sector(data: bytes, sector: int) -> str:
    """Say what was found where sector `sector` of a disk should be."""
    if data == ZERO_SECTOR:
        return "zeroes"
    found = Stamp.decode(data)
    if found is None:
        torn = _MAGIC in data
        return f"{'a torn stamp' if torn else 'unknown bytes'} ({data[:16].hex(' ')} ...)"
    misplaced = found.sector != sector and found.generation != GARBAGE
    return f"{found}{', misplaced' if misplaced else ''}"
