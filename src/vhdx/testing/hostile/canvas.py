"""What mutations work on: a file, where its structures lie, and the random numbers of one seed."""

import random
import struct

from vhdx.format.checksum import seal
from vhdx.storage.base import pread_zero_extended
from vhdx.storage.memory import MemoryStore
from vhdx.testing.hostile.anatomy import Anatomy, StructurePlace


class Canvas:
    """The file that is being mutated, its anatomy before that, and the source of all chance."""

    def __init__(self, store: MemoryStore, anatomy: Anatomy, chance: random.Random) -> None:
        self.store = store
        self.anatomy = anatomy
        self.chance = chance
        self.changes: list[str] = []
        self._touched: list[tuple[int, int]] = []

    def read(self, file_offset: int, length: int) -> bytes:
        """Bytes of the file, zeroes past its end."""
        return pread_zero_extended(self.store, length, file_offset)

    def write(self, file_offset: int, data: bytes) -> None:
        """Change bytes of the file, within its length."""
        data = data[: max(0, self.store.size() - file_offset)]
        if data:
            self.store.pwrite(data, file_offset)
            self._touched.append((file_offset, file_offset + len(data)))

    def note(self, change: str) -> None:
        """Say in words what was done."""
        self.changes.append(change)

    def reseal(self) -> None:
        """Make the checksums of every structure that was touched right again."""
        for place in self.anatomy.places:
            if place.is_sealed and any(self._meets(place, start, end) for start, end in self._touched):
                self._seal(place)

    @staticmethod
    def _meets(place: StructurePlace, start: int, end: int) -> bool:
        return any(offset < end and start < offset + length for offset, length in place.pieces)

    def _seal(self, place: StructurePlace) -> None:
        pieces = self._entry_pieces(place) if place.name.startswith("log entry") else place.pieces
        data = seal(bytearray(b"".join(self.read(offset, length) for offset, length in pieces)))
        done = 0
        for offset, length in pieces:
            self.write(offset, data[done : done + length])
            done += length

    def _entry_pieces(self, place: StructurePlace) -> tuple[tuple[int, int], ...]:
        """A log entry of the length that it now claims, if that is a length."""
        start = place.pieces[0][0]
        log_offset, log_length = self.anatomy.log
        claimed: int = struct.unpack("<I", self.read(start + 8, 4))[0]
        if not 64 <= claimed <= log_length:
            return place.pieces
        first = min(claimed, log_offset + log_length - start)
        return ((start, first), (log_offset, claimed - first)) if claimed > first else ((start, first),)
