"""Entries of the BAT and bits of the sector bitmaps: what changes, and above all what stays as it was."""

import pytest

import vhdx
from support.units import GIB, MIB
from support.written_images import bits_of, block_entry, chain_bytes, faults
from vhdx._sync import Mutex
from vhdx.engine.session.in_flight import InFlight
from vhdx.format.bat import PayloadState
from vhdx.storage.base import pread_zero_extended
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder

NEIGHBOURS = (0, 1, 511, 512, 513, 1023, 1024, 1025, 1535, 1536)
"""Entries on both sides of the table's 4-KiB pages; QEMU once lost what stood in such places."""


def table(store: MemoryStore, image: ImageBuilder) -> list[int]:
    data = pread_zero_extended(store, image.geometry.bat_size, image.bat_offset)
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]


def with_entries() -> ImageBuilder:
    image = ImageBuilder(2048 * MIB)
    for block in NEIGHBOURS:
        image.add_block(block, block.to_bytes(2, "little") * 256)
    for block in range(2, 500):
        image.set_block(block, PayloadState.ZERO)
    return image


@pytest.mark.parametrize("block", [0, 512, 1024])
@pytest.mark.parametrize("change", ["trim", "zero", "trim and write"])
def test_rewriting_the_first_entry_of_a_page_leaves_its_neighbours(block: int, change: str) -> None:
    image = with_entries()
    store = image.build_store()
    before = table(store, image)
    with vhdx.open(store, "r+") as disk:
        if change == "zero":
            disk.write_zeroes(MIB, block * MIB)
        else:
            disk.trim(MIB, block * MIB)
        if change == "trim and write":
            disk.flush()
            disk.pwrite(b"n" * 512, block * MIB)
    after = table(store, image)
    assert after[block] & 7 == {"trim": 3, "zero": 2, "trim and write": 6}[change]
    assert after[:block] + after[block + 1 :] == before[:block] + before[block + 1 :]
    for other in NEIGHBOURS:
        if other != block:
            assert chain_bytes([store], other * MIB, 512) == other.to_bytes(2, "little") * 256
    assert faults(store) == []


@pytest.mark.parametrize("block_size", [MIB, 32 * MIB, 256 * MIB])
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_blocks_beyond_the_first_chunk_get_their_own_entries(block_size: int, sector_size: int) -> None:
    chunk_size = sector_size << 23
    size = 3 * chunk_size + 512 * 8
    image = ImageBuilder(size, block_size, logical_sector_size=sector_size)
    store = image.build_store()
    offsets = [0, chunk_size - 4096, chunk_size, 2 * chunk_size - 4096, 2 * chunk_size, size - 4096]
    with vhdx.open(store, "r+") as disk:
        for number, offset in enumerate(offsets, 1):
            disk.pwrite(bytes([number]) * 4096, offset)
    for number, offset in enumerate(offsets, 1):
        assert chain_bytes([store], offset, 4096) == bytes([number]) * 4096
    written = {offset // block_size for offset in offsets}
    entries = table(store, image)
    geometry = image.geometry
    assert {index for index, entry in enumerate(entries) if entry} == {
        geometry.entry_of_block(block) for block in written
    }
    assert faults(store) == []


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_every_chunk_of_a_child_gets_its_own_bitmap(sector_size: int) -> None:
    chunk_size = sector_size << 23
    parent = ImageBuilder(2 * chunk_size + 4 * MIB, 32 * MIB, logical_sector_size=sector_size, name="parent")
    parent.add_block(0, b"p" * MIB)
    child = ImageBuilder.child_of(parent, block_size=2 * MIB)
    stores = [child.build_store(), parent.build_store()]
    offsets = [
        sector_size * 5,
        chunk_size - 2 * sector_size,
        chunk_size + 2 * MIB,
        2 * chunk_size + sector_size,
    ]
    with vhdx.open(stores[0], "r+", parents=stores[1:]) as disk:
        for offset in offsets:
            disk.pwrite(b"c" * sector_size, offset)
    for offset in offsets:
        block, within = divmod(offset, 2 * MIB)
        assert bits_of(stores[0], block) == {within // sector_size}
        assert chain_bytes(stores, offset, sector_size) == b"c" * sector_size
    places = [child.geometry.entry_of_bitmap(chunk) for chunk in range(3)]
    entries = table(stores[0], child)
    assert all(entries[place] & 7 == 6 for place in places)
    assert len({entries[place] for place in places}) == 3
    assert chain_bytes(stores, 0, 512) == b"p" * 512
    assert faults(stores[0]) == []


def test_entries_in_memory_are_seen_by_walks_of_a_large_table() -> None:
    # Long walks read slices of the table past the page cache.
    image = ImageBuilder(64 * GIB)
    image.add_block(7, b"old")
    image.add_block(20_000, b"old")
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n" * 512, 5 * MIB)
        disk.pwrite(b"n" * 512, 64 * GIB - MIB)
        disk.trim(MIB, 7 * MIB)
        for _ in range(2):
            data = [extent.offset // MIB for extent in disk.extents() if not extent.zero]
            assert data == [5, 20_000, 65_535]
            disk.flush()
        disk.trim(MIB, 5 * MIB)
        assert [extent.offset // MIB for extent in disk.extents() if not extent.zero] == [20_000, 65_535]


def test_entries_after_the_last_needed_one_stay() -> None:
    image = ImageBuilder(3 * MIB)
    image.bat[3], image.bat[100] = 0xABCD << 20 | 6, 3
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n" * 512, 2 * MIB)
    data = pread_zero_extended(store, 8 * 101, image.bat_offset)
    assert data[24:32] == (0xABCD << 20 | 6).to_bytes(8, "little")
    assert data[800:808] == (3).to_bytes(8, "little")


def test_block_that_reaches_past_the_file_at_the_disks_end_can_be_written() -> None:
    image = ImageBuilder(2 * MIB + 4096)
    start = image.add_block(2, b"e" * 4096)
    image.file_length = start + 4096
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"E" * 4096, 2 * MIB)
        disk.pwrite(b"f" * 512, 0)
        disk.flush()
        assert disk.pread(4096, 2 * MIB) == b"E" * 4096
    assert block_entry(store, 0)[1] >= start + MIB
    assert chain_bytes([store], 2 * MIB, 4096) == b"E" * 4096
    assert faults(store) == []


def test_unused_offset_of_a_block_without_space_is_cleared_and_not_used() -> None:
    image = ImageBuilder(3 * MIB)
    full = image.add_block(0, b"f" * MIB)
    image.set_block(1, PayloadState.ZERO, full)
    image.set_block(2, PayloadState.NOT_PRESENT, full)
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n" * 512, MIB)
        disk.write_zeroes(MIB, 2 * MIB)
    assert block_entry(store, 1) != (6, full)
    assert block_entry(store, 2) == (2, 0)
    assert chain_bytes([store], 0, MIB) == b"f" * MIB
    assert faults(store) == []


@pytest.mark.parametrize("call", ["trim", "write_zeroes"])
def test_range_of_terabytes_costs_what_its_blocks_cost_that_change(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, odd = 1 << 40, 700
    image = ImageBuilder(size, 2 * MIB)
    if call == "write_zeroes":
        # Most blocks are as they are to become already: for trims not present, for zeroes state 2.
        for block in range(image.geometry.block_count):
            image.set_block(block, PayloadState.ZERO)
    numbers = (0, 1, 5000, 300_000, size // (2 * MIB) - 1)
    for block in numbers:
        image.add_block(block, b"o")
    store = image.build_store()
    held: list[int] = []
    original = InFlight.block

    def noted(in_flight: InFlight, number: int) -> Mutex:
        held.append(number)
        return original(in_flight, number)

    monkeypatch.setattr(InFlight, "block", noted)
    with vhdx.open(store, "r+") as disk:
        getattr(disk, call)(size - odd, odd)
        assert held == list(numbers if call == "write_zeroes" else numbers[1:])
        assert disk.pread(1, 0) == b"o", "the part before the range stays"
        for block in numbers[1:]:
            assert disk.pread(1, block * 2 * MIB) == b"\0"
    assert faults(store) == []
