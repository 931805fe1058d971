"""What an image that was written must satisfy once it is closed, and how tests look into it."""

from collections.abc import Sequence

import vhdx
from support.units import MIB
from vhdx.findings import Finding
from vhdx.format.constants import HEADER_FILE_OFFSETS
from vhdx.format.header import HEADER_SIZE, Header
from vhdx.ops.check import check
from vhdx.report import Report
from vhdx.rules import Severity
from vhdx.storage.base import ByteStore, StoreKind, pread, pread_zero_extended
from vhdx.testing.crash import Content
from vhdx.testing.crash.pages import PAGE_SIZE
from vhdx.testing.image import QuickDisk, QuickImage
from vhdx.testing.stores import PassingStore

PIECE = MIB


def faults(store: ByteStore) -> list[Finding]:
    """Errors and leaks that a check finds."""
    return [
        finding for finding in check(store).findings() if finding.severity in (Severity.ERROR, Severity.LEAK)
    ]


def file_bytes(store: ByteStore) -> dict[int, bytes]:
    """What a file holds, to compare: pieces that are not zero by their file offset, and the size as -1."""
    size = store.size()
    found = {-1: size.to_bytes(8, "little")}
    for extent in store.extents(0, size):
        if extent.kind is not StoreKind.HOLE:
            for at in range(extent.file_offset, extent.file_offset + extent.length, 65536):
                length = min(65536, extent.file_offset + extent.length - at)
                piece = pread_zero_extended(store, length, at)
                if piece.count(0) != length:
                    found[at] = piece
    return found


def current_header(store: ByteStore) -> Header:
    """The header with the larger sequence number."""
    return max(headers(store), key=lambda header: header.sequence_number)


def headers(store: ByteStore) -> list[Header]:
    """The headers that are valid."""
    found = (
        Header.decode(pread(store, HEADER_SIZE, offset), "header", offset, Report().breach)
        for offset in HEADER_FILE_OFFSETS
    )
    return [header for header in found if header is not None]


def structures(store: ByteStore) -> QuickImage:
    """The file as the reference reader sees it now."""
    return QuickImage(PassingStore(store))


def block_entry(store: ByteStore, block: int) -> tuple[int, int]:
    """State and file offset of a payload block's entry, as the reference reader sees it."""
    image = structures(store)
    return image.entry(block + block // image.ratio)


def bits_of(store: ByteStore, block: int) -> set[int]:
    """Sectors of a block whose bits are set in the sector bitmap."""
    image = structures(store)
    per_block = image.block_size // image.sector_size
    first = block * per_block
    return {sector for sector in range(per_block) if image.sector_bit(first + sector)}


def chain_bytes(stores: Sequence[ByteStore], offset: int, length: int) -> bytes:
    """Content of a chain, leaf first, as the reference reader has it."""
    # The reader remembers what it read of a store; a new object in front of the store makes it read anew.
    return QuickDisk([PassingStore(store) for store in stores]).read(offset, length)


def assert_holds(disk: vhdx.Disk, model: Content) -> None:
    """Extents cover the disk and tell the truth, and every byte is the model's."""
    position = 0
    for extent in disk.extents():
        assert extent.offset == position
        position += extent.length
        if extent.zero:
            assert not _has_data(model, extent.offset, position), f"{extent} hides data"
            continue
        for at in range(extent.offset, position, PIECE):
            length = min(PIECE, position - at)
            file_offset = (extent.file_offset or 0) + at - extent.offset
            if model.numbers(at, at + length) or not _is_hole(
                disk.images[extent.depth].store, file_offset, length
            ):
                assert disk.pread(length, at) == model.read(length, at), f"differs in {length} bytes at {at}"
    assert position == disk.size


def _has_data(model: Content, start: int, end: int) -> bool:
    for number in model.numbers(start, end):
        low, high = max(start, number * PAGE_SIZE), min(end, (number + 1) * PAGE_SIZE)
        if model.read(high - low, low).count(0) != high - low:
            return True
    return False


def _is_hole(store: ByteStore, file_offset: int, length: int) -> bool:
    return all(extent.kind is StoreKind.HOLE for extent in store.extents(file_offset, length))


def assert_sound(stores: Sequence[ByteStore], model: Content) -> None:
    """A chain that is closed has no fault, an empty log, and the model's content."""
    assert faults(stores[0]) == []
    with vhdx.open(stores[0], parents=list(stores[1:])) as disk:
        assert not disk.is_dirty
        assert_holds(disk, model)
