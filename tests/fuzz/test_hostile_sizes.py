"""Files that are small and claim to be large: the worst that is known for each kind of work."""

import struct
from uuid import UUID

import pytest

from proof.fuzz.invariants import Examination, examine
from support.units import GIB, MIB, TIB
from vhdx.format.guids import BAT_REGION, METADATA_REGION
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder
from vhdx.testing.hostile import base_image, copy_store

BLOCK = 256 * MIB
FULL_BAT = MIB // 8 // 4
"""A quarter of what a BAT of 1 MiB can hold: enough to show, and quicker."""


def flooded(state: int, kind: str) -> MemoryStore:
    """A BAT in which every entry names the same place, 256 MiB long."""
    blocks = FULL_BAT // 17 * 16
    image = ImageBuilder(blocks * BLOCK, BLOCK, kind="differencing" if kind == "differencing" else "dynamic")
    place = image.allocate(BLOCK)
    image.content.append((place, b"\xff" * MIB))
    store = image.build_store()
    store.pwrite(struct.pack("<Q", place | state) * FULL_BAT, image.bat_offset)
    store.truncate(image.length())
    return store


@pytest.mark.parametrize("state", [3, 6])
def test_large_blocks_that_all_claim_one_place_take_bounded_memory(state: int) -> None:
    examination = examine([flooded(state, "dynamic")], measure_memory=True)
    assert "block-overlap" in examination.codes


def test_chunks_that_all_claim_one_bitmap_take_one_look_at_it() -> None:
    outcome = examine([flooded(6, "differencing")])
    assert outcome.refusal == "ParentNotFoundError"
    assert "bitmap-stale" in outcome.codes


@pytest.mark.parametrize("state", [6, 7])
def test_reads_of_flooded_bat_are_bounded(state: int) -> None:
    child, parent = flooded(state, "differencing"), ImageBuilder(8 * MIB, name="parent").build_store()
    assert examine([child, parent]).kind == "opened"


@pytest.mark.parametrize("size", [TIB, 300 * TIB, (1 << 63) - 1])
def test_file_extended_by_a_hole_costs_no_more(size: int) -> None:
    store = copy_store(base_image("dynamic").stores[0])
    store.truncate(size)
    assert examine([store], measure_memory=True).kind == "clean"


@pytest.mark.parametrize("region", [BAT_REGION, METADATA_REGION])
def test_region_of_4_gib_in_a_hole_costs_nothing(region: UUID) -> None:
    image = ImageBuilder()
    image.each_region(region, file_offset=16 * GIB, length=4 * GIB - MIB)
    if region == METADATA_REGION:
        image.content += [(16 * GIB + offset, data) for offset, data in image.metadata.encode()]
    image.file_length = 20 * GIB
    assert examine([image.build_store()], measure_memory=True).kind == "clean"


def test_log_of_1_gib_in_a_hole_costs_nothing() -> None:
    image = ImageBuilder()
    image.each_header(log_offset=GIB, log_length=GIB)
    image.file_length = 2 * GIB
    store = image.build_store()
    assert examine([store], measure_memory=True).kind == "clean"
    image.each_header(log_guid=image.disk_id)
    assert examine([image.build_store()], measure_memory=True).refusal == "log-no-sequence"


def test_log_of_impostors_is_read_a_bounded_number_of_times() -> None:
    image = ImageBuilder(log_length=8 * MIB)
    image.dirty_log([], position=0)
    store = image.build_store()
    head = bytearray(4096)
    store.pread_into(head, image.log_offset)
    # Every sector claims to be an entry as long as the log.
    struct.pack_into("<I", head, 8, image.log_length)
    store.pwrite(bytes(head) * (image.log_length // 4096), image.log_offset)
    assert examine([store], measure_memory=True).refusal == "log-no-sequence"


def test_log_at_the_end_of_all_offsets_is_tolerated_while_it_is_not_in_use() -> None:
    image = ImageBuilder()
    image.add_block(0, b"content")
    image.each_header(log_offset=(1 << 64) - MIB, log_length=MIB)
    assert examine([image.build_store()]).kind == "clean"


def test_table_full_of_items_costs_no_reads() -> None:
    image = ImageBuilder()
    for number in range(1, 1025):
        image.add_item(UUID(int=number), b"x" * (number % 3))
    assert Examination([image.build_store()]).run().kind == "clean"
