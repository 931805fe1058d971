"""A sound image as a description that can be changed in any way before it becomes bytes.

    image = ImageBuilder(virtual_size=8 * MIB, block_size=MIB)
    image.add_block(1, b"content")
    image.each_header(version=2)              # a wound is one line
    store = image.build_store()               # or build() -> bytes, or write(path)

The description names structures, not bytes: headers, region tables, metadata items, BAT entries by index,
sector bitmaps, log entries, and content by file offset. Checksums are made right when it is rendered, unless
a structure says `bad_checksum=True`. Nothing is allocated for holes, so an image of 64 TiB costs no more
than what is put into it. Everything is deterministic: the GUIDs are derived from `name`. A differencing image
that is not made by `child_of` is a child of the image whose name is "parent".
"""

import copy
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from vhdx._units import GIB, MIB, align_up
from vhdx.format.bat import PayloadState, make_entry
from vhdx.format.log import LogChange
from vhdx.format.sector_bitmap import set_bits
from vhdx.storage.base import StoreKind, pread_zero_extended
from vhdx.storage.memory import MemoryStore
from vhdx.testing.image.description import ImageDescription, sound_locator
from vhdx.testing.image.layout import render
from vhdx.testing.image.log_entries import LOG_GUID, LogEntryFields, log_run


class ImageBuilder(ImageDescription):
    """A description of an image with the verbs that change it; see the module."""

    @classmethod
    def child_of(
        cls,
        parent: "ImageBuilder",
        *,
        virtual_size: int | None = None,
        block_size: int | None = None,
        name: str | None = None,
        paths: Mapping[str, str] | None = None,
    ) -> "ImageBuilder":
        """Describe a sound, empty child of a parent; `paths` replace the locator's path keys."""
        child = cls(
            parent.geometry.virtual_size if virtual_size is None else virtual_size,
            parent.geometry.block_size if block_size is None else block_size,
            logical_sector_size=parent.geometry.logical_sector_size,
            kind="differencing",
            name=name or f"child of {parent.name}",
            disk_id=parent.disk_id,
        )
        child.locator = sound_locator(
            parent.linkage, {"relative_path": f".\\{parent.name}.vhdx"} if paths is None else paths
        )
        return child

    def copy(self) -> "ImageBuilder":
        """An independent description that is equal to this one."""
        return copy.deepcopy(self)

    # Blocks

    def set_block(self, block: int, state: int, file_offset: int = 0, *, reserved: int = 0) -> None:
        """Set a payload block's BAT entry; `reserved` are its bits 3 to 19."""
        self.bat[self.geometry.entry_of_block(block)] = make_entry(state, file_offset) | reserved << 3

    def set_bitmap_entry(self, chunk: int, state: int, file_offset: int = 0) -> None:
        """Set a chunk's sector bitmap entry in the BAT."""
        self.bat[self.geometry.entry_of_bitmap(chunk)] = make_entry(state, file_offset)

    def add_block(
        self,
        block: int,
        data: bytes = b"",
        *,
        state: int = PayloadState.FULLY_PRESENT,
        file_offset: int | None = None,
    ) -> int:
        """Give a payload block file space, content and a state; return its file offset.

        A `file_offset` is taken as it is, and the file made long enough for it.
        """
        offset = self.place(self.geometry.block_size, file_offset)
        self.set_block(block, state, offset)
        if data:
            self.content.append((offset, data))
        return offset

    def add_bitmap(self, chunk: int, *, file_offset: int | None = None) -> bytearray:
        """Give a chunk a sector bitmap block, all clear, unless it has one; return its bits."""
        if chunk not in self.bitmaps:
            offset = self.place(MIB, file_offset)
            self.set_bitmap_entry(chunk, PayloadState.FULLY_PRESENT, offset)
            self.bitmaps[chunk] = (offset, bytearray(MIB))
        return self.bitmaps[chunk][1]

    def add_partial_block(
        self, block: int, sectors: Mapping[int, bytes], *, file_offset: int | None = None
    ) -> int:
        """Make a block partially present; `sectors` are those of the block that this file holds."""
        chunk, in_chunk = divmod(block, self.geometry.chunk_ratio)
        offset = self.add_block(block, state=PayloadState.PARTIALLY_PRESENT, file_offset=file_offset)
        bits = self.add_bitmap(chunk)
        sector_size = self.geometry.logical_sector_size
        for sector, data in sectors.items():
            set_bits(bits, in_chunk * self.geometry.sectors_per_block + sector, 1)
            self.content.append((offset + sector * sector_size, data.ljust(sector_size, b"\0")))
        return offset

    # Log

    def log_run(self, *groups: Sequence[LogChange], **options: Any) -> list[LogEntryFields]:
        """Put adjacent entries into the log, one for each group; options are `log_entries.log_run`'s."""
        entries = log_run(groups, self.log_length, **options)
        self.log_entries += entries
        return entries

    def dirty_log(
        self, *groups: Sequence[LogChange], log_guid: UUID = LOG_GUID, **options: Any
    ) -> list[LogEntryFields]:
        """Likewise, and make the headers name the log as in use. Change the returned entries for wounds."""
        self.each_header(log_guid=log_guid)
        return self.log_run(*groups, log_guid=log_guid, **options)

    def change(self, file_offset: int, data: bytes) -> list[LogChange]:
        """Changes of whole 4-KiB sectors that put `data` into the file as described up to now."""
        start = file_offset // 4096 * 4096
        end = align_up(file_offset + len(data), 4096)
        sectors = bytearray(pread_zero_extended(self.build_store(), end - start, start))
        sectors[file_offset - start : file_offset - start + len(data)] = data
        return [LogChange(start + at, bytes(sectors[at : at + 4096])) for at in range(0, len(sectors), 4096)]

    def bat_change(self, index: int, entry: int) -> list[LogChange]:
        """The change of the BAT sector that gives one entry another value."""
        return self.change(self.bat_offset + 8 * index, struct.pack("<Q", entry))

    # Result

    def patch(self, file_offset: int, data: bytes, *, reseal: bool = True) -> None:
        """Replace bytes of the finished file; `reseal` makes the checksums around them right again."""
        self.patches.append((file_offset, data, reseal))

    def build_store(self) -> MemoryStore:
        """Make the file, in memory and sparse."""
        return render(self)

    def build(self) -> bytes:
        """Make the file as bytes. Raises: ValueError if that would take more than 1 GiB."""
        if self.length() > GIB:
            raise ValueError("too long for one bytes object; use build_store")
        return pread_zero_extended(self.build_store(), self.length(), 0)

    def write(self, path: Path) -> Path:
        """Make the file on disk, sparse where the file system can; return the path."""
        store = self.build_store()
        with path.open("wb") as file:
            for extent in store.extents(0, store.size()):
                if extent.kind is StoreKind.DATA:
                    file.seek(extent.file_offset)
                    file.write(pread_zero_extended(store, extent.length, extent.file_offset))
            file.truncate(store.size())
        return path
