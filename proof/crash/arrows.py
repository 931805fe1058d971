"""What a VHDX writer had issued last at each moment of a record: the arrows of the commit order (docs/design.md)."""

from collections.abc import Sequence
from typing import Final

from vhdx.disks.image import Image
from vhdx.format.constants import HEADER_FILE_OFFSETS, LOG_SECTOR_SIZE
from vhdx.format.guids import ZERO_GUID
from vhdx.format.header import Header
from vhdx.format.log import (
    ENTRY_HEADER_SIZE,
    LogEntryHeader,
    decode_descriptors,
)
from vhdx.testing.crash import Change, ChangeKind, Content, Moment, RecordingStore, Step, StepKind

NOTHING: Final = "-    nothing yet"
GUIDS: Final = "w,d  new GUIDs in a header"
REPLAY: Final = "r    replayed changes in place"
REPLAYED: Final = "r    LogGuid zero in a header"
LOG_SPACE: Final = "n    space for a log"
LOG_PLACE: Final = "n    the log's place in a header"
EMPTY_ENTRY: Final = "l    empty log entry"
LOG_ON: Final = "l    LogGuid in a header"
PAYLOAD: Final = "1-2  payload"
GROWTH: Final = "1-2  longer file"
ENTRY: Final = "3-4  log entry"
IN_PLACE: Final = "5    pages in place"
RESTART: Final = "full LogGuid zero in a header"
END: Final = "e    LogGuid zero in a header"
SHRINK: Final = "e    shorter file"

ARROWS: Final = (
    GUIDS,
    REPLAY,
    REPLAYED,
    LOG_SPACE,
    LOG_PLACE,
    EMPTY_ENTRY,
    LOG_ON,
    PAYLOAD,
    GROWTH,
    ENTRY,
    IN_PLACE,
    RESTART,
    END,
    SHRINK,
)
"""What an enumeration must meet, each on both sides."""


class ArrowNames:
    """Names the moments of one record."""

    def __init__(self, start: Content) -> None:
        with Image.open(RecordingStore(start)) as image:
            self._header = image.header
            replay = image.opened.replay
        self._replaying = replay is not None
        self._last_header = GUIDS
        self._targets: set[int] = set()
        """Pages that entries of this record name."""

    def moments(self, steps: Sequence[Step]) -> list[Moment]:
        """The moment after each number of steps; the first is that before all."""
        moment = Moment(NOTHING, None)
        found = [moment]
        ended = 0
        for step in steps:
            if step.kind is StepKind.ISSUED and step.change is not None:
                moment = Moment(self._arrow(step.change), step.change)
                if moment.arrow is GUIDS:
                    ended = len(found)
                if moment.arrow is EMPTY_ENTRY:
                    # The log goes on in the same session: what looked like its end was a restart.
                    found[ended:] = [
                        one._replace(arrow=RESTART) if one.arrow is END else one for one in found[ended:]
                    ]
            found.append(moment)
        return found

    def _arrow(self, change: Change) -> str:
        if change.kind is ChangeKind.WRITE and change.file_offset in HEADER_FILE_OFFSETS:
            return self._header_arrow(change.data)
        if self._replaying:
            return REPLAY
        if self._header.log_length == 0:
            return LOG_SPACE
        if change.kind is ChangeKind.TRUNCATE:
            return GROWTH if change.size_after > change.size_before else SHRINK
        if 0 <= change.file_offset - self._header.log_offset < self._header.log_length:
            return self._entry_arrow(change.data)
        return IN_PLACE if change.file_offset // LOG_SECTOR_SIZE in self._targets else PAYLOAD

    def _header_arrow(self, data: bytes) -> str:
        """Of a pair of headers that are changed alike, the second one changes nothing that is not changed yet."""
        before, after = self._header, Header.decode_unchecked(data)
        self._header = after
        if (before.log_offset, before.log_length) != (after.log_offset, after.log_length):
            self._last_header = LOG_PLACE
        elif (before.file_write_guid, before.data_write_guid) != (
            after.file_write_guid,
            after.data_write_guid,
        ):
            self._last_header = GUIDS
        elif before.log_guid != after.log_guid:
            self._last_header = self._log_arrow(after)
        return self._last_header

    def _log_arrow(self, after: Header) -> str:
        if after.log_guid != ZERO_GUID:
            return LOG_ON
        arrow, self._replaying = REPLAYED if self._replaying else END, False
        return arrow

    def _entry_arrow(self, data: bytes) -> str:
        header = LogEntryHeader.decode(data)
        if header.descriptor_count == 0:
            return EMPTY_ENTRY
        for descriptor in decode_descriptors(data, ENTRY_HEADER_SIZE, header.descriptor_count):
            self._targets.add(descriptor.file_offset // LOG_SECTOR_SIZE)
        return ENTRY


def arrow_names(start: Content, steps: Sequence[Step]) -> list[Moment]:
    """Name every moment of a record that began with a file."""
    return ArrowNames(start).moments(steps)
