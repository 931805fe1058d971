"""Copying a whole disk into a new raw or VHDX file."""

import os
from typing import Final, Literal
from uuid import UUID

from vhdx.disks.formats import RAW, FormatName, check_can_be_made, format_of_name
from vhdx.disks.layered_device import LayeredDevice
from vhdx.errors import RequestError
from vhdx.ops.copying.copier import copy_units
from vhdx.ops.copying.destination import StorePath, open_destination, refuse_same_file
from vhdx.ops.copying.parameters import image_parameters
from vhdx.ops.copying.source import DiskSource, use_disk
from vhdx.ops.copying.source_walk import count_data
from vhdx.ops.copying.targets import ImageTarget, RawTarget, Target
from vhdx.ops.progress import Progress, no_progress
from vhdx.storage.base import ByteStore

Kind = Literal["dynamic", "fixed"]

DEFAULT_THREADS: Final = 2
"""One reads while the other writes; more only wait for each other."""


def convert(
    source: DiskSource,
    destination: StorePath | ByteStore,
    *,
    format: FormatName | None = None,
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
    """Copy the content of a disk into a new raw or VHDX file.

    Args:
        source: a block device, which stays open; or the path of a VHDX (whose parents are looked for beside it)
            or of a raw disk. Nobody may write to it meanwhile.
        destination: path of a new file, which appears only when it is complete; or of a block device, on
            which zeroes are written out; or a store.
        format: "raw" or "vhdx". None is what the name of the destination ends in, and raw if that tells nothing.
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

    Raises: RequestError for arguments that are wrong or do not go together, and ParentNotFoundError, before
    anything is written; FileExistsError; FormatError for damage met in the source; OSError. After any exception
    there is no new file; a device or a store then has no image either, but its former content is gone.
    """
    if format is None:
        format = _format_of_name(destination)
    check_can_be_made(format)
    if threads < 1:
        raise RequestError(f"{threads} threads cannot do any work")
    with use_disk(source) as device:
        parameters = None
        if format == "vhdx":
            parameters = image_parameters(
                device.size,
                device.limits,
                kind=kind,
                block_size=block_size,
                logical_sector_size=logical_sector_size,
                physical_sector_size=physical_sector_size,
                disk_id=disk_id,
            )
        refuse_same_file(destination, device.stores if isinstance(device, LayeredDevice) else ())
        total = count_data(device)  # also meets absent parents, before anything is written
        with open_destination(destination, overwrite=overwrite) as opened:
            target: Target
            if parameters is None:
                target = RawTarget(opened, device.size, preallocate=preallocate)
            else:
                target = ImageTarget(opened, parameters, preallocate=preallocate)
            copy_units(device, target, total, sparse=sparse, threads=threads, progress=progress)
            target.finish()


def _format_of_name(destination: StorePath | ByteStore) -> FormatName:
    if not isinstance(destination, str | bytes | os.PathLike):
        return RAW.name
    promised = format_of_name(os.fsdecode(destination))
    return RAW.name if promised is None else promised.name
