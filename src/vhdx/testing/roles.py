"""What a VHDX writer was doing at each moment of a record: the arrows of the commit order."""

from collections.abc import Sequence
from typing import Final

from vhdx.format.constants import HEADER_FILE_OFFSETS, LOG_SECTOR_SIZE
from vhdx.format.guids import ZERO_GUID
from vhdx.format.header import Header
from vhdx.format.log import (
    ENTRY_HEADER_SIZE,
    LogEntryHeader,
    decode_descriptors,
)
from vhdx.image import Image
from vhdx.testing.pages import Content
from vhdx.testing.recording_store import Change, ChangeKind, RecordingStore, Step, StepKind

BEFORE: Final = "0 nothing"
GUIDS: Final = "w/d new GUIDs in a header"
EMPTY_ENTRY: Final = "l empty log entry"
LOG_ON: Final = "l LogGuid in a header"
PAYLOAD: Final = "1 payload"
GROWTH: Final = "1 growth"
ENTRY: Final = "3 log entry"
IN_PLACE: Final = "5 pages in place"
LOG_OFF: Final = "e LogGuid zero in a header"
SHRINK: Final = "e truncation"
OTHER_HEADER: Final = "x other header change"

ARROWS: Final = (GUIDS, EMPTY_ENTRY, LOG_ON, PAYLOAD, GROWTH, ENTRY, IN_PLACE, LOG_OFF, SHRINK)
"""What a run over all workloads must have met, each pending and durable."""


class VhdxRoles:
    """Names the moments of one record."""

    def __init__(self, start: Content) -> None:
        with Image.open(RecordingStore(start)) as image:
            self._header = image.header
            self._log = range(image.header.log_offset, image.header.log_offset + image.header.log_length)
            replay = image.opened.replay
            self._targets: set[int] = set(replay.store.patched_sectors()) if replay else set()

    def names(self, steps: Sequence[Step]) -> list[str]:
        """The role of the moment after each number of steps; the first is that before all."""
        role, suffix = BEFORE, ""
        found = [BEFORE]
        for step in steps:
            if step.kind is StepKind.ISSUED and step.change is not None:
                role, suffix = self._role(step.change), ", pending"
            elif step.kind is StepKind.FLUSHED and role is not BEFORE:
                suffix = ", durable"
            found.append(role + suffix)
        return found

    def _role(self, change: Change) -> str:
        if change.kind is ChangeKind.TRUNCATE:
            return GROWTH if change.size_after > change.size_before else SHRINK
        if change.kind is ChangeKind.WRITE and change.file_offset in HEADER_FILE_OFFSETS:
            return self._header_role(change.data)
        if change.file_offset in self._log:
            return self._entry_role(change.data)
        page = change.file_offset // LOG_SECTOR_SIZE
        return IN_PLACE if page in self._targets else PAYLOAD

    def _header_role(self, data: bytes) -> str:
        before, self._header = self._header, Header.decode_unchecked(data)
        if before.log_guid == self._header.log_guid:
            same_log = (before.log_offset, before.log_length) == (
                self._header.log_offset,
                self._header.log_length,
            )
            return GUIDS if same_log else OTHER_HEADER
        return LOG_OFF if self._header.log_guid == ZERO_GUID else LOG_ON

    def _entry_role(self, data: bytes) -> str:
        header = LogEntryHeader.decode(data)
        if header.descriptor_count == 0:
            return EMPTY_ENTRY
        for descriptor in decode_descriptors(data, ENTRY_HEADER_SIZE, header.descriptor_count):
            self._targets.add(descriptor.file_offset // LOG_SECTOR_SIZE)
        return ENTRY


def vhdx_roles(start: Content, steps: Sequence[Step]) -> list[str]:
    """Name every moment of a record that began with a file."""
    return VhdxRoles(start).names(steps)
