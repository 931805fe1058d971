"""Mistakes at the beginning and the end of a session, and after a failure."""

from collections.abc import Iterable
from typing import Any, Final

from proof.mutants.wrong import Named, Wrong
from vhdx._units import MIB
from vhdx.engine.log_replay import Replay
from vhdx.engine.session.allocator import Allocator
from vhdx.engine.session.header_writer import HeaderWriter
from vhdx.engine.session.poison import Poison
from vhdx.engine.session.session import WriteSession
from vhdx.format.constants import LOG_SECTOR_SIZE, REGION_TABLE_FILE_OFFSETS
from vhdx.storage.base import ByteStore, pread_zero_extended

MUTANTS: Final = Named()
mutant: Final = MUTANTS.add


@mutant(WriteSession, "the last sector is not replayed")
def _(engine: Wrong) -> None:
    right = WriteSession._put_sectors
    engine.replace(right, lambda self, replayed, sectors: right(self, replayed, [*sectors][:-1]))


@mutant(WriteSession, "the first sector is not replayed")
def _(engine: Wrong) -> None:
    right = WriteSession._put_sectors
    engine.replace(right, lambda self, replayed, sectors: right(self, replayed, [*sectors][1:]))


def _header_change_lost(engine: Wrong, field: str) -> None:
    right = HeaderWriter.update

    def update(self: HeaderWriter, **changes: Any) -> None:
        changes.pop(field, None)
        right(self, **changes)

    engine.replace(right, update)


@mutant(WriteSession, "FileWriteGuid stays")
def _(engine: Wrong) -> None:
    _header_change_lost(engine, "file_write_guid")


@mutant(WriteSession, "DataWriteGuid stays")
def _(engine: Wrong) -> None:
    _header_change_lost(engine, "data_write_guid")


@mutant(WriteSession, "a session counts as begun before it is")
def _(engine: Wrong) -> None:
    right = WriteSession._reserve_host_space

    def reserve_host_space(self: WriteSession) -> None:
        right(self)
        self.has_begun = True

    engine.replace(right, reserve_host_space)


@mutant(WriteSession, "what the replay shows is not read while its changes go to their places")
def _(engine: Wrong) -> None:
    right = WriteSession._replay_onto_disk

    def replay_onto_disk(self: WriteSession, replay: Replay) -> None:
        replay.store.settle()
        right(self, replay)

    engine.replace(right, replay_onto_disk)


@mutant(WriteSession, "a replay leaves out what is in its place already")
def _(engine: Wrong) -> None:
    right = WriteSession._put_sectors

    def put_sectors(self: WriteSession, replayed: ByteStore, sectors: Iterable[int]) -> None:
        def is_in_place(sector: int) -> bool:
            new, old = (
                pread_zero_extended(store, LOG_SECTOR_SIZE, sector * LOG_SECTOR_SIZE)
                for store in (replayed, self.store)
            )
            return new == old and (sector + 1) * LOG_SECTOR_SIZE <= self.store.size()

        right(self, replayed, (sector for sector in sectors if not is_in_place(sector)))

    engine.replace(right, put_sectors)


@mutant(WriteSession, "the good copy of the region table is made like the bad one")
def _(engine: Wrong) -> None:
    def bad_region_table(self: WriteSession) -> int | None:
        first, second = self.opened.region_tables
        return None if first == second else REGION_TABLE_FILE_OFFSETS[1 if first is None else 0]

    engine.replace(WriteSession._bad_region_table, bad_region_table)


@mutant(WriteSession, "the file is shortened before the log is emptied")
def _(engine: Wrong) -> None:
    right = WriteSession.end

    def end(self: WriteSession) -> None:
        if self.has_begun and self.poison.cause is None:
            self._committer.flush()
            size = self._allocator.final_size(may_shrink=not self.keeps_space)
            if size < self.store.size():
                self.store.truncate(size)
        right(self)

    engine.replace(right, end)


@mutant(WriteSession, "the file is shortened by too much")
def _(engine: Wrong) -> None:
    right = Allocator.final_size

    def final_size(self: Allocator, *, may_shrink: bool) -> int:
        size = right(self, may_shrink=may_shrink)
        return size - MIB if size < self._store.size() else size

    engine.replace(right, final_size)


@mutant(Poison, "a failure does not poison")
def _(engine: Wrong) -> None:
    def leave(self: Poison, kind: object, error: BaseException | None, traceback: object) -> None:
        self._is_half_done = False

    engine.replace(Poison.__exit__, leave)
