"""The description of an image: its structures as mutable fields, sound to begin with."""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID, uuid5

from vhdx._units import MIB, align_up
from vhdx.format.bat import PayloadState, make_entry
from vhdx.format.file_identifier import FileIdentifier
from vhdx.format.geometry import Geometry
from vhdx.format.guids import BAT_REGION, METADATA_REGION, PARENT_LOCATOR, guid_text
from vhdx.format.metadata import IS_REQUIRED, IS_USER, KNOWN_ITEMS, DiskParameters
from vhdx.testing.image.log_entries import LogEntryFields
from vhdx.testing.image.structures import (
    HeaderFields,
    LocatorFields,
    MetadataFields,
    MetadataItem,
    RegionFields,
    RegionTableFields,
)

Kind = Literal["dynamic", "fixed", "differencing"]

NAMESPACE = UUID("7e57d15c-0000-4000-8000-000000000000")
"""The GUIDs of built images are derived from this and their names."""


def data_write_guid(name: str) -> UUID:
    """The DataWriteGuid of a built image, by its name."""
    return uuid5(NAMESPACE, f"{name} data write")


class ImageDescription:
    """What an image holds. Sizes and offsets in bytes; every attribute may be changed at will."""

    signature: bytes = b"vhdxfile"
    file_length: int | None = None
    """Length of the file; None: up to the end of the last structure."""
    trailing: bytes = b""
    """Bytes after that."""

    def __init__(
        self,
        virtual_size: int = 8 * MIB,
        block_size: int = MIB,
        *,
        logical_sector_size: int = 512,
        physical_sector_size: int = 4096,
        kind: Kind = "dynamic",
        name: str = "disk",
        log_length: int = MIB,
        disk_id: UUID | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.geometry = Geometry(virtual_size, block_size, logical_sector_size, kind == "differencing")
        self.disk_id = disk_id or uuid5(NAMESPACE, f"{name} disk")
        self.creator: str | bytes = "vhdx.testing"
        self.log_offset, self.log_length = MIB, log_length
        self.metadata_offset = self.log_offset + log_length
        self.bat_offset = self.metadata_offset + MIB
        self.bat_length = align_up(self.geometry.bat_size, MIB)
        self.data_offset = self.bat_offset + self.bat_length
        """Where payload and bitmap blocks begin."""
        self._free = self.data_offset
        self._end = self.data_offset
        self.headers = [self._sound_header(1), self._sound_header(2)]
        self.region_tables = [RegionTableFields(self._sound_regions()) for _ in range(2)]
        items = sound_items(self.geometry, physical_sector_size, self.disk_id, kind == "fixed")
        self.metadata = MetadataFields(items)
        self.locator = sound_locator(data_write_guid("parent")) if self.geometry.has_parent else None
        self.bat: dict[int, int] = {}
        """BAT entries by index, as 64-bit numbers; the others are zero."""
        self.bitmaps: dict[int, tuple[int, bytearray]] = {}
        """Sector bitmaps by chunk: file offset and bits, 1 MiB each."""
        self.content: list[tuple[int, bytes]] = []
        """Bytes by file offset, later ones over earlier ones."""
        self.log_entries: list[LogEntryFields] = []
        self.patches: list[tuple[int, bytes, bool]] = []
        if kind == "fixed":
            self._allocate_every_block()

    def _allocate_every_block(self) -> None:
        for block in range(self.geometry.block_count):
            entry = make_entry(PayloadState.FULLY_PRESENT, self.allocate(self.geometry.block_size))
            self.bat[self.geometry.entry_of_block(block)] = entry

    @property
    def linkage(self) -> UUID:
        """The DataWriteGuid by which children know this image."""
        return max(self.headers, key=lambda header: header.sequence_number).data_write_guid

    def each_header(self, **fields: Any) -> None:
        """Set fields of both headers."""
        for header in self.headers:
            _set_fields(header, fields)

    def each_region(self, guid: UUID, **fields: Any) -> None:
        """Set fields of a region in both region tables."""
        for table in self.region_tables:
            for region in table.regions:
                if region.guid == guid:
                    _set_fields(region, fields)
                    break

    def add_region(
        self, guid: UUID, length: int = MIB, *, flags: int = 0, file_offset: int | None = None
    ) -> int:
        """List one more region in both region tables; return its file offset."""
        offset = self.place(length, file_offset)
        for table in self.region_tables:
            table.regions.append(RegionFields(guid, offset, length, flags))
        return offset

    def item(self, item_id: UUID) -> MetadataItem:
        """The first metadata item with this id."""
        return next(item for item in self.metadata.items if item.item_id == item_id)

    def add_item(self, item_id: UUID, data: bytes = b"", *, flags: int = IS_USER) -> MetadataItem:
        """Add a metadata item after the others."""
        item = MetadataItem(item_id, data, flags)
        self.metadata.items.append(item)
        return item

    def drop_item(self, item_id: UUID) -> None:
        """Take out every metadata item with this id."""
        self.metadata.items = [item for item in self.metadata.items if item.item_id != item_id]

    def allocate(self, length: int = MIB) -> int:
        """Take file space, at the next MiB; return its file offset."""
        offset = self._free
        self._free = align_up(offset + length, MIB)
        return offset

    def place(self, length: int, file_offset: int | None) -> int:
        """Take file space where it is asked for, or else where it is free; return its file offset."""
        if file_offset is None:
            return self.allocate(length)
        self._end = max(self._end, file_offset + length)
        return file_offset

    def length(self) -> int:
        """Length of the file in bytes."""
        end = max(self._free, self._end) if self.file_length is None else self.file_length
        return end + len(self.trailing)

    def identifier(self) -> bytes:
        """The file type identifier."""
        if isinstance(self.creator, str):
            return self.signature + FileIdentifier(self.creator).encode()[8:]
        return self.signature + self.creator[:512].ljust(512, b"\0")

    def _sound_header(self, sequence_number: int) -> HeaderFields:
        return HeaderFields(
            sequence_number,
            uuid5(NAMESPACE, f"{self.name} file write"),
            data_write_guid(self.name),
            log_length=self.log_length,
            log_offset=self.log_offset,
        )

    def _sound_regions(self) -> list[RegionFields]:
        return [
            RegionFields(BAT_REGION, self.bat_offset, self.bat_length),
            RegionFields(METADATA_REGION, self.metadata_offset, MIB),
        ]

    def metadata_items(self) -> list[MetadataItem]:
        """The items as they are to be written: those of `metadata`, and the locator if there is one."""
        if self.locator is None:
            return self.metadata.items
        return [*self.metadata.items, MetadataItem(PARENT_LOCATOR, self.locator.encode(), IS_REQUIRED)]


def sound_items(
    geometry: Geometry, physical_sector_size: int, disk_id: UUID, leave_block_allocated: bool
) -> list[MetadataItem]:
    """The five items that every image has."""
    parameters = DiskParameters(
        geometry.block_size,
        leave_block_allocated,
        geometry.has_parent,
        geometry.virtual_size,
        disk_id,
        geometry.logical_sector_size,
        physical_sector_size,
    )
    return [
        MetadataItem(item_id, data, KNOWN_ITEMS[item_id].flags or 0)
        for item_id, data in parameters.encode().items()
    ]


def sound_locator(linkage: UUID, paths: Mapping[str, str] | None = None) -> LocatorFields:
    """A parent locator with a linkage and paths."""
    found = {"relative_path": ".\\parent.vhdx"} if paths is None else paths
    return LocatorFields.of([("parent_linkage", guid_text(linkage)), *found.items()])


def _set_fields(target: object, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if not hasattr(target, name):
            raise AttributeError(name)
        setattr(target, name, value)
