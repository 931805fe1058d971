"""Mutants: sound images with a few fields, structures or sizes made wrong, from a seed.

    mutant = Mutant(4711)                 # always the same files
    mutant.stores                         # the chain, leaf first
    mutant.changes                        # what was done, in words

A mutation aims at fields, not at bytes: it knows where every structure keeps its numbers, gives them values
that code gets wrong (limits, neighbours, other structures' offsets), in one copy of a structure or in both,
and makes the checksums right again, mostly. So most mutants get past the checksums, which guard nothing
against a file that was built on purpose.
"""

import random
import struct
from functools import lru_cache
from typing import Final

from vhdx.format.checksum import seal
from vhdx.storage.base import pread_zero_extended
from vhdx.storage.memory import MemoryStore
from vhdx.testing.mutation_bases import BASE_NAMES, BaseImage, base_image, copy_store
from vhdx.testing.mutation_fields import Anatomy, Place, anatomy_of

MAX_MUTATIONS: Final = 4
_RESEAL: Final = 0.92
"""Part of the mutants whose checksums are right again."""


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
    def _meets(place: Place, start: int, end: int) -> bool:
        return any(offset < end and start < offset + length for offset, length in place.pieces)

    def _seal(self, place: Place) -> None:
        pieces = self._entry_pieces(place) if place.name.startswith("log entry") else place.pieces
        data = seal(bytearray(b"".join(self.read(offset, length) for offset, length in pieces)))
        done = 0
        for offset, length in pieces:
            self.write(offset, data[done : done + length])
            done += length

    def _entry_pieces(self, place: Place) -> tuple[tuple[int, int], ...]:
        """A log entry of the length that it now claims, if that is a length."""
        start = place.pieces[0][0]
        log_offset, log_length = self.anatomy.log
        claimed: int = struct.unpack("<I", self.read(start + 8, 4))[0]
        if not 64 <= claimed <= log_length:
            return place.pieces
        first = min(claimed, log_offset + log_length - start)
        return ((start, first), (log_offset, claimed - first)) if claimed > first else ((start, first),)


class Mutant:
    """A chain of which one file has been mutated; `base` None lets the seed choose."""

    def __init__(self, seed: int, base: BaseImage | None = None) -> None:
        """Make the mutant; equal arguments make equal mutants."""
        from vhdx.testing.mutations import MUTATIONS

        chance = random.Random(f"mutant {seed}")
        chosen = base or base_image(chance.choice(BASE_NAMES))
        self.seed = seed
        self.base_name = chosen.name
        self.depth = 0 if chance.random() < 0.7 else chance.randrange(len(chosen.stores))
        """Which file of the chain is mutated."""
        store = copy_store(chosen.stores[self.depth])
        canvas = Canvas(store, _anatomy(chosen, self.depth), chance)
        weights = [weight for _, weight in MUTATIONS]
        count = min(1 + int(chance.expovariate(1.2)), MAX_MUTATIONS)
        for mutation, _ in chance.choices(MUTATIONS, weights, k=count):
            mutation(canvas)
        if chance.random() < _RESEAL:
            canvas.reseal()
        else:
            canvas.note("checksums left as they were")
        store.writable = False
        self.changes = tuple(canvas.changes)
        self.stores = (*chosen.stores[: self.depth], store, *chosen.stores[self.depth + 1 :])

    @property
    def mutated(self) -> MemoryStore:
        """The file that was mutated."""
        store = self.stores[self.depth]
        assert isinstance(store, MemoryStore)
        return store

    def __repr__(self) -> str:
        return f"<Mutant {self.seed} of {self.base_name}, file {self.depth}: {'; '.join(self.changes)}>"


@lru_cache(maxsize=256)
def _anatomy(base: BaseImage, depth: int) -> Anatomy:
    return anatomy_of(base.stores[depth])
