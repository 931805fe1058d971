"""The writer of new images: layout, order of writing, and what it refuses."""

import random
from uuid import UUID

import pytest

from support.units import GIB, KIB, MIB, TIB
from vhdx import Image, NotVhdxError, RequestError, __version__
from vhdx.engine.new_image import ImageWriter
from vhdx.format.bat import PayloadState
from vhdx.format.guids import ZERO_GUID
from vhdx.format.metadata import IS_USER, IS_VIRTUAL_DISK
from vhdx.format.new_disk import NewItem, disk_parameters
from vhdx.format.parent_locator import ParentLocator
from vhdx.ops.check import check
from vhdx.storage.base import pread
from vhdx.storage.memory import MemoryStore


class Journal(MemoryStore):
    """Remembers the order of writes and flushes."""

    def __init__(self, data: bytes = b"") -> None:
        self.events: list[tuple[str, int]] = []
        super().__init__(data)
        self.events.clear()

    def pwrite(self, data: object, file_offset: int) -> None:
        super().pwrite(data, file_offset)  # type: ignore[arg-type]
        self.events.append(("write", file_offset))

    def flush(self) -> None:
        super().flush()
        self.events.append(("flush", 0))


def assert_clean(store: MemoryStore) -> None:
    assert list(check(store).findings()) == []


def written(size: int, *, kind: str = "dynamic", block_size: int = MIB, lss: int = 512) -> MemoryStore:
    store = MemoryStore()
    parameters = disk_parameters(size, kind=kind, block_size=block_size, logical_sector_size=lss)
    ImageWriter(store, parameters).finish()
    return store


def test_structures_lie_where_windows_puts_them() -> None:
    store = written(10 * GIB, block_size=32 * MIB)
    with Image.open(store) as image:
        regions = image.opened.regions
        assert (image.header.log_offset, image.header.log_length) == (MIB, MIB)
        assert (regions.metadata.file_offset, regions.metadata.length) == (2 * MIB, MIB)
        assert (regions.bat.file_offset, regions.bat.length) == (3 * MIB, MIB)
        assert regions.bat.required
        assert regions.metadata.required
    assert store.size() == 4 * MIB


def test_metadata_is_byte_for_byte_as_in_the_worked_example() -> None:
    store = MemoryStore()
    disk_id = UUID("a0a1a2a3-b0b1-c0c1-d0d1-e0e1e2e3e4e5")
    ImageWriter(store, disk_parameters(8 * MIB, block_size=2 * MIB, disk_id=disk_id)).finish()
    items = "0000200000000000 0000800000000000 00020000 00100000 A3A2A1A0B1B0C1C0D0D1E0E1E2E3E4E5"
    assert pread(store, 40, 2 * MIB + 64 * KIB) == bytes.fromhex(items)
    assert pread(store, 12, 2 * MIB) == b"metadata\0\0\x05\0"


def test_headers_differ_in_sequence_and_checksum_only() -> None:
    store = written(8 * MIB)
    first, second = (bytearray(pread(store, 4096, offset)) for offset in (64 * KIB, 128 * KIB))
    assert int.from_bytes(second[8:16], "little") == int.from_bytes(first[8:16], "little") + 1
    for header in (first, second):
        header[4:16] = bytes(12)
    assert first == second
    with Image.open(store) as image:
        assert image.header.log_guid == ZERO_GUID
        assert ZERO_GUID not in (image.header.file_write_guid, image.header.data_write_guid)
        assert image.header.file_write_guid != image.header.data_write_guid


def test_both_region_tables_are_equal() -> None:
    store = written(8 * MIB)
    assert pread(store, 64 * KIB, 192 * KIB) == pread(store, 64 * KIB, 256 * KIB)


@pytest.mark.parametrize("lss", [512, 4096])
@pytest.mark.parametrize("block_size", [1 << shift for shift in range(20, 29)])
@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_every_block_size_and_sector_size_is_sound(kind: str, block_size: int, lss: int) -> None:
    store = written(3 * block_size + 4096, kind=kind, block_size=block_size, lss=lss)
    assert_clean(store)
    with Image.open(store, strict=True) as image:
        assert image.kind == kind
        assert image.size == 3 * block_size + 4096
        assert image.pread(4096, 3 * block_size) == bytes(4096)


def test_fixed_image_owns_every_block_across_chunks() -> None:
    # 16 blocks of 256 MiB make a chunk, so that unused bitmap entries come in between.
    store = written(40 * 256 * MIB, kind="fixed", block_size=256 * MIB)
    with Image.open(store) as image:
        entries = [image.bat.payload_entry(block) for block in range(40)]
        start = image.opened.regions.bat.end
    state = PayloadState.FULLY_PRESENT
    assert entries == [start + block * 256 * MIB | state for block in range(40)]
    assert store.size() == start + 40 * 256 * MIB
    assert_clean(store)


def test_blocks_may_be_placed_in_any_order() -> None:
    store = MemoryStore()
    parameters = disk_parameters(TIB, block_size=MIB)
    writer = ImageWriter(store, parameters)
    blocks = random.Random(1).sample(range(TIB // MIB), 500)  # over more BAT pages than are kept
    places = {block: writer.place_block(block) for block in blocks}
    writer.finish()
    with Image.open(store) as image:
        for block, place in places.items():
            assert image.bat.payload_entry(block) == place | PayloadState.FULLY_PRESENT
        assert sum(extent.data for extent in image.extents()) > 400
    assert sorted(places.values()) == list(places.values())
    assert_clean(store)


def test_block_is_placed_once() -> None:
    writer = ImageWriter(MemoryStore(), disk_parameters(8 * MIB, block_size=MIB))
    writer.place_block(3)
    with pytest.raises(RequestError, match="block 3 has already been placed"):
        writer.place_block(3)
    with pytest.raises(RequestError, match="no block 8"):
        writer.place_block(8)
    assert writer.file_size == 5 * MIB


def test_unfinished_image_is_no_image() -> None:
    store = MemoryStore()
    writer = ImageWriter(store, disk_parameters(4 * MIB, block_size=MIB))
    store.pwrite(b"content", writer.place_block(0))
    with pytest.raises(NotVhdxError):
        Image.open(store)
    writer.finish()
    with Image.open(store) as image:
        assert image.pread(7, 0) == b"content"


def test_identifier_is_written_last_after_a_flush() -> None:
    store = Journal()
    writer = ImageWriter(store, disk_parameters(4 * MIB, block_size=MIB))
    writer.place_block(0)
    writer.finish()
    assert store.events[-3:] == [("flush", 0), ("write", 0), ("flush", 0)]
    assert ("write", 0) not in store.events[:-3]


def test_old_content_of_a_device_is_wiped_before_anything_else() -> None:
    old = written(4 * MIB)
    store = Journal(pread(old, old.size(), 0) + b"\xee" * (8 * MIB))
    writer = ImageWriter(store, disk_parameters(4 * MIB, block_size=MIB), capacity=store.size())
    assert pread(store, 8, 0) == bytes(8)
    assert not writer.is_blank
    place = writer.place_block(2)
    store.pwrite(b"\x11" * MIB, place)
    writer.finish()
    assert store.size() == 12 * MIB
    with Image.open(store) as image:
        assert image.pread(MIB, 2 * MIB) == b"\x11" * MIB
        assert image.pread(MIB, 0) == bytes(MIB)
    assert_clean(store)


def test_device_that_is_too_small_is_refused_untouched() -> None:
    store = Journal(b"\xee" * (4 * MIB))
    with pytest.raises(RequestError, match="too few"):
        ImageWriter(store, disk_parameters(4 * MIB, kind="fixed", block_size=MIB), capacity=4 * MIB)
    assert pread(store, 4 * MIB, 0) == b"\xee" * (4 * MIB)


def test_full_device_says_so_and_keeps_the_block_free() -> None:
    store = MemoryStore(bytes(5 * MIB))
    writer = ImageWriter(store, disk_parameters(4 * MIB, block_size=MIB), capacity=5 * MIB)
    writer.place_block(0)
    with pytest.raises(OSError, match="No space left"):
        writer.place_block(1)
    assert writer.file_size == 5 * MIB


def test_untouched_parts_of_a_huge_bat_take_no_space() -> None:
    store = MemoryStore()
    writer = ImageWriter(store, disk_parameters(64 * TIB, block_size=MIB))
    for block in range(0, 64 * TIB // MIB, 8 * 1024 * 1024):
        writer.place_block(block)
    writer.finish()
    held = sum(extent.length for extent in store.extents(0, store.size()) if extent.kind.value == "data")
    assert writer.layout.bat_length == 513 * MIB
    assert held < 2 * MIB
    assert_clean(store)


def test_items_of_a_user_are_kept_whatever_their_size() -> None:
    store = MemoryStore()
    items = [
        NewItem(UUID(int=number + 1), IS_USER | IS_VIRTUAL_DISK, bytes([number + 1]) * length)
        for number, length in enumerate((0, 1, MIB, MIB))
    ]
    ImageWriter(store, disk_parameters(4 * MIB, block_size=MIB), items=items).finish()
    assert_clean(store)
    with Image.open(store) as image:
        found = {entry.item_id: image.read_metadata_item(entry) for entry in image.metadata_entries}
        assert [found[item.item_id] for item in items] == [item.content for item in items]
        assert image.opened.regions.bat.file_offset == 2 * MIB + 3 * MIB


def test_locator_and_kind_belong_together() -> None:
    with pytest.raises(RequestError, match="locator"):
        ImageWriter(MemoryStore(), disk_parameters(MIB, kind="differencing"))
    with pytest.raises(RequestError, match="locator"):
        ImageWriter(MemoryStore(), disk_parameters(MIB), locator=ParentLocator(UUID(int=1)))


def test_creator_names_the_program() -> None:
    store = written(MIB)
    assert pread(store, 520, 0)[8:].decode("utf-16-le").rstrip("\0") == f"vhdx {__version__}"


def test_preallocation_writes_where_nothing_can_be_reserved() -> None:
    store = MemoryStore()
    writer = ImageWriter(store, disk_parameters(2 * MIB, kind="fixed", block_size=MIB))
    writer.preallocate()
    writer.finish()
    held = sum(extent.length for extent in store.extents(0, store.size()) if extent.kind.value == "data")
    assert held == store.size() == 6 * MIB
    assert_clean(store)
