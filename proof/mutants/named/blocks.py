"""Mistakes in the change of blocks: entries before payload, halves of a change, threads that do not wait."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Final

from proof.mutants.wrong import Named, Wrong
from vhdx.blockdev.device import DiskReader
from vhdx.disks.layered_device import LayeredDevice
from vhdx.engine.blocks.block_writer import BlockWriter
from vhdx.engine.blocks.plan import BlockFacts, WritePlan
from vhdx.engine.blocks.tables import BlockTables
from vhdx.engine.page_cache import PAGE_SIZE, PageCache, PageChange
from vhdx.engine.session.allocator import Space
from vhdx.engine.session.in_flight import InFlight
from vhdx.engine.session.session import WriteSession
from vhdx.format.bat import PayloadState
from vhdx.storage.base import pread_zero_extended

MUTANTS: Final = Named()
mutant: Final = MUTANTS.add


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
