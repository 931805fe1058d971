"""What a new disk is like: its parameters, their defaults, and the metadata that records them ([MS-VHDX] 2.6).

The limits that hold for every image stand in `DiskParameters.broken_limits`. Here each of them gets the words
for a caller who asks for a disk, and one limit is added that only new disks have to keep.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

from vhdx._units import MIB, TIB
from vhdx.errors import RequestError
from vhdx.format.constants import MAX_VIRTUAL_SIZE
from vhdx.format.guids import PARENT_LOCATOR
from vhdx.format.metadata import (
    KNOWN_ITEMS,
    METADATA_TABLE_SIZE,
    DiskParameters,
    MetadataEntry,
    MetadataTable,
)
from vhdx.format.parent_locator import ParentLocator
from vhdx.rules import RuleCode

DEFAULT_BLOCK_SIZE: Final = 32 * MIB
"""Of dynamic and fixed images, as Windows has it. In bytes."""
DEFAULT_CHILD_BLOCK_SIZE: Final = 2 * MIB
"""Of differencing images: a child takes space for one block with its first write to it, however small."""
DEFAULT_LOGICAL_SECTOR_SIZE: Final = 512
DEFAULT_PHYSICAL_SECTOR_SIZE: Final = 4096

_REFUSALS: Final = {
    RuleCode.BLOCK_SIZE: "block size {0.block_size} is not possible: choose 1, 2, 4, ... 256 MiB",
    RuleCode.LOGICAL_SECTOR_SIZE: (
        "logical sector size {0.logical_sector_size} is not possible: choose 512 or 4096"
    ),
    RuleCode.PHYSICAL_SECTOR_SIZE: (
        "physical sector size {0.physical_sector_size} is not possible: choose 512 or 4096"
    ),
    RuleCode.VIRTUAL_SIZE_ZERO: (
        "a disk of {0.virtual_size} bytes is not possible: the size must be positive"
    ),
    RuleCode.VIRTUAL_SIZE_LIMIT: (
        f"a disk of {{0.virtual_size}} bytes is too large: VHDX ends at {MAX_VIRTUAL_SIZE // TIB} TiB"
    ),
    RuleCode.VIRTUAL_SIZE_ALIGNMENT: (
        "size {0.virtual_size} is not a multiple of the logical sector size, {0.logical_sector_size} bytes"
    ),
}
"""What is said to somebody who asks for a disk that breaks a limit; `{0}` is its DiskParameters."""


def disk_parameters(
    size: int,
    *,
    kind: str = "dynamic",
    block_size: int | None = None,
    logical_sector_size: int | None = None,
    physical_sector_size: int | None = None,
    disk_id: UUID | None = None,
) -> DiskParameters:
    """Put together the parameters of a new disk, with the defaults for what is None. Sizes in bytes.

    `kind` is "dynamic", "fixed" or "differencing". Raises: RequestError ([MS-VHDX] 2.6.2); TypeError for a size
    that is no int.
    """
    for name, value in (
        ("size", size),
        ("block_size", block_size),
        ("logical_sector_size", logical_sector_size),
        ("physical_sector_size", physical_sector_size),
    ):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise TypeError(f"{name} must be an int, in bytes, not {value!r}")
    if kind not in {"dynamic", "fixed", "differencing"}:
        raise RequestError(f"kind {kind!r} is not known: choose dynamic, fixed or differencing")
    has_parent = kind == "differencing"
    logical = DEFAULT_LOGICAL_SECTOR_SIZE if logical_sector_size is None else logical_sector_size
    if physical_sector_size is None:
        physical_sector_size = max(DEFAULT_PHYSICAL_SECTOR_SIZE, logical)
    if block_size is None:
        block_size = DEFAULT_CHILD_BLOCK_SIZE if has_parent else DEFAULT_BLOCK_SIZE
    parameters = DiskParameters(
        block_size=block_size,
        leave_block_allocated=kind == "fixed",
        has_parent=has_parent,
        virtual_size=size,
        disk_id=disk_id or uuid4(),
        logical_sector_size=logical,
        physical_sector_size=physical_sector_size,
    )
    check_parameters(parameters)
    return parameters


def check_parameters(parameters: DiskParameters) -> None:
    """Refuse parameters that no sound image has, or that no new one should have.

    Raises: RequestError.
    """
    broken = next(parameters.broken_limits(), None)
    if broken is not None:
        raise RequestError(_REFUSALS[broken.code].format(parameters))
    logical, physical = parameters.logical_sector_size, parameters.physical_sector_size
    if physical < logical:
        raise RequestError(f"physical sector size {physical} is smaller than the logical one, {logical}")


@dataclass(frozen=True, slots=True)
class NewItem:
    """A metadata item to be written; `flags` as in the metadata table ([MS-VHDX] 2.6.1.2)."""

    item_id: UUID
    flags: int
    content: bytes


def encode_metadata(
    parameters: DiskParameters, locator: ParentLocator | None = None, items: Iterable[NewItem] = ()
) -> bytes:
    """Make what a new metadata region holds: the table, then the items one after the other ([MS-VHDX] 2.6).

    `items` are those beside the known ones.
    """
    known = parameters.encode()
    if locator is not None:
        known[PARENT_LOCATOR] = locator.encode()
    all_items = [
        *(NewItem(item_id, KNOWN_ITEMS[item_id].flags or 0, content) for item_id, content in known.items()),
        *items,
    ]
    entries, heap = [], bytearray()
    for item in all_items:
        # The offset of an item without content is zero ([MS-VHDX] 2.6.1.2).
        offset = METADATA_TABLE_SIZE + len(heap) if item.content else 0
        entries.append(MetadataEntry(item.item_id, offset, len(item.content), item.flags))
        heap += item.content
    return MetadataTable(tuple(entries)).encode() + bytes(heap)
