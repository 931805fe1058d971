"""A disk: a leaf and the parents it needs, as one block device (FORMAT 7)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from vhdx._handles import close_at_exit
from vhdx._text import counted
from vhdx.disks.image import Image
from vhdx.disks.layered_device import LayeredDevice
from vhdx.disks.options import Mode, OpenOptions, ParentPolicy
from vhdx.disks.parents import ParentFinder
from vhdx.errors import ChainCycleError, ParentForbiddenError, ParentNotFoundError

if TYPE_CHECKING:
    from uuid import UUID

    from vhdx.blockdev.device import Limits
    from vhdx.disks.image import Kind
    from vhdx.engine.opening import ReplayMode
    from vhdx.storage.source import Owned, Source

MAX_DEPTH: Final = 256
"""Files in one chain; OpenVMM has the same limit."""


class Disk(LayeredDevice):
    """An image with its parents, of which only the leaf may be open for writing. `images` has the leaf first.

    Where a parent is absent (`parents="none"`), reading what lies in it raises ParentNotFoundError.
    """

    def __init__(self, images: tuple[Image, ...], base: LayeredDevice | None = None) -> None:
        """Use `vhdx.open`. `base` is a disk of any format that lies under all of the images."""
        self.images = images
        self._base = base
        leaf = images[0]
        super().__init__(images if base is None else (*images, *base.layers), leaf.writer)
        self._leaf = leaf

    @property
    def block_size(self) -> int:
        """Payload block size of the leaf in bytes."""
        return self._leaf.block_size

    @property
    def logical_sector_size(self) -> int:
        """Bytes: 512 or 4096."""
        return self._leaf.logical_sector_size

    @property
    def physical_sector_size(self) -> int:
        """Bytes; a hint to the guest."""
        return self._leaf.physical_sector_size

    @property
    def kind(self) -> Kind:
        """Whether the leaf is fixed, dynamic or differencing."""
        return self._leaf.kind

    @property
    def disk_id(self) -> UUID:
        """The disk's identity as the guest sees it (SCSI VPD page 83)."""
        return self._leaf.disk_id

    @property
    def is_dirty(self) -> bool:
        """Whether the leaf's log is in use: by a writer that did not end as it should, or by this one."""
        return self._leaf.is_dirty

    @property
    def is_complete(self) -> bool:
        """Whether every parent is open."""
        return not self.images[-1].parameters.has_parent if self._base is None else self._base.is_complete

    @property
    def limits(self) -> Limits:
        """Abilities and preferred sizes."""
        return self._leaf.limits

    def _close_layers(self) -> None:
        with ExitStack() as stack:
            if self._base is not None:
                stack.callback(self._base.close)
            # The leaf is closed first, and the parents even if that fails.
            for image in reversed(self.images):
                stack.callback(image.close)

    def __repr__(self) -> str:
        files = counted(len(self.images), "file")
        return f"<Disk {self.name} {self.kind} {self.size} bytes, {files}, {self._state}>"


def open_disk(
    source: Source,
    mode: Mode = "r",
    *,
    parents: ParentPolicy = "same-dir",
    replay: ReplayMode = "auto",
    strict: bool = False,
    lock: bool = True,
    no_lock_ok: bool = False,
    ignore_change_tracking: bool = False,
) -> Disk:
    """Open a VHDX and the parents it needs. Only the leaf is ever written to, and only in mode "r+".

    `source` is a path, a binary file object or a ByteStore. `parents` says where parents may be looked for:
    "same-dir" (beside the child), "none" (not at all), a sequence of sources, a ParentRoot, or a function.
    `replay`, `strict` and `lock` are those of `Image.open`, for every file of the chain; the others are for
    the leaf. Parents are opened for reading. A disk that is still open for writing when the program ends is closed.

    Raises: FormatError and its kin, ChainError and its kin, ImageLockedError, LogReplayRequiredError,
    OSError; ValueError for another mode, replay or policy, or for two that do not go together.
    """
    options = OpenOptions(
        mode=mode,
        parents=parents,
        replay=replay,
        strict=strict,
        lock=lock,
        no_lock_ok=no_lock_ok,
        ignore_change_tracking=ignore_change_tracking,
    )
    disk = open_chain(source, options)
    if options.writable:
        close_at_exit(disk)
    return disk


def open_chain(source: Source | Owned, options: OpenOptions) -> Disk:
    """Open a VHDX and the parents it needs. Raises: as `open_disk`."""
    images = [Image.open_with(source, options)]
    try:
        _open_parents(images, options)
    except BaseException:
        for image in images:
            image.close()
        raise
    return Disk(tuple(images))


def _open_parents(images: list[Image], options: OpenOptions) -> None:
    """Add to a leaf every file below it, or every one above the first that is missing."""
    finder = ParentFinder(options)
    while finder.enabled and images[-1].parameters.has_parent:
        _check_depth(images)
        try:
            images.append(finder.find(images[-1], len(images) - 1))
        except (ParentNotFoundError, ParentForbiddenError) as error:
            if options.on_missing_parent is None:
                raise
            options.on_missing_parent(error)
            return
        _check_cycle(images)


def _check_depth(images: list[Image]) -> None:
    if len(images) >= MAX_DEPTH:
        raise ChainCycleError(f"{images[0].name}: the chain has more than {MAX_DEPTH} files")


def _check_cycle(images: list[Image]) -> None:
    newest = images[-1]
    for image in images[:-1]:
        same_file = newest.identity is not None and image.identity == newest.identity
        if same_file or image.file_store is newest.file_store:
            raise ChainCycleError(f"{newest.name}: the file is its own ancestor")
