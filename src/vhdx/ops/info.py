"""What there is to know of one open image, from its metadata alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx.disks.image import Image
from vhdx.engine.side_files import side_file_findings, side_files
from vhdx.findings import Finding
from vhdx.format.bat import PayloadState
from vhdx.format.constants import HEADER_FILE_OFFSETS

if TYPE_CHECKING:
    from typing import Self
    from uuid import UUID

    from vhdx.disks.image import Kind
    from vhdx.engine.log_replay import Replay
    from vhdx.format.header import Header
    from vhdx.format.parent_locator import ParentLocator
    from vhdx.storage.source import Source

STATE_NAMES: Final = {
    PayloadState.NOT_PRESENT: "not-present",
    PayloadState.UNDEFINED: "undefined",
    PayloadState.ZERO: "zero",
    PayloadState.UNMAPPED: "unmapped",
    PayloadState.RESERVED_4: "reserved-4",
    PayloadState.OLD_UNMAPPED: "old-unmapped",
    PayloadState.FULLY_PRESENT: "fully-present",
    PayloadState.PARTIALLY_PRESENT: "partially-present",
}
"""How the states of payload blocks are called in output."""


class HeaderInfo(NamedTuple):
    """One of the two header slots. Offset in bytes of the file."""

    file_offset: int
    is_current: bool
    header: Header | None
    """None if the slot holds no valid header."""


class ReplayInfo(NamedTuple):
    """What replaying a dirty log changes. Sizes in bytes."""

    entry_count: int
    sector_count: int
    """4 KiB sectors of the file that get another content."""
    zeroed_bytes: int
    file_size: int
    """Length of the file afterwards."""

    @classmethod
    def of(cls, replay: Replay) -> Self:
        """The figures of a replay."""
        zeroed = sum(end - start for start, end in replay.zero_ranges)
        return cls(len(replay.entries), replay.sector_count, zeroed, replay.file_size)

    def as_json(self) -> dict[str, int]:
        """Under the names that `info --json` and `dump --json` share."""
        return {
            "entries": self.entry_count,
            "sectors": self.sector_count,
            "zeroed-bytes": self.zeroed_bytes,
            "file-size": self.file_size,
        }


class ImageInfo(NamedTuple):
    """An image's sizes, identities and state. Sizes and offsets in bytes."""

    name: str
    kind: Kind
    virtual_size: int
    file_size: int
    """As it is on the host, before any replay."""
    actual_size: int | None
    """Space taken on the host; None where that cannot be told."""
    block_size: int
    logical_sector_size: int
    physical_sector_size: int
    disk_id: UUID
    creator: str
    headers: tuple[HeaderInfo, HeaderInfo]
    log_file_offset: int
    log_length: int
    replay: ReplayInfo | None
    """None if the log is clean."""
    block_count: int
    blocks: dict[str, int]
    """Number of payload blocks by the name of their state; states that do not occur are left out."""
    locator: ParentLocator | None
    change_tracking: tuple[str, ...]
    """Paths of the side files of Hyper-V's change tracking."""
    findings: tuple[Finding, ...]

    @property
    def current_header(self) -> Header:
        """The header that counts."""
        return next(slot.header for slot in self.headers if slot.is_current and slot.header is not None)


def info(source: Source | Image, *, strict: bool = False, lock: bool = True) -> ImageInfo:
    """Look at one file: an open image, or what `Image.open` takes, with its options.

    Reads the BAT, in constant memory; opens no other file. Raises: OSError; for a file that is opened here also
    FormatError and its kin, ImageLockedError.
    """
    if isinstance(source, Image):
        return _image_info(source)
    with Image.open(source, strict=strict, lock=lock) as image:
        return _image_info(image)


def _image_info(image: Image) -> ImageInfo:
    opened = image.opened
    counts = image.bat.count_states()
    return ImageInfo(
        name=image.name,
        kind=image.kind,
        virtual_size=image.size,
        file_size=image.file_store.size(),
        actual_size=_actual_size(image),
        block_size=image.block_size,
        logical_sector_size=image.logical_sector_size,
        physical_sector_size=image.physical_sector_size,
        disk_id=image.disk_id,
        creator=opened.identifier.creator,
        headers=(_header_info(image, 0), _header_info(image, 1)),
        log_file_offset=image.header.log_offset,
        log_length=image.header.log_length,
        replay=None if opened.replay is None else ReplayInfo.of(opened.replay),
        block_count=opened.geometry.block_count,
        blocks={name: counts[state] for state, name in STATE_NAMES.items() if counts[state]},
        locator=image.locator,
        change_tracking=tuple(side_files(image.file_store)),
        findings=(*image.findings, *side_file_findings(image.file_store)),
    )


def _actual_size(image: Image) -> int | None:
    fd = image.file_store.fileno()
    blocks: int | None = None if fd is None else getattr(os.fstat(fd), "st_blocks", None)
    return None if blocks is None else blocks * 512


def _header_info(image: Image, index: int) -> HeaderInfo:
    headers = image.opened.headers
    return HeaderInfo(HEADER_FILE_OFFSETS[index], index == headers.current_index, headers.slots[index])
