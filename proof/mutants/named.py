"""The named mutants of the commit: what is logged and applied, headers, replays, the session's begin and end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from proof.mutants.wrong import Named, Wrong
from vhdx._buffer import Buffer
from vhdx._units import MIB, align_up
from vhdx.disks.layered_device import LayeredDevice
from vhdx.engine import header_pair, log_replay
from vhdx.engine.header_pair import HeaderPair
from vhdx.engine.log_replay import LogEntry, LogRing, Replay
from vhdx.engine.session.allocator import Allocator
from vhdx.engine.session.commit import Committer
from vhdx.engine.session.header_writer import HeaderWriter
from vhdx.engine.session.log_writer import LogWriter
from vhdx.engine.session.poison import Poison
from vhdx.engine.session.session import WriteSession
from vhdx.format.constants import REGION_TABLE_FILE_OFFSETS
from vhdx.format.header import Header
from vhdx.format.log import Descriptor, LogChange, LogEntryHeader
from vhdx.report import Breach
from vhdx.rules import RuleCode
from vhdx.storage.base import ByteStore, pread
from vhdx.storage.overlay import OverlayStore

MUTANTS: Final = Named()
mutant: Final = MUTANTS.add

# -- pages left out --------------------------------------------------------------------------------------------


@mutant(LogWriter, "the last page is not logged")
def _(engine: Wrong) -> None:
    right = LogWriter.append
    engine.replace(right, lambda self, pages, *sizes: right(self, dict([*pages.items()][:-1]), *sizes))


@mutant(LogWriter, "the first page is not logged when there are more")
def _(engine: Wrong) -> None:
    right = LogWriter.append
    engine.replace(
        right, lambda self, pages, *sizes: right(self, dict([*pages.items()][len(pages) > 1 :]), *sizes)
    )


@mutant(LogWriter, "a page between two others is not logged")
def _(engine: Wrong) -> None:
    right = LogWriter.append

    def append(
        self: LogWriter, pages: Mapping[int, bytes], flushed_file_offset: int, last_file_offset: int
    ) -> None:
        items = list(pages.items())
        if len(items) > 2:
            del items[1]
        right(self, dict(items), flushed_file_offset, last_file_offset)

    engine.replace(right, append)


def _replayed(engine: Wrong, part: Callable[[list[int]], list[int]]) -> None:
    """Put only a part of a replay's sectors in their places."""
    right, sectors = WriteSession._replay_onto_disk, OverlayStore.patched_sectors

    def replay_onto_disk(self: WriteSession, replay: Replay) -> None:
        meanwhile = Wrong()
        meanwhile.replace(sectors, lambda self: iter(part([*sectors(self)])))
        try:
            right(self, replay)
        finally:
            meanwhile.undo()

    engine.replace(right, replay_onto_disk)


@mutant(WriteSession, "the last sector is not replayed")
def _(engine: Wrong) -> None:
    _replayed(engine, lambda sectors: sectors[:-1])


@mutant(WriteSession, "the first sector is not replayed")
def _(engine: Wrong) -> None:
    _replayed(engine, lambda sectors: sectors[1:])


# -- flushes that return too early -----------------------------------------------------------------------------


@mutant(Committer, "a flush serves those that came during the commit")
def _(engine: Wrong) -> None:
    right = Committer.flush

    def flush(self: Committer) -> None:
        right(self)
        self._served = self._requested

    engine.replace(right, flush)


@mutant(Committer, "only every other flush commits")
def _(engine: Wrong) -> None:
    right = Committer.flush

    def flush(self: Committer) -> None:
        if self._requested and self._served >= self._requested:
            self._requested += 1
        else:
            right(self)

    engine.replace(right, flush)


@mutant(LayeredDevice, "force unit access does not flush")
def _(engine: Wrong) -> None:
    engine.replace(LayeredDevice._after_change, lambda self, writer, *, fua: None)


# -- the session -----------------------------------------------------------------------------------------------


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


class _Thrifty:
    """A store that leaves out what stands in its place already."""

    def __init__(self, store: ByteStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        length = memoryview(data).nbytes
        if file_offset + length > self._store.size() or pread(self._store, length, file_offset) != data:
            self._store.pwrite(data, file_offset)


@mutant(WriteSession, "a replay leaves out what is in its place already")
def _(engine: Wrong) -> None:
    right = WriteSession._replay_onto_disk

    def replay_onto_disk(self: WriteSession, replay: Replay) -> None:
        store: Any = self.store
        self.store = _Thrifty(store)
        try:
            right(self, replay)
        finally:
            self.store = store

    engine.replace(right, replay_onto_disk)


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


# -- headers ---------------------------------------------------------------------------------------------------


@mutant(HeaderWriter, "only one header is changed")
def _(engine: Wrong) -> None:
    engine.replace(HeaderWriter.update, lambda self, **changes: self._write_other(changes))


@mutant(HeaderWriter, "the current header is overwritten")
def _(engine: Wrong) -> None:
    right = HeaderWriter._write_other

    def write_other(self: HeaderWriter, changes: dict[str, Any]) -> None:
        self._current_index = 1 - self._current_index
        right(self, changes)

    engine.replace(right, write_other)


@mutant(HeaderWriter, "the sequence number stays")
def _(engine: Wrong) -> None:
    right = HeaderWriter._write_other

    def write_other(self: HeaderWriter, changes: dict[str, Any]) -> None:
        self.current = replace(self.current, sequence_number=self.current.sequence_number - 1)
        right(self, changes)

    engine.replace(right, write_other)


@mutant(HeaderPair, "the header with the lower number counts")
def _(engine: Wrong) -> None:
    right = header_pair._current_index

    def current_index(first: Header | None, second: Header | None, breach: Breach) -> int:
        index = right(first, second, breach)
        return index if first is None or second is None else 1 - index

    engine.replace(right, current_index)


# -- replays ---------------------------------------------------------------------------------------------------


@mutant(LogRing, "an entry counts whatever its checksum says")
def _(engine: Wrong) -> None:
    right = LogRing._body_fault

    def body_fault(self: LogRing, position: int, header: LogEntryHeader) -> RuleCode | None:
        fault = right(self, position, header)
        return None if fault is RuleCode.LOG_ENTRY_CHECKSUM else fault

    engine.replace(right, body_fault)


@mutant(LogRing, "an entry counts under whatever GUID")
def _(engine: Wrong) -> None:
    right = LogRing.candidates
    engine.replace(right, lambda self, *, any_guid=False: right(self, any_guid=True))


@mutant(LogRing, "the older entry wins")
def _(engine: Wrong) -> None:
    right = log_replay._collect

    def collect(
        ring: LogRing, entries: tuple[LogEntry, ...], breach: Breach
    ) -> tuple[dict[int, int], tuple[tuple[int, int], ...]]:
        return right(ring, entries[::-1], breach)

    engine.replace(right, collect)


@mutant(LogRing, "zero descriptors are not replayed")
def _(engine: Wrong) -> None:
    right = LogRing.descriptors

    def descriptors(self: LogRing, entry: LogEntry) -> Iterator[tuple[Descriptor, int, int]]:
        return (found for found in right(self, entry) if found[0].is_data)

    engine.replace(right, descriptors)


# -- the log ---------------------------------------------------------------------------------------------------


@mutant(LogWriter, "a log is never full")
def _(engine: Wrong) -> None:
    engine.replace(LogWriter.fits, lambda self, page_count: True)


@mutant(LogWriter, "an entry may end one sector past the log")
def _(engine: Wrong) -> None:
    right = LogWriter.fits
    engine.replace(right, lambda self, page_count: right(self, page_count - 1))


@mutant(LogWriter, "a new log keeps the old GUID")
def _(engine: Wrong) -> None:
    right = LogWriter._write
    first: WeakKeyDictionary[LogWriter, UUID] = WeakKeyDictionary()

    def write(
        self: LogWriter, changes: Sequence[LogChange], flushed_file_offset: int, last_file_offset: int
    ) -> None:
        assert self._log_guid is not None
        self._log_guid = first.setdefault(self, self._log_guid)
        right(self, changes, flushed_file_offset, last_file_offset)

    engine.replace(right, write)


@mutant(LogWriter, "the sequence number of entries stays")
def _(engine: Wrong) -> None:
    right = LogWriter._write

    def write(
        self: LogWriter, changes: Sequence[LogChange], flushed_file_offset: int, last_file_offset: int
    ) -> None:
        right(self, changes, flushed_file_offset, last_file_offset)
        self._sequence_number -= 1

    engine.replace(right, write)


def _written(engine: Wrong, change: Callable[[int, int], tuple[int, int]]) -> None:
    """Write entries with a wrong FlushedFileOffset and LastFileOffset."""
    right = LogWriter._write

    def write(
        self: LogWriter, changes: Sequence[LogChange], flushed_file_offset: int, last_file_offset: int
    ) -> None:
        right(self, changes, *change(flushed_file_offset, last_file_offset))

    engine.replace(right, write)


@mutant(LogWriter, "FlushedFileOffset is rounded up")
def _(engine: Wrong) -> None:
    _written(engine, lambda flushed, last: (align_up(flushed, MIB), last))


@mutant(LogWriter, "LastFileOffset is rounded down")
def _(engine: Wrong) -> None:
    _written(engine, lambda flushed, last: (flushed, (last - 1) // MIB * MIB))
