"""The writer of a new image: every byte is written once, in its final place, so that nothing needs the log.

Blocks are written as the caller asks for them; `finish` writes the rest, and the file type identifier last of
all. Until then the file is not taken for an image, whatever interrupts the writing.
"""

import errno
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import uuid4

from vhdx._units import KIB, align_up
from vhdx._version import __version__
from vhdx.errors import RequestError
from vhdx.format.bat import PayloadState, make_entry
from vhdx.format.constants import (
    BAT_ENTRY_SIZE,
    HEADER_FILE_OFFSETS,
    HEADER_SECTION_SIZE,
    REGION_TABLE_FILE_OFFSETS,
    STRUCTURE_ALIGNMENT,
)
from vhdx.format.file_identifier import FileIdentifier
from vhdx.format.guids import BAT_REGION, METADATA_REGION, ZERO_GUID
from vhdx.format.header import SUPPORTED_LOG_VERSION, SUPPORTED_VERSION, Header
from vhdx.format.layout import LOG_FILE_OFFSET, LOG_LENGTH, METADATA_FILE_OFFSET, ImageLayout
from vhdx.format.metadata import DiskParameters
from vhdx.format.new_disk import NewItem, encode_metadata
from vhdx.format.parent_locator import ParentLocator
from vhdx.format.region_table import Region, RegionTable
from vhdx.storage.base import ByteStore
from vhdx.storage.zeroes import reserve_space

_FIRST_SEQUENCE_NUMBER: Final = 1


class ImageWriter:
    """Writes a new image into a store: blocks as they come, everything else at the end.

        writer = ImageWriter(store, parameters)
        store.pwrite(content, writer.place_block(0))
        writer.finish()

    `place_block` may be called from several threads, in any order of blocks, once for each block; file space
    is handed out in ascending order. Blocks that are never asked for stay not present (state 0), except in a
    fixed image, which owns all of its blocks. Of the BAT a few pages are in memory at a time; pages without
    an entry are never written, and remain holes of the file.

    Attributes: `parameters`, `geometry`, `layout`, `is_blank`: whether new file space reads as zeroes, so
    that zeroes need not be written; if not, whoever asks for a block has to write all of it.
    """

    def __init__(
        self,
        store: ByteStore,
        parameters: DiskParameters,
        *,
        locator: ParentLocator | None = None,
        items: Sequence[NewItem] = (),
        capacity: int | None = None,
    ) -> None:
        """Begin an image in an empty store, or in one of fixed length and unknown content.

        `parameters` are those of `disk_parameters`, or others that `check_parameters` lets pass.
        `capacity` is the length in bytes of a store of fixed length (a block device), None for an empty store.
        `items` are metadata items beside the known ones. Raises: RequestError, OSError.
        """
        if parameters.has_parent != (locator is not None):
            raise RequestError("a differencing image needs a parent locator, and no other image has one")
        self._store = store
        self.parameters = parameters
        self.geometry = parameters.geometry
        self._metadata = encode_metadata(parameters, locator, items)
        self.layout = ImageLayout(self.geometry, align_up(len(self._metadata), STRUCTURE_ALIGNMENT))
        self.is_blank = capacity is None
        self._capacity = capacity
        self._placed = self.geometry.block_count if parameters.is_fixed else 0
        self._bat = _BatPages(store, self.layout.bat_offset)
        self._lock = threading.Lock()
        self._prepare()

    def _prepare(self) -> None:
        if self._capacity is None:
            return
        if self.file_size > self._capacity:
            raise RequestError(
                f"{self._store.name}: {self._capacity} bytes are too few, the image needs {self.file_size}"
            )
        # The identifier of a former image is wiped first, and durably: from then on nobody takes what is left
        # of that image for a whole one.
        self._store.write_zeroes(HEADER_SECTION_SIZE, 0)
        self._store.flush()
        self._store.write_zeroes(self.layout.payload_offset - HEADER_SECTION_SIZE, HEADER_SECTION_SIZE)

    @property
    def file_size(self) -> int:
        """Length in bytes of the image with the blocks placed so far."""
        return self.layout.file_size(self._placed)

    def place_block(self, block: int) -> int:
        """Make a payload block fully present; return the file offset of its space, `block_size` bytes long.

        Raises: RequestError, OSError (ENOSPC if a device is full).
        """
        if not 0 <= block < self.geometry.block_count:
            raise RequestError(f"the disk has no block {block}")
        if self.parameters.is_fixed:
            return self.layout.file_size(block)
        with self._lock:
            file_offset = self.file_size
            end = file_offset + self.geometry.block_size
            if self._capacity is not None and end > self._capacity:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._store.name)
            entry = make_entry(PayloadState.FULLY_PRESENT, file_offset)
            if not self._bat.put(self.geometry.entry_of_block(block), entry):
                raise RequestError(f"block {block} has already been placed")
            self._placed += 1
        return file_offset

    def preallocate(self) -> None:
        """Take host space for the image as it stands; see `reserve_space`. Raises: OSError (ENOSPC)."""
        if self._capacity is None:
            reserve_space(self._store, self.file_size)

    def finish(self) -> None:
        """Write what makes it an image, the identifier last, and flush it. Raises: OSError."""
        if self.parameters.is_fixed:
            self._write_fixed_bat()
        self._bat.write_back()
        if self._capacity is None:
            self._store.truncate(self.file_size)
        self._store.pwrite(self._metadata, METADATA_FILE_OFFSET)
        self._write_region_tables()
        self._write_headers()
        self._store.flush()
        self._store.pwrite(FileIdentifier(f"vhdx {__version__}").encode(), 0)
        self._store.flush()

    def _write_region_tables(self) -> None:
        layout = self.layout
        bat = Region(BAT_REGION, layout.bat_offset, layout.bat_length)
        metadata = Region(METADATA_REGION, METADATA_FILE_OFFSET, layout.metadata_length)
        table = RegionTable((bat, metadata)).encode()
        for file_offset in REGION_TABLE_FILE_OFFSETS:
            self._store.pwrite(table, file_offset)

    def _write_headers(self) -> None:
        header = Header(
            sequence_number=_FIRST_SEQUENCE_NUMBER,
            file_write_guid=uuid4(),
            data_write_guid=uuid4(),
            log_guid=ZERO_GUID,
            log_version=SUPPORTED_LOG_VERSION,
            version=SUPPORTED_VERSION,
            log_length=LOG_LENGTH,
            log_offset=LOG_FILE_OFFSET,
        )
        for index, file_offset in enumerate(HEADER_FILE_OFFSETS):
            numbered = replace(header, sequence_number=header.sequence_number + index)
            self._store.pwrite(numbered.encode(), file_offset)

    def _write_fixed_bat(self) -> None:
        """Write all entries of a fixed image: chunk by chunk, as the bitmap entry between two chunks stays zero."""
        geometry, ratio = self.geometry, self.geometry.chunk_ratio
        for first in range(0, geometry.block_count, ratio):
            count = min(ratio, geometry.block_count - first)
            start = make_entry(PayloadState.FULLY_PRESENT, self.layout.file_size(first))
            entries = range(start, start + count * geometry.block_size, geometry.block_size)
            position = self.layout.bat_offset + geometry.entry_of_block(first) * BAT_ENTRY_SIZE
            self._store.pwrite(struct.pack(f"<{count}Q", *entries), position)


@dataclass(slots=True)
class _BatPages:
    """The pages of a new BAT that are being filled; when there are too many, the least recently used is written.

    Two or three threads that fill blocks side by side stay within neighbouring pages. A page that is needed
    again after it was written is read back: blocks may come in any order, but the ascending one is fastest.
    """

    store: ByteStore
    file_offset: int
    pages: OrderedDict[int, bytearray] = field(default_factory=OrderedDict)

    _PAGE_SIZE = 64 * KIB
    _LIMIT = 8

    def put(self, index: int, entry: int) -> bool:
        """Set an entry; false, with nothing changed, if it was set before."""
        number, start = divmod(index * BAT_ENTRY_SIZE, self._PAGE_SIZE)
        page = self.pages.get(number)
        if page is None:
            if len(self.pages) == self._LIMIT:
                self._write(*self.pages.popitem(last=False))
            page = self.pages[number] = bytearray(self._PAGE_SIZE)
            self.store.pread_into(page, self.file_offset + number * self._PAGE_SIZE)
        self.pages.move_to_end(number)
        if any(page[start : start + BAT_ENTRY_SIZE]):
            return False
        struct.pack_into("<Q", page, start, entry)
        return True

    def write_back(self) -> None:
        """Write all pages that are still in memory."""
        while self.pages:
            self._write(*self.pages.popitem(last=False))

    def _write(self, number: int, page: bytearray) -> None:
        self.store.pwrite(page, self.file_offset + number * self._PAGE_SIZE)
