"""One file as a block device. Its parent, if it has one, is none of its business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from vhdx._handles import close_at_exit
from vhdx.blockdev.device import Ability, Limits
from vhdx.disks.layer import LEFT_TO_PARENT
from vhdx.disks.layered_device import LayeredDevice
from vhdx.disks.options import Mode, OpenOptions
from vhdx.engine.bat_table import BatTable
from vhdx.engine.opening import Opened, ReplayMode, open_image, read_item
from vhdx.engine.page_cache import PageCache
from vhdx.engine.read_plan import ReadPlan
from vhdx.format.bat import PayloadState
from vhdx.report import Report
from vhdx.storage.base import ByteStore, identity_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from vhdx.blockdev.span import Span
    from vhdx.engine.blocks.requests import Requests
    from vhdx.findings import Finding
    from vhdx.format.header import Header
    from vhdx.format.metadata import DiskParameters, MetadataEntry
    from vhdx.format.parent_locator import ParentLocator
    from vhdx.storage.source import Owned, Source

Kind = Literal["fixed", "dynamic", "differencing"]

_FULLY_PRESENT = int(PayloadState.FULLY_PRESENT)


class Image(LayeredDevice):
    """One open VHDX file.

    Of a differencing image it reads what is in the file; what is in the parent raises ParentNotFoundError.
    """

    _writer: Requests | None

    def __init__(
        self,
        opened: Opened,
        bat: BatTable,
        report: Report,
        store: ByteStore,
        writer: Requests | None,
        *,
        owns_store: bool,
    ) -> None:
        """Use `Image.open`. `store` is the file itself, `writer` what changes it."""
        self.opened = opened
        self.bat = bat
        self.file_store = store
        self.plan = ReadPlan(bat, opened.block_rules, bat.pages.read, report.judge)
        self._report = report
        self._owns_store = owns_store
        self._rules = opened.block_rules
        self._block_size = opened.geometry.block_size
        super().__init__((self,), writer)

    @classmethod
    def open(
        cls,
        source: Source,
        mode: Mode = "r",
        *,
        replay: ReplayMode = "auto",
        strict: bool = False,
        lock: bool = True,
        no_lock_ok: bool = False,
        ignore_change_tracking: bool = False,
    ) -> Image:
        """Open one file, for reading ("r") or for reading and writing ("r+").

        For reading, nothing is written, and a dirty log is replayed in memory. For writing, everything is
        judged first, the whole BAT included; the file changes with the first change that is asked for.
        `replay="refuse"` raises if the log is dirty; `"ignore"` reads as if it were empty (for recovery).
        `strict` refuses what is merely tolerated, and judges the whole BAT. `lock=False` reads in spite of
        another process's lock; `no_lock_ok` writes where the file system has no locks.
        `ignore_change_tracking` writes to an image whose changes Hyper-V tracks.

        Raises: FormatError, ImageStateError and its kin, OSError; ValueError for another mode or replay, or for
        two that do not go together.
        """
        options = OpenOptions(
            mode=mode,
            replay=replay,
            strict=strict,
            lock=lock,
            no_lock_ok=no_lock_ok,
            ignore_change_tracking=ignore_change_tracking,
        )
        image = cls.open_with(source, options)
        if options.writable:
            close_at_exit(image)
        return image

    @classmethod
    def open_with(cls, source: Source | Owned, options: OpenOptions) -> Image:
        """Open one file. Raises: as `open`."""
        store, owns_store = options.open_store(source)
        try:
            report = Report(store.name, options.strict)
            opened = open_image(store, report, options.replay)
            bat = BatTable(PageCache(opened.store, options.tuning), opened.regions.bat, opened.geometry)
            if options.strict:
                from vhdx.engine.scan.table import judge_table

                judge_table(bat, opened.block_rules, report.judge)
            writer = None
            if options.writable:
                from vhdx.engine.opening_for_writing import open_for_writing

                writer = open_for_writing(
                    opened,
                    bat,
                    report,
                    store,
                    options.tuning,
                    ignore_change_tracking=options.ignore_change_tracking,
                )
            image = cls(opened, bat, report, store, writer, owns_store=owns_store)
        except BaseException:
            if owns_store:
                store.close()
            raise
        return image

    @property
    def name(self) -> str:
        """What to call the file: its path, mostly."""
        return self.file_store.name

    @property
    def store(self) -> ByteStore:
        """Where the file's bytes are read from: the replay's overlay if the log was dirty."""
        return self.opened.store

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        return self.opened.parameters.virtual_size

    @property
    def parameters(self) -> DiskParameters:
        """Sizes, kind flags and disk id."""
        return self.opened.parameters

    @property
    def block_size(self) -> int:
        """Payload block size in bytes."""
        return self._block_size

    @property
    def logical_sector_size(self) -> int:
        """Bytes: 512 or 4096."""
        return self.opened.parameters.logical_sector_size

    @property
    def physical_sector_size(self) -> int:
        """Bytes; a hint to the guest."""
        return self.opened.parameters.physical_sector_size

    @property
    def kind(self) -> Kind:
        """Whether the image is fixed, dynamic or differencing."""
        if self.parameters.has_parent:
            return "differencing"
        return "fixed" if self.parameters.keeps_space else "dynamic"

    @property
    def disk_id(self) -> UUID:
        """The disk's identity as the guest sees it (SCSI VPD page 83)."""
        return self.parameters.disk_id

    @property
    def header(self) -> Header:
        """The header that counts in the file now: with mode "r+" it changes while the image is written to."""
        return self.opened.headers.current if self._writer is None else self._writer.header

    @property
    def is_dirty(self) -> bool:
        """Whether the log is in use: by a writer that did not end as it should, or by this one."""
        return self.header.log_in_use

    @property
    def locator(self) -> ParentLocator | None:
        """Who the parent is and where it may be; None without one."""
        return self.opened.locator

    @property
    def metadata_entries(self) -> tuple[MetadataEntry, ...]:
        """Every metadata item, known or not."""
        return self.opened.metadata.entries

    def read_metadata_item(self, entry: MetadataEntry) -> bytes:
        """Content of a metadata item. Raises: OSError."""
        return read_item(self.opened.store, self.opened.regions.metadata, entry)

    @property
    def findings(self) -> list[Finding]:
        """What was tolerated so far."""
        return list(self._report.findings)

    @property
    def identity(self) -> tuple[int, int] | None:
        """Device and inode; None for what is not a file."""
        return identity_of(self.file_store)

    @property
    def limits(self) -> Limits:
        """Abilities and preferred sizes."""
        limits = Limits(
            self.logical_sector_size,
            self.physical_sector_size,
            self._block_size,
            ranges=Ability.NATIVE,
            block_status=Ability.NATIVE,
        )
        if not self.writable:
            return limits
        keeps_space = self.parameters.keeps_space
        return limits._replace(
            writable=True,
            fua=Ability.EMULATED,
            trim=Ability.NONE if keeps_space else Ability.NATIVE,
            write_zeroes=Ability.EMULATED if keeps_space else Ability.NATIVE,
            fast_zero=Ability.NONE if keeps_space else Ability.NATIVE,
        )

    @property
    def writer(self) -> Requests | None:
        """What changes the file; None if it is open for reading."""
        return self._writer

    def spans(self, offset: int, length: int) -> Iterator[Span]:
        """Split a range inside the disk by where its content comes from.

        Raises: CorruptImageError, OSError.
        """
        return self.plan.spans(offset, length)

    def plain_file_offset(self, offset: int, length: int) -> int:
        """File offset of a range that lies in one sound, fully present block; -1 if it does not.

        LEFT_TO_PARENT if it lies in one block that is not present. The short way for most reads: whatever is in
        any way odd takes the long one.
        """
        block, within = divmod(offset, self._block_size)
        if within + length > self._block_size:
            return -1
        entry = self.bat.payload_entry(block)
        file_offset = entry - _FULLY_PRESENT
        rules = self._rules
        if file_offset & 0xFFFFF or not rules.structures_end <= file_offset <= rules.last_plain_offset:
            return LEFT_TO_PARENT if entry == 0 and self.opened.geometry.has_parent else -1
        return file_offset + within

    def _close_layers(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            if self._owns_store:
                self.file_store.close()

    def __repr__(self) -> str:
        return f"<Image {self.name} {self.kind} {self.size} bytes, {self._state}>"
