"""A new image, written in one pass with its final layout ([MS-VHDX] 2.1 to 2.6).

    0        file type identifier, headers, region tables
    1 MiB    log, empty
    2 MiB    metadata
    3 MiB    BAT (later only if user metadata needs more than 1 MiB)
    then     payload blocks, in the order in which they were asked for

This is where Windows puts things. Nothing is written twice, so nothing needs the log. Until `finish` the
first 1 MiB stays empty, and the identifier is the last thing to be written: what is not complete is not taken
for an image.
"""

import errno
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID, uuid4

from vhdx import _host
from vhdx._units import KIB, MIB, TIB, align_up, is_power_of_two
from vhdx.errors import RequestError
from vhdx.format.bat import PayloadState, make_entry
from vhdx.format.constants import (
    BAT_ENTRY_SIZE,
    HEADER_FILE_OFFSETS,
    HEADER_SECTION_SIZE,
    MAX_BLOCK_SIZE,
    MAX_VIRTUAL_SIZE,
    MIN_BLOCK_SIZE,
    REGION_TABLE_FILE_OFFSETS,
    SECTOR_SIZES,
    STRUCTURE_ALIGNMENT,
)
from vhdx.format.file_identifier import FileIdentifier
from vhdx.format.geometry import Geometry
from vhdx.format.guids import BAT_REGION, METADATA_REGION, PARENT_LOCATOR, ZERO_GUID
from vhdx.format.header import SUPPORTED_LOG_VERSION, SUPPORTED_VERSION, Header
from vhdx.format.metadata import (
    KNOWN_ITEMS,
    METADATA_TABLE_SIZE,
    DiskParameters,
    MetadataEntry,
    MetadataTable,
)
from vhdx.format.parent_locator import ParentLocator
from vhdx.format.region_table import Region, RegionTable
from vhdx.storage import libc
from vhdx.storage.base import ByteStore

DEFAULT_BLOCK_SIZE: Final = 32 * MIB
"""Of dynamic and fixed images, as Windows has it. In bytes."""
DEFAULT_CHILD_BLOCK_SIZE: Final = 2 * MIB
"""Of differencing images: a child takes one block for its first write to it, however small."""
DEFAULT_LOGICAL_SECTOR_SIZE: Final = 512
DEFAULT_PHYSICAL_SECTOR_SIZE: Final = 4096

_LOG_LENGTH: Final = MIB
_METADATA_OFFSET: Final = HEADER_SECTION_SIZE + _LOG_LENGTH
_FIRST_SEQUENCE_NUMBER: Final = 1
_ZEROES: Final = bytes(MIB)


@dataclass(frozen=True, slots=True)
class MetadataItem:
    """A metadata item with its content; `flags` as in the metadata table ([MS-VHDX] 2.6.1.2)."""

    item_id: UUID
    flags: int
    content: bytes


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """Where the parts of a new image lie. Bytes of the file."""

    geometry: Geometry
    metadata_length: int = MIB

    @property
    def bat_offset(self) -> int:
        """File offset of the BAT region."""
        return _METADATA_OFFSET + self.metadata_length

    @property
    def bat_length(self) -> int:
        """Length of the BAT region."""
        return align_up(self.geometry.bat_size, STRUCTURE_ALIGNMENT)

    @property
    def payload_offset(self) -> int:
        """File offset of the first payload block, and so the length of an image that has none."""
        return self.bat_offset + self.bat_length

    def file_size(self, block_count: int) -> int:
        """Length of an image that owns this many payload blocks."""
        return self.payload_offset + block_count * self.geometry.block_size


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

    `kind` is "dynamic", "fixed" or "differencing". Raises: RequestError ([MS-VHDX] 2.6.2).
    """
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
    size, block_size = parameters.virtual_size, parameters.block_size
    logical, physical = parameters.logical_sector_size, parameters.physical_sector_size
    for name, value in (("logical", logical), ("physical", physical)):
        if value not in SECTOR_SIZES:
            raise RequestError(f"{name} sector size {value} is not possible: choose 512 or 4096")
    if physical < logical:
        raise RequestError(f"physical sector size {physical} is smaller than the logical one, {logical}")
    if size <= 0:
        raise RequestError(f"a disk of {size} bytes is not possible: the size must be positive")
    if size > MAX_VIRTUAL_SIZE:
        limit = MAX_VIRTUAL_SIZE // TIB
        raise RequestError(f"a disk of {size} bytes is too large: VHDX ends at {limit} TiB")
    if size % logical:
        raise RequestError(f"size {size} is not a multiple of the logical sector size, {logical} bytes")
    if not is_power_of_two(block_size) or not MIN_BLOCK_SIZE <= block_size <= MAX_BLOCK_SIZE:
        raise RequestError(f"block size {block_size} is not possible: choose 1, 2, 4, ... 256 MiB")


class ImageWriter:
    """Writes a new image into a store: blocks as they come, everything else at the end.

        writer = ImageWriter(store, parameters)
        store.pwrite(content, writer.place_block(0))
        writer.finish()

    `place_block` and `mark_zero` may be called from several threads, in any order of blocks, once for each
    block; file space is handed out in ascending order. Blocks that are never named stay not present (state
    0), except in a fixed image, which owns all of its blocks. The BAT passes through a few pages of memory,
    and pages without an entry remain holes.

    Attributes: `parameters`, `geometry`, `layout`, `is_blank`: whether new file space reads as zeroes, so
    that zeroes need not be written; if not, whoever asks for a block has to write all of it.
    """

    def __init__(
        self,
        store: ByteStore,
        parameters: DiskParameters,
        *,
        locator: ParentLocator | None = None,
        items: Sequence[MetadataItem] = (),
        capacity: int | None = None,
        creator: str | None = None,
    ) -> None:
        """Begin an image in an empty store, or in one of fixed length and unknown content.

        `capacity` is the length in bytes of the latter (a block device), None for the former. `items` are
        metadata items beside the known ones. Raises: RequestError, OSError.
        """
        check_parameters(parameters)
        if parameters.has_parent != (locator is not None):
            raise RequestError("a differencing image needs a parent locator, and no other image has one")
        self._store = store
        self.parameters = parameters
        self.geometry = Geometry(
            parameters.virtual_size,
            parameters.block_size,
            parameters.logical_sector_size,
            parameters.has_parent,
        )
        self._metadata = _encode_metadata(parameters, locator, items)
        self.layout = ImageLayout(self.geometry, align_up(len(self._metadata), STRUCTURE_ALIGNMENT))
        self.is_blank = capacity is None
        self._capacity = capacity
        self._creator = _default_creator() if creator is None else creator
        self._is_fixed = parameters.leave_block_allocated and not parameters.has_parent
        self._placed = self.geometry.block_count if self._is_fixed else 0
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
        # Wipes the identifier of what was there, durably before anything else changes.
        self._store.write_zeroes(HEADER_SECTION_SIZE, 0)
        self._store.flush()
        self._store.write_zeroes(self.layout.payload_offset - HEADER_SECTION_SIZE, HEADER_SECTION_SIZE)

    @property
    def file_size(self) -> int:
        """Length in bytes of the image with the blocks placed so far."""
        return self.layout.file_size(self._placed)

    @property
    def is_fixed(self) -> bool:
        """Whether the image owns all of its blocks from the start."""
        return self._is_fixed

    def place_block(self, block: int) -> int:
        """Make a payload block fully present; return the file offset of its space, `block_size` bytes long.

        Raises: RequestError, OSError (ENOSPC if a device is full).
        """
        if not 0 <= block < self.geometry.block_count:
            raise RequestError(f"the disk has no block {block}")
        if self._is_fixed:
            return self.layout.file_size(block)
        with self._lock:
            file_offset = self.file_size
            end = file_offset + self.geometry.block_size
            if self._capacity is not None and end > self._capacity:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._store.name)
            self._set(block, make_entry(PayloadState.FULLY_PRESENT, file_offset))
            self._placed += 1
        return file_offset

    def mark_zero(self, block: int) -> None:
        """Make a payload block read as zeroes without file space, whatever a parent holds there.

        Raises: RequestError, OSError.
        """
        if not 0 <= block < self.geometry.block_count or self._is_fixed:
            raise RequestError(f"block {block} cannot be without file space here")
        with self._lock:
            self._set(block, make_entry(PayloadState.ZERO))

    def _set(self, block: int, entry: int) -> None:
        if not self._bat.put(self.geometry.entry_of_block(block), entry):
            raise RequestError(f"block {block} has already been decided")

    def preallocate(self) -> None:
        """Take host space for the image as it stands; see `reserve_space`. Raises: OSError (ENOSPC)."""
        if self._capacity is None:
            reserve_space(self._store, self.file_size)

    def finish(self) -> None:
        """Write what makes it an image, the identifier last, and flush it. Raises: OSError."""
        store, layout = self._store, self.layout
        if self._is_fixed:
            self._write_fixed_bat()
        self._bat.write_back()
        if self._capacity is None:
            store.truncate(self.file_size)
        store.pwrite(self._metadata, _METADATA_OFFSET)
        table = RegionTable(
            (
                Region(BAT_REGION, layout.bat_offset, layout.bat_length),
                Region(METADATA_REGION, _METADATA_OFFSET, layout.metadata_length),
            )
        ).encode()
        for file_offset in REGION_TABLE_FILE_OFFSETS:
            store.pwrite(table, file_offset)
        header = Header(
            sequence_number=_FIRST_SEQUENCE_NUMBER,
            file_write_guid=uuid4(),
            data_write_guid=uuid4(),
            log_guid=ZERO_GUID,
            log_version=SUPPORTED_LOG_VERSION,
            version=SUPPORTED_VERSION,
            log_length=_LOG_LENGTH,
            log_offset=HEADER_SECTION_SIZE,
        )
        for index, file_offset in enumerate(HEADER_FILE_OFFSETS):
            numbered = replace(header, sequence_number=header.sequence_number + index)
            store.pwrite(numbered.encode(), file_offset)
        store.flush()
        store.pwrite(FileIdentifier(self._creator).encode(), 0)
        store.flush()

    def _write_fixed_bat(self) -> None:
        """All entries of a fixed image: one write for each chunk, its unused bitmap entry left zero."""
        geometry, ratio = self.geometry, self.geometry.chunk_ratio
        for first in range(0, geometry.block_count, ratio):
            count = min(ratio, geometry.block_count - first)
            start = make_entry(PayloadState.FULLY_PRESENT, self.layout.file_size(first))
            entries = range(start, start + count * geometry.block_size, geometry.block_size)
            position = self.layout.bat_offset + geometry.entry_of_block(first) * BAT_ENTRY_SIZE
            self._store.pwrite(struct.pack(f"<{count}Q", *entries), position)


def reserve_space(store: ByteStore, length: int) -> None:
    """Take host space for the first `length` bytes of an empty store, so that writing them finds room.

    Where the system cannot reserve, zeroes are written. Raises: OSError (ENOSPC).
    """
    descriptor = store.fileno()
    if descriptor is not None and _host.HAVE_FALLOCATE:
        try:
            libc.fallocate(descriptor, 0, 0, length)
        except OSError as error:
            if error.errno not in _host.UNSUPPORTED:
                raise OSError(error.errno, error.strerror, store.name) from error
        else:
            return
    with memoryview(_ZEROES) as zeroes:
        for position in range(0, length, len(zeroes)):
            store.pwrite(zeroes[: length - position], position)


def _default_creator() -> str:
    from importlib import metadata  # late: it is slow to import

    try:
        return f"vhdx {metadata.version('vhdx')}"
    except metadata.PackageNotFoundError:  # run from a source tree
        return "vhdx"


def _encode_metadata(
    parameters: DiskParameters, locator: ParentLocator | None, items: Sequence[MetadataItem]
) -> bytes:
    """The metadata region's content: table, then items one after the other ([MS-VHDX] 2.6)."""
    contents = [
        MetadataItem(item_id, KNOWN_ITEMS[item_id].flags or 0, content)
        for item_id, content in parameters.encode().items()
    ]
    if locator is not None:
        flags = KNOWN_ITEMS[PARENT_LOCATOR].flags or 0
        contents.append(MetadataItem(PARENT_LOCATOR, flags, locator.encode()))
    contents += items
    entries, heap = [], bytearray()
    for item in contents:
        # An empty item has no place ([MS-VHDX] 2.6.1.2).
        offset = METADATA_TABLE_SIZE + len(heap) if item.content else 0
        entries.append(MetadataEntry(item.item_id, offset, len(item.content), item.flags))
        heap += item.content
    return MetadataTable(tuple(entries)).encode() + bytes(heap)


@dataclass(slots=True)
class _BatPages:
    """The BAT on its way to the store: the few pages in use, the least recent of which is written back.

    Two or three threads that fill blocks side by side stay within neighbouring pages. A page that is needed
    again after it was written is read back, so that any order is right, if not as fast.
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
