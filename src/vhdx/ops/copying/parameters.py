"""The parameters of the VHDX that a disk is copied into: those asked for, else those of the disk."""

from uuid import UUID

from vhdx._units import align_up
from vhdx.blockdev.device import Limits
from vhdx.format.constants import SECTOR_SIZES
from vhdx.format.metadata import DiskParameters
from vhdx.format.new_disk import disk_parameters


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
