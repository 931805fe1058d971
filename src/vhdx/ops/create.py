"""Making a new, empty VHDX: dynamic, fixed, or the child of another one."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from vhdx.disks.image import Image
from vhdx.engine.new_image import ImageWriter
from vhdx.errors import LogReplayRequiredError, RequestError
from vhdx.format.guids import ZERO_GUID
from vhdx.format.metadata import ALWAYS_NEEDED, DiskParameters
from vhdx.format.new_disk import DEFAULT_CHILD_BLOCK_SIZE, NewItem, check_parameters, disk_parameters
from vhdx.format.parent_locator import ParentLocator
from vhdx.ops.copying.destination import StorePath, open_destination, refuse_same_file

if TYPE_CHECKING:
    from uuid import UUID

    from vhdx.storage.base import ByteStore

_MAX_VALUE_LENGTH = 0xFFFE


def create(
    path: StorePath | ByteStore,
    size: int | None = None,
    *,
    kind: Literal["dynamic", "fixed", "differencing"] | None = None,
    block_size: int | None = None,
    logical_sector_size: int | None = None,
    physical_sector_size: int | None = None,
    parent: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    preallocate: bool = False,
) -> None:
    """Make a new VHDX that reads as zeroes, or as its parent. It appears only when it is complete.

    Args:
        path: of the new file; or of a block device (needs `overwrite`), or a store.
        size: virtual size in bytes, a multiple of the logical sector size, at most 64 TiB. A child may leave
            it out: it has its parent's; it can be larger, not smaller.
        kind: "dynamic" unless said otherwise; with a parent always "differencing". A fixed image owns
            space for all of its blocks, which the host may give when they are written.
        block_size: 1, 2, 4, ... 256 MiB, in bytes. None is 32 MiB, for a child 2 MiB.
        logical_sector_size: 512 (None) or 4096 bytes; a child has its parent's.
        physical_sector_size: 512 or 4096 bytes (None), not less than the logical one; None for a child is its
            parent's.
        parent: path of a VHDX, which has to be closed properly and must not change while it has children.
            Reading a child looks for its parent in the child's own directory: with a parent elsewhere, every
            later use has to name it (`--parent`) or allow its directory (`--parent-root`).
        overwrite: replace an existing file, or the content of a device.
        preallocate: take all space of a fixed image from the host at once.

    Raises: RequestError for arguments that are wrong or do not go together, before anything is written;
    FileExistsError; LogReplayRequiredError if the parent was not closed properly; FormatError for a damaged parent;
    ImageLockedError if another process writes to it; OSError. After any exception there is no new file.
    [MS-VHDX] 2.1, 2.6.2.
    """
    if parent is not None:
        if kind not in {None, "differencing"}:
            raise RequestError(f"an image with a parent is differencing, it cannot be {kind}")
        # The reader's lock on the parent is held until the child is complete.
        with Image.open(os.fspath(parent)) as opened:
            refuse_same_file(path, [opened.file_store])
            parameters = _child_parameters(
                opened, size, block_size, logical_sector_size, physical_sector_size
            )
            locator = locator_for(_name_of(path), os.fspath(parent), identity_of(opened))
            _write(path, parameters, locator, _inherited_items(opened), overwrite=overwrite)
        return
    if kind == "differencing":
        raise RequestError("a differencing image needs a parent")
    if size is None:
        raise RequestError("a disk without a parent needs a size")
    parameters = disk_parameters(
        size,
        kind=kind or "dynamic",
        block_size=block_size,
        logical_sector_size=logical_sector_size,
        physical_sector_size=physical_sector_size,
    )
    _write(path, parameters, None, (), overwrite=overwrite, preallocate=preallocate)


def identity_of(parent: Image) -> UUID:
    """The id by which a child recognises this image as its parent: its DataWriteGuid ([MS-VHDX] 2.2.2, 2.6.2.6.3).

    Raises: LogReplayRequiredError if it is dirty, RequestError if it has no identity.
    """
    if parent.is_dirty:
        raise LogReplayRequiredError(
            f"{parent.name}: was not closed properly, so it cannot become a parent; convert it, or"
            " open it for writing and write to it, to apply its log"
        )
    guid = parent.header.data_write_guid
    if guid == ZERO_GUID:
        raise RequestError(
            f"{parent.name}: its DataWriteGuid is zero, so that no child could recognise it; write to it once"
        )
    return guid


def locator_for(child_path: str, parent_path: str, linkage: UUID) -> ParentLocator:
    r"""Make the locator of a child that lies, or is to lie, at `child_path` ([MS-VHDX] 2.6.2.6.3).

    The relative path has the form `.\parent.vhdx` or `..\directory\parent.vhdx`; an absolute one is only
    given on Windows. Raises: RequestError if no path can be spelled.
    """
    parent = os.path.realpath(parent_path)
    directory = os.path.realpath(os.path.join(child_path, os.pardir))  # noqa: PTH118 - realpath follows links
    paths: dict[str, str] = {}
    try:
        relative = os.path.relpath(parent, directory)
    except ValueError:  # Windows: the two lie on different drives
        relative = ""
    if os.sep != "\\" and "\\" in relative:
        raise RequestError(f"{parent}: a parent locator cannot spell a name with a backslash")
    if relative:
        spelled = relative.replace(os.sep, "\\")
        paths["relative_path"] = spelled if spelled.startswith("..\\") else f".\\{spelled}"
    if os.name == "nt":
        paths["absolute_win32_path"] = parent if parent.startswith("\\\\?\\") else f"\\\\?\\{parent}"
    if any(len(path.encode("utf-16-le", "surrogatepass")) > _MAX_VALUE_LENGTH for path in paths.values()):
        raise RequestError(f"{parent}: the path is too long for a parent locator")
    return ParentLocator(linkage, paths=paths)


def _name_of(path: StorePath | ByteStore) -> str:
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else path.name


def _child_parameters(
    parent: Image, size: int | None, block_size: int | None, logical: int | None, physical: int | None
) -> DiskParameters:
    """The parent's parameters with what the child has of its own."""
    inherited = parent.parameters
    if size is not None and size < inherited.virtual_size:
        raise RequestError(
            f"a child of {size} bytes would hide the end of its parent, which has {inherited.virtual_size}"
        )
    if logical is not None and logical != inherited.logical_sector_size:
        raise RequestError(
            f"the parent has logical sectors of {inherited.logical_sector_size} bytes, and so must its child"
        )
    parameters = replace(
        inherited,
        block_size=DEFAULT_CHILD_BLOCK_SIZE if block_size is None else block_size,
        leave_block_allocated=False,
        has_parent=True,
        virtual_size=inherited.virtual_size if size is None else size,
        physical_sector_size=inherited.physical_sector_size if physical is None else physical,
    )
    check_parameters(parameters)
    return parameters


def _inherited_items(parent: Image) -> tuple[NewItem, ...]:
    """The metadata items that a child takes over: those marked as belonging to the disk ([MS-VHDX] 2.6.1.2)."""
    return tuple(
        NewItem(entry.item_id, entry.flags, parent.read_metadata_item(entry))
        for entry in parent.metadata_entries
        if entry.is_virtual_disk and (entry.is_user or entry.item_id not in ALWAYS_NEEDED)
    )


def _write(
    path: StorePath | ByteStore,
    parameters: DiskParameters,
    locator: ParentLocator | None,
    items: tuple[NewItem, ...],
    *,
    overwrite: bool,
    preallocate: bool = False,
) -> None:
    with open_destination(path, overwrite=overwrite) as (store, capacity):
        writer = ImageWriter(store, parameters, locator=locator, items=items, capacity=capacity)
        if preallocate:
            writer.preallocate()
        if parameters.is_fixed and not writer.is_blank:
            start = writer.layout.payload_offset
            store.write_zeroes(writer.file_size - start, start)
        writer.finish()
