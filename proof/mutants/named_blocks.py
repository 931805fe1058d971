"""The named mutants of the blocks and their space: what is cached when, who waits for whom, what is free."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Final

from proof.mutants.wrong import Named, Wrong
from vhdx._units import MIB
from vhdx.blockdev.device import DiskReader
from vhdx.disks.layered_device import LayeredDevice
from vhdx.engine.blocks.block_writer import BlockWriter
from vhdx.engine.blocks.plan import BlockFacts, WritePlan
from vhdx.engine.blocks.tables import BlockTables
from vhdx.engine.page_cache import PAGE_SIZE, PageCache, PageChange, entry_change
from vhdx.engine.session.allocator import Allocator, Space, _Freed
from vhdx.engine.session.in_flight import InFlight
from vhdx.engine.session.session import WriteSession
from vhdx.format.bat import PayloadState, entry_file_offset
from vhdx.format.constants import BITMAP_BLOCK_SIZE
from vhdx.storage.base import pread_zero_extended

MUTANTS: Final = Named()
mutant: Final = MUTANTS.add

# -- entries before payload, parts of a change on their own ------------------------------------------------------


@mutant(BlockWriter, "bits are cached before the payload is written")
def _(engine: Wrong) -> None:
    right = BlockWriter._marked

    @contextmanager
    def marked(
        self: BlockWriter, block: int, facts: BlockFacts, plan: WritePlan, within: int, length: int
    ) -> Iterator[int]:
        with right(self, block, facts, plan, within, length) as place:
            pass
        yield place

    engine.replace(right, marked)


def _when_a_block_gets_space(
    engine: Wrong, place: Callable[[BlockWriter, int, int], None], end: Callable[[int], None]
) -> None:
    """Tell which block gets what file offset, before anything is written there, and when it is fully present."""
    write_full, space_for = BlockWriter._write_full, BlockWriter._space_for
    under_way: dict[int, int] = {}
    """The block of each thread."""

    def wrong_write_full(
        self: BlockWriter, block: int, facts: BlockFacts, plan: WritePlan, within: int, data: memoryview
    ) -> None:
        under_way[get_ident()] = block
        try:
            write_full(self, block, facts, plan, within, data)
        finally:
            del under_way[get_ident()]
            end(block)

    @contextmanager
    def wrong_space_for(self: BlockWriter, block: int, facts: BlockFacts, plan: WritePlan) -> Iterator[Space]:
        with space_for(self, block, facts, plan) as space:
            if get_ident() in under_way:
                place(self, under_way[get_ident()], space.file_offset)
            yield space

    engine.replace(write_full, wrong_write_full)
    engine.replace(space_for, wrong_space_for)


@mutant(BlockWriter, "a block is zeroed after its entry is cached")
def _(engine: Wrong) -> None:
    def cache_entry(self: BlockWriter, block: int, file_offset: int) -> None:
        self._tables.set_entry(block, PayloadState.FULLY_PRESENT, file_offset)

    _when_a_block_gets_space(engine, cache_entry, lambda _: None)


@mutant(BlockWriter, "a write into a block that another one is making returns before the entry is cached")
def _(engine: Wrong) -> None:
    right = BlockWriter.write
    places: dict[int, int] = {}

    def write(self: BlockWriter, block: int, within: int, data: memoryview, read: DiskReader) -> None:
        if block in places:
            self._store.pwrite(data, places[block] + within)
        else:
            right(self, block, within, data, read)

    def remember(self: BlockWriter, block: int, file_offset: int) -> None:
        places[block] = file_offset

    def forget(block: int) -> None:
        places.pop(block, None)

    engine.replace(right, write)
    _when_a_block_gets_space(engine, remember, forget)


@mutant(BlockTables, "bitmap and BAT entry are changed one after the other")
def _(engine: Wrong) -> None:
    right = WriteSession.change

    def change_singly(self: WriteSession, changes: Sequence[PageChange]) -> None:
        for change in changes:
            right(self, [change])

    engine.replace(right, change_singly)


@mutant(BlockTables, "bitmap and BAT entry are changed one after the other, the entry last")
def _(engine: Wrong) -> None:
    right = WriteSession.change

    def change_singly(self: WriteSession, changes: Sequence[PageChange]) -> None:
        for change in reversed(changes):
            right(self, [change])

    engine.replace(right, change_singly)


@mutant(BlockTables, "old bits are not cleared")
def _(engine: Wrong) -> None:
    right = BlockTables.mark_sectors

    def mark_sectors(
        self: BlockTables, block: int, plan: WritePlan, file_offset: int, sectors: range
    ) -> None:
        right(self, block, plan._replace(clears_bitmap=False), file_offset, sectors)

    engine.replace(right, mark_sectors)


# -- threads that do not wait --------------------------------------------------------------------------------------


@mutant(InFlight, "nobody waits for another thread's block")
def _(engine: Wrong) -> None:
    engine.replace(InFlight.block, lambda self, number: self._sync.lock())


@mutant(InFlight, "nobody waits for another thread's bitmap")
def _(engine: Wrong) -> None:
    engine.replace(InFlight.bitmap, lambda self, chunk: self._sync.lock())


@mutant(BlockWriter, "nobody looks again at a block that another thread had")
def _(engine: Wrong) -> None:
    right, facts = BlockWriter.write, BlockTables.facts
    looked_up: dict[int, BlockFacts] = {}

    def write(self: BlockWriter, block: int, within: int, data: memoryview, read: DiskReader) -> None:
        looked_up[get_ident()] = facts(self._tables, block)
        try:
            right(self, block, within, data, read)
        finally:
            looked_up.pop(get_ident(), None)

    def old_facts(self: BlockTables, block: int) -> BlockFacts:
        return looked_up.pop(get_ident(), None) or facts(self, block)

    engine.replace(right, write)
    engine.replace(facts, old_facts)


@mutant(PageCache, "a page that was changed again is forgotten when its older content stands in place")
def _(engine: Wrong) -> None:
    right = PageCache.thaw

    def thaw(self: PageCache) -> None:
        for number in self.frozen:
            self._dirty.pop(number, None)
        right(self)

    engine.replace(right, thaw)


@mutant(PageCache, "frozen pages are not read")
def _(engine: Wrong) -> None:
    def page(self: PageCache, number: int) -> bytes | bytearray:
        found = self._dirty.get(number) or self._clean.get(number)
        if found is None:
            found = pread_zero_extended(self.store, PAGE_SIZE, number * PAGE_SIZE)
            self._keep(number, found)
        return found

    engine.replace(PageCache._page, page)


@mutant(LayeredDevice, "a reader takes no ticket")
def _(engine: Wrong) -> None:
    def fill(self: LayeredDevice, view: memoryview, offset: int) -> None:
        self._check_usable()
        self._read(view, offset)

    engine.replace(LayeredDevice._fill, fill)


@mutant(BlockWriter, "an overwrite takes no ticket")
def _(engine: Wrong) -> None:
    right = BlockWriter.write

    def write(self: BlockWriter, block: int, within: int, data: memoryview, read: DiskReader) -> None:
        place = self._tables.full_place(block)
        if place:
            self._session.begin()
            self._store.pwrite(data, place + within)
        else:
            right(self, block, within, data, read)

    engine.replace(right, write)


# -- space ---------------------------------------------------------------------------------------------------------


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
