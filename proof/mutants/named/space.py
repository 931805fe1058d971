"""Mistakes with file space: who gets it, when it is free again, what it holds."""

from collections.abc import Callable
from typing import Final

from proof.mutants.wrong import Named, Wrong
from vhdx._units import MIB
from vhdx.engine.blocks.block_writer import BlockWriter
from vhdx.engine.blocks.plan import BlockFacts
from vhdx.engine.blocks.tables import BlockTables
from vhdx.engine.page_cache import entry_change
from vhdx.engine.session.allocator import Allocator, Space, _Freed
from vhdx.engine.session.in_flight import InFlight
from vhdx.format.bat import PayloadState, entry_file_offset
from vhdx.format.constants import BITMAP_BLOCK_SIZE

MUTANTS: Final = Named()
mutant: Final = MUTANTS.add


@mutant(Allocator, "freed space is free at once")
def _(engine: Wrong) -> None:
    def free(self: Allocator, file_offset: int, length: int) -> None:
        with self._lock:
            self._free.add(file_offset, file_offset + length)

    engine.replace(Allocator.free, free)


@mutant(Allocator, "freed space waits for no entry")
def _(engine: Wrong) -> None:
    def free(self: Allocator, file_offset: int, length: int) -> None:
        with self._lock:
            self._settled.add([_Freed(file_offset, length, self._in_flight.now())])

    engine.replace(Allocator.free, free)


@mutant(Allocator, "what is freed during a commit is settled by it")
def _(engine: Wrong) -> None:
    right = Allocator.settle

    def settle(self: Allocator) -> None:
        self.freeze()
        right(self)

    engine.replace(right, settle)


@mutant(InFlight, "freed space waits for no operation")
def _(engine: Wrong) -> None:
    engine.replace(InFlight.oldest, lambda self: next(self._numbers))


@mutant(InFlight, "freed space waits for all operations but the oldest")
def _(engine: Wrong) -> None:
    def oldest(self: InFlight) -> int:
        latest = next(self._numbers)
        return min(sorted(self._active)[1:], default=latest)

    engine.replace(InFlight.oldest, oldest)


@mutant(Allocator, "space is given away while it is punched")
def _(engine: Wrong) -> None:
    right = Allocator._take_ready

    def take_ready(self: Allocator) -> list[_Freed]:
        ready = right(self)
        self._add_free(ready)
        return ready

    engine.replace(right, take_ready)


@mutant(BlockWriter, "a bitmap block is freed with a partially present block")
def _(engine: Wrong) -> None:
    right = BlockWriter._empty

    def empty(self: BlockWriter, block: int, facts: BlockFacts, state: PayloadState) -> None:
        if facts.state is not PayloadState.PARTIALLY_PRESENT or state is facts.state:
            right(self, block, facts, state)
            return
        tables, geometry = self._tables, self._geometry
        chunk = block // geometry.chunk_ratio
        bitmap = entry_file_offset(tables._bat.bitmap_entry(chunk))
        at = tables._file_offset_of_entry(geometry.entry_of_bitmap(chunk))
        self._session.change([tables._entry_change(block, state, 0), entry_change(at, 0)])
        self._session.free(facts.file_offset, geometry.block_size)
        self._session.free(bitmap, BITMAP_BLOCK_SIZE)

    engine.replace(right, empty)


def _counts_as_zero(engine: Wrong, where: Callable[[Space, int], bool]) -> None:
    """`where` says of what spaces, knowing the end of the last structure before they were taken."""
    right = Allocator.allocate

    def allocate(self: Allocator, length: int) -> Space:
        used_end = self.used_end
        space = right(self, length)
        return space._replace(known_zero=space.known_zero or where(space, used_end))

    engine.replace(right, allocate)


@mutant(Allocator, "space inside the file counts as zero")
def _(engine: Wrong) -> None:
    _counts_as_zero(engine, lambda space, used_end: space.file_offset < used_end)


@mutant(Allocator, "space at the old end of the file counts as zero")
def _(engine: Wrong) -> None:
    _counts_as_zero(engine, lambda space, used_end: space.file_offset >= used_end)


@mutant(Allocator, "new space overlaps the last block")
def _(engine: Wrong) -> None:
    right = Allocator.allocate

    def allocate(self: Allocator, length: int) -> Space:
        before = self.used_end
        space = right(self, length)
        if self.used_end > before:
            self.used_end -= MIB
        return space

    engine.replace(right, allocate)


@mutant(BlockTables, "a failed write gives back space that an entry names")
def _(engine: Wrong) -> None:
    def give_back(self: BlockTables, space: Space, entry: int) -> None:
        self._session.give_back(space)

    engine.replace(BlockTables._give_back, give_back)
