"""Mistakes in the log and the headers, written and read: entries, their GUIDs and numbers, what a replay takes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from proof.mutants.named.pages import without_first_of_more, without_last, without_second_of_more
from proof.mutants.wrong import Named, Wrong
from vhdx._units import MIB, align_up
from vhdx.engine import header_pair, log_replay
from vhdx.engine.header_pair import HeaderPair
from vhdx.engine.log_replay import LogEntry, LogRing
from vhdx.engine.session.header_writer import HeaderWriter
from vhdx.engine.session.log_writer import LogWriter
from vhdx.format.header import Header
from vhdx.format.log import Descriptor, LogChange, LogEntryHeader
from vhdx.report import Breach
from vhdx.rules import RuleCode

MUTANTS: Final = Named()
mutant: Final = MUTANTS.add


@mutant(LogWriter, "the last page is not logged")
def _(engine: Wrong) -> None:
    right = LogWriter.append
    engine.replace(right, lambda self, pages, *sizes: right(self, without_last(pages), *sizes))


@mutant(LogWriter, "the first page is not logged when there are more")
def _(engine: Wrong) -> None:
    right = LogWriter.append
    engine.replace(right, lambda self, pages, *sizes: right(self, without_first_of_more(pages), *sizes))


@mutant(LogWriter, "a page between two others is not logged")
def _(engine: Wrong) -> None:
    right = LogWriter.append

    engine.replace(right, lambda self, pages, *sizes: right(self, without_second_of_more(pages), *sizes))


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
