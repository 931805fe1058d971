"""Differencing chains, read by the library and by the reference reader."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vhdx
from support.units import GIB, MIB
from vhdx.format.bat import PayloadState
from vhdx.storage.base import ByteStore, pread_zero_extended
from vhdx.testing import ImageBuilder, ReferenceDisk
from vhdx.testing.image import QuickDisk
from vhdx.testing.image.strategies import chains, dirty_images, requests

SLOW_STORES = settings(
    max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def open_chain(images: list[ImageBuilder]) -> tuple[vhdx.Disk, list[ByteStore]]:
    stores: list[ByteStore] = [image.build_store() for image in images]
    return vhdx.open(stores[0], parents=stores[1:]), stores


def assert_extents_tell_the_truth(disk: vhdx.Disk) -> None:
    position = 0
    for extent in disk.extents():
        assert extent.offset == position
        position = extent.end
        assert extent.present or extent.zero
        data = disk.pread(extent.length, extent.offset)
        if extent.zero:
            assert data.count(0) == len(data)
        elif extent.file_offset is not None:
            store = disk.images[extent.depth].store
            assert pread_zero_extended(store, extent.length, extent.file_offset) == data
    assert position == disk.size


@SLOW_STORES
@given(st.data())
def test_any_chain_reads_as_the_reference_says(data: st.DataObject) -> None:
    disk, stores = open_chain(data.draw(chains()))
    assert disk.is_complete
    reference = ReferenceDisk(stores)
    for _ in range(5):
        offset, length = data.draw(requests(disk.size, max_length=20_000))
        assert disk.pread(length, offset) == reference.read(offset, length)
    assert disk.pread(disk.size, 0) == QuickDisk(stores).read(0, disk.size)
    assert_extents_tell_the_truth(disk)


@SLOW_STORES
@given(dirty_images())
def test_any_dirty_image_reads_as_after_replay(image: ImageBuilder) -> None:
    disk, stores = open_chain([image])
    assert disk.is_dirty
    assert disk.pread(disk.size, 0) == QuickDisk(stores).read(0, disk.size)
    assert_extents_tell_the_truth(disk)


def filled(name: str, size: int, block_size: int, sector_size: int = 512) -> ImageBuilder:
    """A base whose sectors tell where they are."""
    image = ImageBuilder(size, block_size, logical_sector_size=sector_size, name=name)
    for block in range(image.geometry.block_count):
        length = image.geometry.block_length(block)
        image.add_block(block, sectors(name, block * block_size, length, sector_size))
    return image


def sectors(name: str, offset: int, length: int, sector_size: int) -> bytes:
    return b"".join(
        f"{name} {offset + at}".encode().ljust(sector_size, b".") for at in range(0, length, sector_size)
    )


def child_with_runs(parent: ImageBuilder, size: int, block_size: int, name: str) -> ImageBuilder:
    """A child whose bitmaps have runs that begin and end anywhere in a byte."""
    child = ImageBuilder.child_of(parent, virtual_size=size, block_size=block_size, name=name)
    sector_size = child.geometry.logical_sector_size
    chance = random.Random(name)
    for block in range(child.geometry.block_count):
        count = child.geometry.block_length(block) // sector_size
        held: dict[int, bytes] = {}
        for _ in range(6):
            start = chance.randrange(count)
            for sector in range(start, min(count, start + chance.choice((1, 2, 7, 8, 9, 63, 300)))):
                held[sector] = sectors(
                    name, block * block_size + sector * sector_size, sector_size, sector_size
                )
        held[count - 1] = b"last sector of the block"
        child.add_partial_block(block, held)
    return child


@pytest.mark.parametrize("sector_size", [512, 4096])
@pytest.mark.parametrize(
    ("base_size", "base_block", "middle_size", "middle_block", "leaf_size", "leaf_block"),
    [
        (4 * MIB, 2 * MIB, 4 * MIB, MIB, 4 * MIB, 2 * MIB),
        (4 * MIB, MIB, 2 * MIB + 8192, 2 * MIB, 5 * MIB + 4096, MIB),
        (2 * MIB - 4096, 2 * MIB, 5 * MIB, MIB, 5 * MIB, 4 * MIB),
        (6 * MIB, 4 * MIB, 3 * MIB - 4096, MIB, 2 * MIB + 4096, 2 * MIB),
    ],
)
def test_layers_of_other_sizes_and_block_sizes_read_right(
    sector_size: int,
    base_size: int,
    base_block: int,
    middle_size: int,
    middle_block: int,
    leaf_size: int,
    leaf_block: int,
) -> None:
    base = filled("base", base_size, base_block, sector_size)
    middle = child_with_runs(base, middle_size, middle_block, "middle")
    leaf = child_with_runs(middle, leaf_size, leaf_block, "leaf")
    disk, stores = open_chain([leaf, middle, base])
    whole = disk.pread(disk.size, 0)
    assert whole == QuickDisk(stores).read(0, disk.size)
    assert_extents_tell_the_truth(disk)
    chance = random.Random(leaf_size)
    reference = ReferenceDisk(stores)
    for _ in range(60):
        offset = chance.randrange(disk.size)
        length = min(chance.choice((1, 511, 513, 4096, 70_000)), disk.size - offset)
        assert disk.pread(length, offset) == whole[offset : offset + length]
        sector = offset // sector_size
        assert reference.read_sector(0, sector) == whole[sector * sector_size : (sector + 1) * sector_size]


def test_smaller_middle_layer_hides_what_lies_deeper() -> None:
    base = filled("base", 3 * MIB, MIB)
    middle = ImageBuilder.child_of(base, virtual_size=MIB + 512, name="middle")
    leaf = ImageBuilder.child_of(middle, virtual_size=3 * MIB, name="leaf")
    disk, _ = open_chain([leaf, middle, base])
    assert disk.pread(MIB + 512, 0) == sectors("base", 0, MIB + 512, 512)
    assert disk.pread(2 * MIB - 512, MIB + 512) == bytes(2 * MIB - 512)


@pytest.mark.parametrize("state", [PayloadState.UNDEFINED, PayloadState.ZERO, PayloadState.UNMAPPED])
def test_block_without_content_hides_its_parent(state: PayloadState) -> None:
    base = filled("base", 2 * MIB, MIB)
    leaf = ImageBuilder.child_of(base, name="leaf")
    leaf.set_block(0, state)
    disk, _ = open_chain([leaf, base])
    assert disk.pread(MIB, 0) == bytes(MIB)
    assert disk.pread(MIB, MIB) == sectors("base", MIB, MIB, 512)


def test_requests_across_large_blocks_and_chunks_read_right() -> None:
    block_size = 256 * MIB
    size = 35 * block_size + 512
    base = ImageBuilder(size, block_size, name="base")
    leaf = ImageBuilder.child_of(base, name="leaf")
    # Sixteen blocks make a chunk: blocks 15 and 16 have their bits in different bitmaps.
    for block in (15, 16, 31, 32, 35):
        place = base.add_block(block)
        last = min(block_size, size - block * block_size)
        base.content += [(place, b"base starts" * 100), (place + last - 512, b"base ends".ljust(512, b"!"))]
        count = last // 512
        leaf.add_partial_block(
            block, {number: b"leaf %d" % number for number in {1 % count, count - 2} if number > 0}
        )
    disk, stores = open_chain([leaf, base])
    reference = ReferenceDisk(stores)
    for block in (15, 16, 31, 32, 35):
        for offset in (block * block_size - 3000, block * block_size - 1024):
            length = min(6000, disk.size - offset)
            assert disk.pread(length, offset) == reference.read(offset, length)
    assert disk.pread(512, size - 512) == reference.read(size - 512, 512)
    assert disk.size > 8 * GIB
    assert sum(extent.length for extent in disk.extents()) == disk.size


def test_requests_that_end_in_the_middle_of_sectors_are_served_by_both_files() -> None:
    base = filled("base", MIB, MIB)
    leaf = ImageBuilder.child_of(base, name="leaf")
    leaf.add_partial_block(0, dict.fromkeys(range(5, 13), b"leaf" * 128))
    disk, _ = open_chain([leaf, base])
    expected = sectors("base", 0, 5 * 512, 512) + b"leaf" * 128 * 8 + sectors("base", 13 * 512, 512, 512)
    for start in range(4 * 512 + 500, 5 * 512 + 20, 7):
        for end in range(13 * 512 - 10, 13 * 512 + 30, 9):
            assert disk.pread(end - start, start) == expected[start:end]
