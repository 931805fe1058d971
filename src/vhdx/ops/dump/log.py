"""The log of a file: every entry in it, of this session and of former ones, and which are to be replayed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from vhdx.engine.log_replay import (
    Candidate,
    LogRing,
    Replay,
    find_active_sequence,
    replay_in_memory,
)
from vhdx.errors import FormatError
from vhdx.findings import Finding
from vhdx.format.constants import LOG_SECTOR_SIZE, MAX_LOG_LENGTH, REGION_TABLE_FILE_OFFSETS
from vhdx.format.region_table import REGION_TABLE_SIZE
from vhdx.ops.dump.structure import Structure, collect
from vhdx.ops.info import ReplayInfo
from vhdx.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vhdx.format.header import Header
    from vhdx.format.region_table import Region
    from vhdx.storage.base import ByteStore

MAX_DESCRIPTORS_SHOWN: Final = 1024
"""Of one entry."""
_MAX_TARGETS: Final = 64


class LogDump:
    """The log that a header names. `replay` is None where there is nothing to replay, or no way to do it."""

    def __init__(self, store: ByteStore, header: Header, file_size: int, regions: tuple[Region, ...]) -> None:
        self._store = store
        self._header = header
        self._targets = [
            (f"region table {index + 1}", start, start + REGION_TABLE_SIZE)
            for index, start in enumerate(REGION_TABLE_FILE_OFFSETS)
        ]
        self._targets += [(region.name, region.file_offset, region.end) for region in regions[:_MAX_TARGETS]]
        self._is_readable = (
            0 < header.log_length <= MAX_LOG_LENGTH and header.log_length % LOG_SECTOR_SIZE == 0
        )
        self.replay: Replay | None = None
        self._findings: tuple[Finding, ...] = ()
        if header.log_in_use and self._is_readable:
            try:
                self.replay, self._findings = collect(
                    lambda report: replay_in_memory(store, header, file_size, report.breach)
                )
            except OSError:  # reading the entries meets the same error, and tells it
                pass

    def structures(self) -> Iterator[Structure]:
        """The log as a whole, then its entries. Raises: OSError."""
        header, replay = self._header, self.replay
        fields: dict[str, Any] = {"dirty": header.log_in_use, "log-guid": str(header.log_guid)}
        if replay is not None:
            fields["replay"] = ReplayInfo.of(replay).as_json()
        whole = Structure("log", header.log_offset, header.log_length, fields, findings=self._findings)
        if not self._is_readable:
            yield whole._replace(error=None if not header.log_length else "its length is impossible")
            return
        yield whole
        active = self._active_positions()
        ring = LogRing(self._store, header, Report().breach)
        try:
            for candidate in ring.candidates(any_guid=True):
                yield self._entry(ring, candidate, is_active=candidate.position in active)
        except FormatError as error:
            yield whole._replace(name="rest of the log", fields={}, findings=(error.finding,))

    def _active_positions(self) -> set[int]:
        if not self._header.log_in_use:
            return set()
        ring = LogRing(self._store, self._header, Report().breach)
        sequence, _ = collect(lambda _: find_active_sequence(ring))
        return {entry.position for entry in sequence or ()}

    def _entry(self, ring: LogRing, candidate: Candidate, *, is_active: bool) -> Structure:
        position, entry, fault = candidate
        is_of_this_session = self._header.log_in_use and entry.log_guid == self._header.log_guid
        fields = {
            "valid": fault is None,
            "active": is_active,
            "stale": not is_of_this_session,
            "position": position,
            "checksum": entry.checksum,
            "entry-length": entry.entry_length,
            "tail": entry.tail,
            "sequence-number": entry.sequence_number,
            "descriptor-count": entry.descriptor_count,
            "log-guid": str(entry.log_guid),
            "flushed-file-offset": entry.flushed_file_offset,
            "last-file-offset": entry.last_file_offset,
        }
        name, place = f"log entry at position {position:#x}", ring.file_offset + position
        if fault is not None:
            return Structure(name, place, LOG_SECTOR_SIZE, fields, findings=(Finding(fault, name, place),))
        changes = self._changes(ring, candidate)
        return Structure(name, place, entry.entry_length, fields, tuple(changes))

    def _changes(self, ring: LogRing, candidate: Candidate) -> Iterator[dict[str, Any]]:
        # The ring gives the last descriptor first: what a bounded deque keeps are the first ones of the entry.
        for descriptor, _, data_position in reversed(
            deque(ring.descriptors(candidate.entry), MAX_DESCRIPTORS_SHOWN)
        ):
            yield {
                "type": "data" if descriptor.is_data else "zero",
                "file-offset": descriptor.file_offset,
                "length": descriptor.length,
                "target": self._target(descriptor.file_offset),
                "data-file-offset": ring.file_offset + data_position if descriptor.is_data else None,
            }

    def _target(self, file_offset: int) -> str:
        """Which structure a change aims at."""
        for name, start, end in self._targets:
            if start <= file_offset < end:
                return name
        return "elsewhere"
