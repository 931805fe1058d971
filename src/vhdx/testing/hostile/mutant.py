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
from functools import lru_cache
from typing import Final

from vhdx.storage.memory import MemoryStore
from vhdx.testing.hostile.anatomy import Anatomy, anatomy_of
from vhdx.testing.hostile.bases import BASE_NAMES, BaseImage, base_image, copy_store
from vhdx.testing.hostile.canvas import Canvas
from vhdx.testing.hostile.mutations import MUTATIONS

MAX_MUTATIONS: Final = 4
_RESEAL: Final = 0.92
"""Part of the mutants whose checksums are right again."""


class Mutant:
    """A chain of which one file has been mutated; `base` None lets the seed choose."""

    def __init__(self, seed: int, base: BaseImage | None = None) -> None:
        """Make the mutant; equal arguments make equal mutants."""
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
