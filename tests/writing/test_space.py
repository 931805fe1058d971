"""File space: whose it is, what it holds when a block gets it, and when it is given back."""

import errno
import os
import random
import tracemalloc
from pathlib import Path
from typing import Literal
from uuid import UUID

import pytest

import vhdx
from support.units import MIB
from support.written_images import block_entry, chain_bytes, faults
from vhdx import _host
from vhdx._sync import THREADS
from vhdx.engine.block_rules import BlockRules
from vhdx.engine.interval_set import IntervalSet
from vhdx.engine.session.allocator import Allocator, FileEnds
from vhdx.engine.session.in_flight import InFlight
from vhdx.format.bat import PayloadState
from vhdx.format.geometry import Geometry
from vhdx.ops.check import check
from vhdx.ops.create import create
from vhdx.storage.base import pread_zero_extended
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder
from vhdx.testing.stores import HostStore, StoreCall, WatchedStore

DIRT = b"\xd1"
REGION = UUID("00000000-0000-4000-8000-0000000e6104")


def space_of(store: MemoryStore, blocks: int) -> dict[int, int]:
    """File offsets of blocks that have one."""
    found = {block: block_entry(store, block)[1] for block in range(blocks)}
    return {block: offset for block, offset in found.items() if offset}


@pytest.mark.parametrize("kind", ["dynamic", "fixed", "child"])
@pytest.mark.parametrize("way", ["write", "write unaligned", "zero", "zero kept"])
def test_no_block_shows_what_its_space_held(kind: str, way: str) -> None:
    parent = ImageBuilder(8 * MIB, name="parent")
    image = ImageBuilder.child_of(parent) if kind == "child" else ImageBuilder(8 * MIB)
    if kind == "fixed":
        image = ImageBuilder(8 * MIB, kind="fixed")
        image.bat.clear()
    start = image.allocate(12 * MIB)
    image.content.append((start, DIRT * 12 * MIB))
    if kind == "fixed":
        image.content.append((start - 8 * MIB, DIRT * 8 * MIB))
    stores = [image.build_store(), *([parent.build_store()] if kind == "child" else [])]
    expected = bytearray(8 * MIB)
    with vhdx.open(stores[0], "r+", parents=stores[1:]) as disk:
        for block in range(6):
            offset = block * MIB + (700 if way == "write unaligned" else 4096)
            if way.startswith("write"):
                disk.pwrite(b"n" * 100, offset)
                expected[offset : offset + 100] = b"n" * 100
            else:
                disk.write_zeroes(MIB, block * MIB, may_unmap=way == "zero")
        assert disk.pread(8 * MIB, 0) == expected
    assert chain_bytes(stores, 0, 8 * MIB) == expected
    used = space_of(stores[0], 6)
    assert len(used) == (0 if way == "zero" and kind != "fixed" else 6)
    assert max(used.values(), default=0) < image.length(), "space inside the file is taken first"
    assert faults(stores[0]) == []


def test_unknown_regions_and_soft_anchors_are_left_alone() -> None:
    image = ImageBuilder(16 * MIB)
    gap = image.allocate(MIB)
    region = image.add_region(REGION, 3 * MIB)
    anchor = image.add_block(0, b"A" * MIB, state=PayloadState.UNMAPPED)
    between = image.allocate(2 * MIB)
    last = image.add_region(UUID(int=REGION.int + 1), MIB)
    image.content += [
        (region, b"R" * 3 * MIB),
        (last, b"L" * MIB),
        (gap, DIRT * MIB),
        (between, DIRT * 2 * MIB),
    ]
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        for block in range(1, 8):
            disk.pwrite(b"n" * MIB, block * MIB)
        disk.trim(MIB, 0)
    used = space_of(store, 8)
    assert used.pop(0) == anchor
    assert {gap, between, between + MIB} < set(used.values())
    assert pread_zero_extended(store, 3 * MIB, region) == b"R" * 3 * MIB
    assert pread_zero_extended(store, MIB, last) == b"L" * MIB
    assert pread_zero_extended(store, MIB, anchor) == b"A" * MIB
    assert faults(store) == []


def test_anchored_space_is_used_again_by_its_own_block_and_zeroed() -> None:
    image = ImageBuilder(2 * MIB)
    anchor = image.add_block(1, b"A" * MIB, state=PayloadState.UNDEFINED)
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n", MIB + 5)
    assert block_entry(store, 1) == (6, anchor)
    assert chain_bytes([store], MIB, MIB) == bytes(5) + b"n" + bytes(MIB - 6)


def test_freed_space_is_used_again_after_the_next_flush_and_not_before() -> None:
    image = ImageBuilder(8 * MIB)
    for block in range(4):
        image.add_block(block, b"o" * MIB)
    store = image.build_store()
    freed = set(space_of(store, 2).values())
    with vhdx.open(store, "r+") as disk:
        disk.trim(2 * MIB, 0)
        disk.pwrite(b"n" * MIB, 4 * MIB)
        disk.pwrite(b"n" * MIB, 5 * MIB)
        disk.flush()
        assert not freed & set(space_of(store, 8).values())
        disk.pwrite(b"n", 6 * MIB)
        disk.pwrite(b"n", 7 * MIB)
        assert disk.pread(2 * MIB, 6 * MIB) == (b"n" + bytes(MIB - 1)) * 2
    used = space_of(store, 8)
    assert {used[6], used[7]} == freed
    assert faults(store) == []


def test_space_named_by_open_ranges_is_not_used_again() -> None:
    image = ImageBuilder(8 * MIB)
    image.add_block(0, b"o" * MIB)
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        with disk.ranges(0, MIB) as ranges:
            (piece,) = list(ranges)
            disk.trim(MIB, 0)
            disk.flush()
            disk.pwrite(b"n" * MIB, MIB)
            disk.flush()
            disk.pwrite(b"n" * MIB, 2 * MIB)
            assert pread_zero_extended(store, MIB, piece.file_offset) == b"o" * MIB
        disk.flush()
        disk.pwrite(b"n" * MIB, 3 * MIB)
    assert block_entry(store, 3)[1] == piece.file_offset
    assert piece.file_offset not in (block_entry(store, 1)[1], block_entry(store, 2)[1])


def test_file_grows_in_steps_and_gives_back_what_it_did_not_use() -> None:
    watched = WatchedStore(ImageBuilder(64 * MIB).build_store())
    before = watched.size()
    with vhdx.open(watched, "r+") as disk:
        for block in range(10):
            disk.pwrite(b"n", block * MIB)
        assert watched.size() == before + 64 * MIB
    assert watched.size() == before + 10 * MIB
    assert [call.name for call in watched.calls].count("truncate") == 2


def test_trimmed_end_of_the_file_is_given_back_on_close() -> None:
    image = ImageBuilder(8 * MIB)
    for block in range(8):
        image.add_block(block, b"o" * MIB)
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        disk.trim(6 * MIB, 2 * MIB)
        disk.write_zeroes(MIB, 0)
        assert store.size() == image.length()
    assert store.size() == image.length() - 6 * MIB
    assert chain_bytes([store], MIB, MIB) == b"o" * MIB
    assert faults(store) == []


def test_end_of_the_file_that_others_left_is_not_cut_off() -> None:
    image = ImageBuilder(8 * MIB)
    image.add_block(0, b"o" * MIB)
    image.trailing = b"somebody's" + bytes(502)
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n" * 512, 3 * MIB)
        disk.trim(MIB, 3 * MIB)
        disk.trim(MIB, 0)
    assert pread_zero_extended(store, 512, image.length() - 512) == image.trailing
    assert faults(store) == []


@pytest.mark.parametrize("is_allocated", [True, False])
def test_fixed_image_never_shrinks(is_allocated: bool) -> None:
    image = ImageBuilder(6 * MIB, kind="fixed")
    if not is_allocated:
        image.bat = {block: int(PayloadState.ZERO) for block in range(6)}
    store = image.build_store()
    before = store.size()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n" * MIB, 2 * MIB)
        disk.trim(6 * MIB, 0)
        assert disk.pread(MIB, 2 * MIB) == b"n" * MIB, "trimming a fixed disk keeps its content"
        disk.write_zeroes(6 * MIB, 0)
    assert store.size() == before
    assert sorted(space_of(store, 6).values()) == [image.data_offset + at * MIB for at in range(6)]
    assert chain_bytes([store], 0, 6 * MIB) == bytes(6 * MIB)
    assert faults(store) == []


@pytest.mark.skipif(not _host.HAVE_FALLOCATE, reason="holes cannot be punched here")
@pytest.mark.parametrize("ends_with", ["flush", "close"])
def test_host_gets_the_space_of_trimmed_blocks_back(tmp_path: Path, ends_with: str) -> None:
    path = tmp_path / "disk.vhdx"
    create(path, 64 * MIB, block_size=MIB)
    with vhdx.open(path, "r+") as disk:
        for block in range(64):
            disk.pwrite(os.urandom(MIB), block * MIB)
    full = path.stat().st_blocks * 512
    with vhdx.open(path, "r+") as disk:
        disk.trim(40 * MIB, 10 * MIB)
        if ends_with == "flush":
            disk.flush()
            freed = full - path.stat().st_blocks * 512
    if ends_with == "close":
        freed = full - path.stat().st_blocks * 512
    assert freed >= 39 * MIB
    assert not list(check(path).findings())


def cut_off(image: ImageBuilder, state: PayloadState, entry: bytes) -> tuple[MemoryStore, int]:
    """A file that ends where the disk does, in its last block, and that block's place."""
    last = image.add_block(3, entry, state=state)
    store = image.build_store()
    store.truncate(last + 512)
    return store, last


def test_space_of_a_block_that_was_cut_off_is_used_again_as_a_whole() -> None:
    store, last = cut_off(ImageBuilder(6 * MIB + 512, 2 * MIB), PayloadState.FULLY_PRESENT, b"o" * 512)
    with vhdx.open(HostStore(store), "r+") as disk:
        disk.trim(512, 6 * MIB)
        disk.flush()
        assert store.size() == last + 512, "the hole that is punched lies in the file"
        disk.pwrite(b"n" * 2 * MIB, 0)
        disk.pwrite(b"m" * 512, 4096)
        disk.flush()
        assert disk.pread(2 * MIB, 0) == b"n" * 4096 + b"m" * 512 + b"n" * (2 * MIB - 4608)
    assert block_entry(store, 0) == (6, last)
    assert store.size() == last + 2 * MIB
    assert chain_bytes([store], 0, 4096) == b"n" * 4096
    assert faults(store) == []


def test_space_that_was_cut_off_is_free_still_after_the_file_could_not_grow() -> None:
    store, last = cut_off(ImageBuilder(6 * MIB + 512, 2 * MIB), PayloadState.FULLY_PRESENT, b"o" * 512)
    watched = WatchedStore(store)

    def refuse(call: StoreCall) -> None:
        if call.name == "truncate":
            raise OSError(errno.ENOSPC, "full")

    with vhdx.open(watched, "r+") as disk:
        disk.trim(512, 6 * MIB)
        disk.flush()
        watched.before = refuse
        with pytest.raises(OSError, match="full"):
            disk.pwrite(b"n", 0)
        watched.before = lambda _: None
        disk.pwrite(b"n", 0)
        assert disk.pread(2 * MIB, 0) == b"n" + bytes(2 * MIB - 1)
    assert block_entry(store, 0) == (6, last)
    assert faults(store) == []


@pytest.mark.parametrize("state", [1, 3, 6])
@pytest.mark.parametrize("way", ["write", "write whole", "zero", "zero kept", "zero part"])
@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_block_that_is_cut_off_behind_the_disk_can_be_changed(
    state: int, way: str, kind: Literal["dynamic", "fixed"]
) -> None:
    image = ImageBuilder(6 * MIB + 512, 2 * MIB, kind=kind)
    image.bat.clear()
    store, _ = cut_off(image, PayloadState(state), b"o" * 512)
    expected = bytearray(b"o" * 512 if state == 6 else bytes(512))
    start = 100 if way in ("write", "zero part") else 0
    with vhdx.open(store, "r+") as disk:
        if way.startswith("write"):
            disk.pwrite(b"n" * (512 - start), 6 * MIB + start)
            expected[start:] = b"n" * (512 - start)
        else:
            disk.write_zeroes(512 - start, 6 * MIB + start, may_unmap=way != "zero kept")
            expected[start:] = bytes(512 - start)
        assert disk.pread(512, 6 * MIB) == expected
        disk.flush()
        for block in range(3):
            disk.pwrite(b"m", block * 2 * MIB)
        assert disk.pread(512, 6 * MIB) == expected
        assert disk.pread(6 * MIB, 0) == (b"m" + bytes(2 * MIB - 1)) * 3
    assert chain_bytes([store], 6 * MIB, 512) == expected
    assert chain_bytes([store], 0, 6 * MIB) == (b"m" + bytes(2 * MIB - 1)) * 3
    assert faults(store) == []


def scattered(count: int, step: int = 1) -> list[int]:
    """Places of some MiBs, in disorder."""
    places = [(64 + step * number) * MIB for number in range(count)]
    random.Random(1).shuffle(places)
    return places


def make_allocator() -> tuple[Allocator, InFlight]:
    """The allocator of a file of which it owns nothing yet."""
    in_flight = InFlight(THREADS, "test")
    end = 1 << 40
    store = MemoryStore()
    rules = BlockRules(Geometry(end, MIB, 512, has_parent=False), 2 * MIB, end, ())
    return Allocator(store, FileEnds(end, end, end), IntervalSet(), rules, in_flight, THREADS), in_flight


def test_scattered_blocks_that_were_freed_take_little_memory() -> None:
    allocator, _ = make_allocator()
    places = scattered(20_000)
    tracemalloc.start()
    try:
        for number, place in enumerate(places):
            allocator.free(place, MIB)
            if number == len(places) // 2:
                allocator.freeze()
                allocator.settle()
        allocator.freeze()
        allocator.settle()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < len(places) * 156 // 4, "a quarter of what they take one by one"
    assert allocator.allocate(len(places) * MIB).file_offset == 64 * MIB


def test_freed_neighbours_wait_for_the_youngest_operation_that_may_know_one_of_them() -> None:
    allocator, in_flight = make_allocator()
    places = scattered(3000)
    for place in places[:1500]:
        allocator.free(place, MIB)
    operation = in_flight.begin()
    for place in places[1500:]:
        allocator.free(place, MIB)
    allocator.freeze()
    allocator.settle()
    taken = {allocator.allocate(MIB).file_offset for _ in places}
    assert not taken & set(places[1500:])
    in_flight.end(operation)
    assert set(places) <= taken | {allocator.allocate(MIB).file_offset for _ in places}


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("known", [0, 3000])
def test_many_intervals_added_at_once_are_as_if_added_one_by_one(step: int, known: int) -> None:
    before = [(at - MIB // 2, at + MIB // 4) for at in scattered(known, 3)]
    new = [(at, at + MIB + (at % 7 == 0) * 3 * MIB) for at in scattered(4000, step)]
    at_once, one_by_one = IntervalSet(before), IntervalSet([*before, *new])
    at_once.update(new)
    assert list(at_once) == list(one_by_one)
