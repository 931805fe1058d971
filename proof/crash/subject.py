"""The library's own writer, as the crash kit needs to know it."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, cast

import vhdx
from vhdx._sync import Sync
from vhdx.disks.chain import Disk, open_chain
from vhdx.disks.image import Image
from vhdx.disks.options import OpenOptions
from vhdx.engine.tuning import DEFAULT_PAGE_CAPACITY, DEFAULT_TUNING, Tuning
from vhdx.format.constants import HEADER_FILE_OFFSETS, LOG_SECTOR_SIZE, REGION_TABLE_FILE_OFFSETS
from vhdx.ops.check import check
from vhdx.rules import RuleCode, Severity
from vhdx.storage.base import ByteStore, pread_zero_extended
from vhdx.testing.crash import Content, CrashDevice, MediaFault, RecordingStore, ReplayEffect, garbage

_HEADER_LOST: Final = frozenset({RuleCode.HEADER_CHECKSUM, RuleCode.HEADER_SIGNATURE})
"""What a check may say after a crash: one header was being written, or the medium lost it."""
_TABLE_LOST: Final = frozenset({RuleCode.REGION_TABLE_CHECKSUM, RuleCode.REGION_TABLE_SIGNATURE})
"""What a check may say as long as nobody has repaired a region table that the medium lost."""


class VhdxSubject:
    """The library's writer. `parents` are the contents of the chain below the leaf, nearest first."""

    def __init__(self, parents: Sequence[Content] = ()) -> None:
        self.parents = parents
        self._tuning = DEFAULT_TUNING

    @contextmanager
    def tuned(
        self, *, log_capacity: int | None = None, page_capacity: int = DEFAULT_PAGE_CAPACITY
    ) -> Iterator[None]:
        """Open files so that only so many bytes of a log are used, and only so many clean pages kept."""
        before, self._tuning = self._tuning, Tuning(log_capacity=log_capacity, page_capacity=page_capacity)
        try:
            yield
        finally:
            self._tuning = before

    def open(self, store: ByteStore, sync: object = None) -> CrashDevice:
        """Open a file for writing. Raises: what `vhdx.open` does."""
        tuning = self._tuning if sync is None else replace(self._tuning, sync=cast(Sync, sync))
        parents = [RecordingStore(parent, f"parent {depth}") for depth, parent in enumerate(self.parents, 1)]
        options = OpenOptions(mode="r+", parents=parents, tuning=tuning)
        return cast(CrashDevice, open_chain(store, options))

    def faults(
        self, content: Content, *, after_crash: bool = False, fault: MediaFault | None = None
    ) -> Sequence[str]:
        """Findings of a check that are errors or leaks; a log in use, too, unless there was a crash."""
        tolerated: Collection[RuleCode] = _HEADER_LOST if after_crash else ()
        if after_crash and fault is not None and fault.file_offset in REGION_TABLE_FILE_OFFSETS:
            tolerated = {*tolerated, *_TABLE_LOST}
        return [
            str(finding)
            for finding in check(RecordingStore(content)).findings()
            if (finding.severity in (Severity.ERROR, Severity.LEAK) and finding.code not in tolerated)
            or (finding.code is RuleCode.LOG_DIRTY and not after_crash)
        ]

    def replay_effect(self, content: Content, device: CrashDevice | None = None) -> ReplayEffect:
        """Put the log's changes in place, as a replay in memory shows them."""
        if device is not None:
            return _replay_effect(cast(Disk, device).images[0], content)
        with Image.open(RecordingStore(content)) as image:
            return _replay_effect(image, content)

    def media_faults(self) -> Sequence[MediaFault]:
        """Either header, either region table."""
        headers = [
            MediaFault(f"header {index}", offset, garbage(4096))
            for index, offset in enumerate(HEADER_FILE_OFFSETS, 1)
        ]
        tables = [
            MediaFault(f"region table {index}", offset, garbage(4096))
            for index, offset in enumerate(REGION_TABLE_FILE_OFFSETS, 1)
        ]
        return headers + tables

    def is_poisoned(self, error: BaseException) -> bool:
        """Whether it is an ImagePoisonedError."""
        return isinstance(error, vhdx.ImagePoisonedError)


def _replay_effect(image: Image, content: Content) -> ReplayEffect:
    replay = image.opened.replay
    if replay is None:
        return ReplayEffect(image.is_dirty, content)
    replayed = content.copy()
    replayed.size = max(content.size, replay.file_size)
    for start, end in replay.zero_ranges:
        replayed.clear(start, end)
    for sector in replay.store.patched_sectors():
        page = pread_zero_extended(replay.store, LOG_SECTOR_SIZE, sector * LOG_SECTOR_SIZE)
        replayed.write(page, sector * LOG_SECTOR_SIZE)
    return ReplayEffect(True, content if replayed == content else replayed)
