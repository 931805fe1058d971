"""Copying a whole disk into a new raw or VHDX file."""

from collections.abc import Callable
from typing import Final, Literal
from uuid import UUID

from vhdx._units import MIB, align_up
from vhdx.blockdev.device import BlockDevice, Limits
from vhdx.engine.new_image import ImageWriter
from vhdx.errors import RequestError
from vhdx.format.constants import SECTOR_SIZES
from vhdx.format.metadata import DiskParameters
from vhdx.format.new_disk import disk_parameters
from vhdx.ops.copying.copier import Copier, Target
from vhdx.ops.copying.destination import Destination, StorePath, open_destination, refuse_same_file
from vhdx.ops.copying.source_walk import HoleMap, Unit, all_units, count_data, data_units, stores_of
from vhdx.ops.copying.unit_workers import Turns, Workers
from vhdx.ops.progress import Progress, no_progress
from vhdx.storage.base import ByteStore
from vhdx.storage.zeroes import reserve_space

Format = Literal["raw", "vhdx"]
Kind = Literal["dynamic", "fixed"]

DEFAULT_THREADS: Final = 2
"""One reads while the other writes; more only wait for each other."""

_RAW_UNIT_SIZE: Final = 16 * MIB
"""What one worker copies in one go, in bytes: enough to forget the cost of asking where it lies."""


def convert(
    source: BlockDevice,
    destination: StorePath | ByteStore,
    *,
    format: Format = "raw",
    kind: Kind = "dynamic",
    block_size: int | None = None,
    logical_sector_size: int | None = None,
    physical_sector_size: int | None = None,
    disk_id: UUID | None = None,
    overwrite: bool = False,
    sparse: bool = True,
    preallocate: bool = False,
    threads: int = DEFAULT_THREADS,
    progress: Progress = no_progress,
) -> None:
    """Copy what a disk reads as into a new raw or VHDX file, or the like.

    Args:
        source: any block device; nobody may write to it meanwhile. It stays open.
        destination: path of a new file, which appears only when it is complete; or of a block device, on
            which zeroes are written out; or a store. For pipes there is `vhdx.ops.pipe`.
        format: "raw" or "vhdx".
        kind: "dynamic" or "fixed" (VHDX).
        block_size: of a VHDX, in bytes: 1, 2, 4, ... 256 MiB; None is 32 MiB.
        logical_sector_size: of a VHDX, in bytes; None is the source's, as file systems depend on it. A source
            whose size is not a multiple of it gets zeroes at its end.
        physical_sector_size: of a VHDX, in bytes; None is the source's.
        disk_id: of a VHDX; None is a new one ([MS-VHDX] 2.6.2.3).
        overwrite: replace an existing file, or the content of a device.
        sparse: look for zeroes in the data and give them no space; otherwise only what is known to be zero
            takes none. On file systems that share blocks between files, what is shared is not looked through.
        preallocate: take all space of a raw file or a fixed VHDX from the host at once.
        threads: workers.
        progress: told the bytes of data copied so far and in total.

    Raises: RequestError for what cannot be, before anything is written; ParentNotFoundError likewise;
    FileExistsError; FormatError for damage met in the source; OSError. After any exception there is no new
    file; a device or a store then has no image either, but its former content is gone.
    """
    if format not in {"raw", "vhdx"}:
        raise RequestError(f"format {format!r} is not known: choose raw or vhdx")
    if threads < 1:
        raise RequestError(f"{threads} threads cannot do any work")
    parameters = None
    if format == "vhdx":
        parameters = image_parameters(
            source.size,
            source.limits,
            kind=kind,
            block_size=block_size,
            logical_sector_size=logical_sector_size,
            physical_sector_size=physical_sector_size,
            disk_id=disk_id,
        )
    refuse_same_file(destination, stores_of(source))
    total = count_data(source)  # also meets absent parents, before anything is written
    with open_destination(destination, overwrite=overwrite) as opened:
        job: _RawJob | _ImageJob
        if parameters is None:
            job = _RawJob(source, opened, preallocate=preallocate)
        else:
            job = _ImageJob(opened, parameters, preallocate=preallocate)
        _copy(source, job.target, job.unit_size, total, threads, progress, sparse=sparse)
        job.finish()


def image_parameters(
    size: int,
    limits: Limits | None,
    *,
    kind: str,
    block_size: int | None,
    logical_sector_size: int | None,
    physical_sector_size: int | None,
    disk_id: UUID | None = None,
) -> DiskParameters:
    """Parameters of a VHDX that takes a disk of `size` bytes, like `limits` where nothing else is asked for.

    Raises: RequestError.
    """
    offered = (limits.minimum_io_size, limits.preferred_io_size) if limits else (0, 0)
    logical = _sector_size(logical_sector_size, offered[0])
    physical = physical_sector_size
    if physical is None and offered[1] in SECTOR_SIZES:
        physical = max(logical, offered[1])
    return disk_parameters(
        align_up(size, logical) if logical > 0 else size,
        kind=kind,
        block_size=block_size,
        logical_sector_size=logical,
        physical_sector_size=physical,
        disk_id=disk_id,
    )


def _sector_size(asked: int | None, offered: int) -> int:
    """What the caller asked for, else what the source has if VHDX knows it."""
    if asked is not None:
        return asked
    return offered if offered in SECTOR_SIZES else SECTOR_SIZES[0]


class _RawJob:
    """A raw destination: every byte at its virtual offset."""

    def __init__(self, source: BlockDevice, opened: Destination, *, preallocate: bool) -> None:
        self._store, capacity = opened
        is_blank = capacity is None
        if capacity is not None and capacity < source.size:
            raise RequestError(
                f"{self._store.name}: {capacity} bytes are too few for a disk of {source.size} bytes"
            )
        if is_blank:
            self._store.truncate(source.size)
            if preallocate and source.size:
                reserve_space(self._store, source.size)
        self.unit_size = _RAW_UNIT_SIZE
        self.target = Target(
            self._store,
            lambda unit: unit.offset,
            is_ordered=False,
            is_blank=is_blank,
            writes_all=not is_blank,
        )

    def finish(self) -> None:
        """Make it durable."""
        self._store.flush()


class _ImageJob:
    """A VHDX destination: one unit for each payload block, so that a block of zeroes is found as such."""

    def __init__(self, opened: Destination, parameters: DiskParameters, *, preallocate: bool) -> None:
        store, capacity = opened
        self._writer = ImageWriter(store, parameters, capacity=capacity)
        if preallocate:
            self._writer.preallocate()
        self.unit_size = parameters.block_size
        self.target = Target(
            store,
            self._place,
            is_ordered=not parameters.is_fixed,
            is_blank=self._writer.is_blank,
            writes_all=parameters.is_fixed and not self._writer.is_blank,
            slot_size=parameters.block_size,
        )

    def _place(self, unit: Unit) -> int:
        return self._writer.place_block(unit.offset // self.unit_size)

    def finish(self) -> None:
        """Make it an image, and durable."""
        self._writer.finish()


def _copy(
    source: BlockDevice,
    target: Target,
    unit_size: int,
    total: int,
    threads: int,
    progress: Progress,
    *,
    sparse: bool,
) -> None:
    find_units = all_units if target.writes_all else data_units
    workers: Workers[Unit] = Workers(find_units(source, unit_size), threads, Turns())
    copiers: list[Copier] = []
    holes = HoleMap()

    def make_work() -> Callable[[int, Unit], None]:
        copier = Copier(source, holes, target, workers, leave_out_zeroes=sparse)
        copiers.append(copier)
        return copier.copy

    def on_tick() -> None:
        # Host holes inside what the source calls data count for the total, but are not copied.
        progress(min(total, sum(copier.done for copier in copiers)), total)

    workers.run(make_work, on_tick)
    progress(total, total)
