"""Write to a disk that must not change: what is written goes to a child that is thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from vhdx.disks.chain import Disk
from vhdx.disks.image import Image
from vhdx.disks.options import OpenOptions
from vhdx.engine.new_image import ImageWriter
from vhdx.errors import RequestError
from vhdx.format.constants import SECTOR_SIZES
from vhdx.format.new_disk import disk_parameters
from vhdx.format.parent_locator import ParentLocator
from vhdx.storage.source import Owned
from vhdx.storage.throw_away import ThrowAwayStore

if TYPE_CHECKING:
    from vhdx.disks.layered_device import LayeredDevice
    from vhdx.format.metadata import DiskParameters

_NO_PATH: Final = {"relative_path": ".\\none"}
"""A locator needs a path; nobody looks for this child's parent."""


def open_snapshot(base: LayeredDevice, directory: str | None = None) -> Disk:
    """Give a disk that can be written to and shows `base`, open for reading, wherever it was not written to.

    The disk has the base's size and sectors. What is written goes to a file without a name in `directory`
    (None: where the system keeps temporary files), and is gone when the disk is closed or the process ends:
    `flush` makes nothing durable. When the directory is full, writes raise OSError (ENOSPC), with nothing
    lost.

    The base is taken over: it is closed with the disk, and must not be used by itself any more. After an
    exception it is still the caller's.

    Raises: RequestError for a base that is open for writing, or for a raw one whose size no VHDX can have (it
    must be a multiple of 512 bytes, and not zero); OSError.
    """
    if base.limits.writable:
        raise RequestError(f"{base.name}: a snapshot needs a disk that is open for reading")
    store = ThrowAwayStore.make(directory)
    try:
        ImageWriter(store, _parameters(base), locator=ParentLocator(uuid4(), paths=_NO_PATH)).finish()
    except BaseException:
        store.close()
        raise
    return Disk((Image.open_with(Owned(store), OpenOptions(mode="r+")),), base)


def _parameters(base: LayeredDevice) -> DiskParameters:
    logical, physical = base.limits.minimum_io_size, base.limits.preferred_io_size
    return disk_parameters(
        base.size,
        kind="differencing",
        logical_sector_size=logical if logical in SECTOR_SIZES else None,
        physical_sector_size=physical if physical in SECTOR_SIZES else None,
        disk_id=base.disk_id,
    )
