"""Rules of the commit order, judged once for a record of a VHDX writer instead of for each state after a crash.

- in each session, before any other change both headers are durable with new write GUIDs
- never are both headers being written at once
- the first 64 KiB never change, and the log's place changes by log entries alone
- an entry says of the file's length no more than is durable, and that of all structures no less than they need
- metadata, and whatever else an entry writes to, changes in place only to what a durable entry says, or a replay
"""

from collections.abc import Iterator, Sequence
from typing import Final

from vhdx._units import div_ceil
from vhdx.disks.image import Image
from vhdx.engine.scan.table import judge_table
from vhdx.format.constants import HEADER_FILE_OFFSETS, LOG_SECTOR_SIZE
from vhdx.format.header import HEADER_SIZE, Header
from vhdx.format.log import (
    ENTRY_HEADER_SIZE,
    ENTRY_SIGNATURE,
    LogEntryHeader,
    decode_descriptors,
    rebuild_sector,
)
from vhdx.testing.crash import SESSION_BEGINS, Change, ChangeKind, Content, RecordingStore, Step, StepKind

_IDENTIFIER_END: Final = 0x10000
_FIRST_LOGGED: Final = 0x30000


class RecordRules:
    """Goes over one record."""

    def __init__(self, start: Content) -> None:
        self.durable = start.copy()
        self.volatile = start.copy()
        self._pending: dict[int, Change] = {}
        self._open()
        self._logged: dict[int, bytes] = {}
        """Pages by number, as the entries say that have been written."""
        self._sure: dict[int, set[bytes]] = {}
        """Contents of pages that durable entries have said."""

    def _open(self) -> None:
        """A session begins on the file as it is. Raises: VhdxError if that does not open."""
        with Image.open(RecordingStore(self.volatile)) as image:
            self._header = image.header
            replay = image.opened.replay
            self._replayed = frozenset(() if replay is None else replay.store.patched_sectors())
            self._zeroed = () if replay is None else replay.zero_ranges
            regions = image.opened.regions
            self._metadata = [range(regions.bat.file_offset, regions.bat.end)]
            self._metadata.append(range(regions.metadata.file_offset, regions.metadata.end))
            self._metadata.append(range(_FIRST_LOGGED, 0x50000))
        found = [
            Header.decode_unchecked(content.read(HEADER_SIZE, offset))
            for content in (self.durable, self.volatile)
            for offset in HEADER_FILE_OFFSETS
        ]
        self._old_guids = {guid for one in found for guid in (one.file_write_guid, one.data_write_guid)}

    def faults(self, steps: Sequence[Step]) -> Iterator[str]:
        """Name every breach, in order."""
        for step in steps:
            if step.kind is StepKind.ISSUED and step.change is not None:
                yield from self._issued(step.change)
                step.change.apply(self.volatile)
                self._pending[step.change.number] = step.change
            elif step.label == SESSION_BEGINS:
                self._open()
            elif step.kind is StepKind.FLUSHED:
                for change in step.covered:
                    if self._pending.pop(change.number, None) is not None:
                        change.apply(self.durable)
                        self._settle(change)

    def _issued(self, change: Change) -> Iterator[str]:
        if change.kind is ChangeKind.TRUNCATE:
            yield from self._begun(change)
        elif change.file_offset in HEADER_FILE_OFFSETS and change.length == HEADER_SIZE:
            if any(
                other.file_offset in HEADER_FILE_OFFSETS and other.length for other in self._pending.values()
            ):
                yield f"{change}: the other header is not durable yet"
            header = Header.decode_unchecked(change.data)
            if not header.log_in_use and self._header.log_in_use and self._pending:
                waiting = next(iter(self._pending.values()))
                yield f"{change}: LogGuid becomes zero while {waiting} is not durable yet"
            self._header = header
        elif change.length:
            yield from self._begun(change)
            if change.file_offset < _FIRST_LOGGED:
                yield f"{change}: a change of the header section"
            log = range(self._header.log_offset, self._header.log_offset + self._header.log_length)
            if change.file_offset in log:
                yield from self._entry(change)
            else:
                yield from self._in_place(change)

    def _begun(self, change: Change) -> Iterator[str]:
        for offset in HEADER_FILE_OFFSETS:
            header = Header.decode_unchecked(self.durable.read(HEADER_SIZE, offset))
            if header.file_write_guid in self._old_guids:
                yield f"{change}: the header at {offset:#x} has no new FileWriteGuid yet"
            if header.data_write_guid in self._old_guids:
                yield f"{change}: the header at {offset:#x} has no new DataWriteGuid yet"

    def _entry(self, change: Change) -> Iterator[str]:
        if change.data[:4] != ENTRY_SIGNATURE:
            yield f"{change}: not a log entry, in the log"
            return
        entry = LogEntryHeader.decode(change.data)
        if entry.flushed_file_offset > self.durable.size:
            yield f"{change}: FlushedFileOffset {entry.flushed_file_offset:#x}, durable {self.durable.size:#x}"
        descriptors = list(decode_descriptors(change.data, ENTRY_HEADER_SIZE, entry.descriptor_count))
        data_at = LOG_SECTOR_SIZE
        after = self.volatile.copy()
        for descriptor in descriptors:
            sector = change.data[data_at : data_at + LOG_SECTOR_SIZE]
            page = rebuild_sector(descriptor.leading, sector, descriptor.trailing)
            self._logged[descriptor.file_offset // LOG_SECTOR_SIZE] = page
            after.write(page, descriptor.file_offset)
            data_at += LOG_SECTOR_SIZE
        end = _structures_end(after)
        if entry.last_file_offset < end:
            yield f"{change}: LastFileOffset {entry.last_file_offset:#x}, structures end at {end:#x}"

    def _settle(self, change: Change) -> None:
        """A change has become durable: what an entry says may now be put in place."""
        if change.kind is ChangeKind.WRITE and change.data[:4] == ENTRY_SIGNATURE:
            for number, page in self._logged.items():
                self._sure.setdefault(number, set()).add(page)

    def _in_place(self, change: Change) -> Iterator[str]:
        start, end = change.file_offset, change.file_offset + change.length
        pages = range(start // LOG_SECTOR_SIZE, div_ceil(end, LOG_SECTOR_SIZE))
        is_logged = any(number in pages for number in self._logged)
        if not is_logged and not any(span.start < end and start < span.stop for span in self._metadata):
            return
        if pages[0] in self._replayed or any(low <= start < high for low, high in self._zeroed):
            return
        if change.length != LOG_SECTOR_SIZE or change.data not in self._sure.get(pages[0], ()):
            yield f"{change}: what an entry writes to changed in place to what no durable log entry says"


def _structures_end(content: Content) -> int:
    """End of the last structure of a file, as it is without its log."""
    with Image.open(RecordingStore(content), replay="ignore") as image:
        rules = image.opened.block_rules
        summary = judge_table(image.bat, rules, lambda _: None)
        return max(summary.blocks_end, rules.structures_end)


def record_faults(start: Content, steps: Sequence[Step]) -> list[str]:
    """Judge the record of what was done to a file."""
    return list(RecordRules(start).faults(steps))
