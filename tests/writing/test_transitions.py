"""What every change does to a block in every state: state, file space, bits and content (FORMAT 4.5)."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

import vhdx
from support.units import MIB
from support.written_images import bits_of, block_entry, chain_bytes, faults
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder

PARENT, OLD, NEW, DIRT = (bytes([value]) for value in (0x50, 0x0D, 0x4E, 0xD1))

SECTOR = 512
BLOCK = 1
"""The block that is changed; those before and after it must stay."""
HELD = (3, 4, 200)
"""Sectors that a partially present block holds."""


class Change(NamedTuple):
    """A request for a range of a block, and what it leaves in that range."""

    start: int
    length: int
    """None of the block's end: -1."""
    fill: bytes | None
    """None: the range keeps its content."""
    request: Callable[[vhdx.Disk, int, int], object]

    def end(self, block_length: int) -> int:
        return block_length if self.length < 0 else self.start + self.length


def _write(disk: vhdx.Disk, offset: int, length: int) -> None:
    disk.pwrite(NEW * length, offset)


def _zero(disk: vhdx.Disk, offset: int, length: int) -> None:
    disk.write_zeroes(length, offset)


def _zero_kept(disk: vhdx.Disk, offset: int, length: int) -> None:
    disk.write_zeroes(length, offset, may_unmap=False)


def _trim(disk: vhdx.Disk, offset: int, length: int) -> None:
    disk.trim(length, offset)


CHANGES = {
    "write": Change(1000, 2000, NEW, _write),
    "write_sectors": Change(1024, 2048, NEW, _write),
    "write_whole": Change(0, -1, NEW, _write),
    "zero": Change(1000, 2000, b"\0", _zero),
    "zero_sectors": Change(1024, 2048, b"\0", _zero),
    "zero_whole": Change(0, -1, b"\0", _zero),
    "zero_whole_kept": Change(0, -1, b"\0", _zero_kept),
    "trim": Change(1024, 2048, None, _trim),
    "trim_whole": Change(0, -1, b"\0", _trim),
}
STATES = {"0": 0, "1": 1, "1 anchored": 1, "2": 2, "3": 3, "3 anchored": 3, "6": 6, "7": 7}

_WRITE_EMPTY = {"write": 6, "write_sectors": 6, "write_whole": 6}
_ZERO_EMPTY = {"zero_whole": 2, "zero_whole_kept": 6}
_PARTIAL = {"write": 7, "write_sectors": 7, "write_whole": 6, "zero": 7, "zero_sectors": 7}
EXPECTED: dict[tuple[str, str], dict[str, int]] = {
    # New states; what is not named keeps its state. A trimmed block without a parent stays not present.
    ("dynamic", "0"): {**_WRITE_EMPTY, **_ZERO_EMPTY},
    ("dynamic", "1"): {**_WRITE_EMPTY, **_ZERO_EMPTY},
    ("dynamic", "1 anchored"): {**_WRITE_EMPTY, **_ZERO_EMPTY},
    ("dynamic", "2"): {**_WRITE_EMPTY, "zero_whole_kept": 6},
    ("dynamic", "3"): {**_WRITE_EMPTY, **_ZERO_EMPTY},
    ("dynamic", "3 anchored"): {**_WRITE_EMPTY, **_ZERO_EMPTY},
    ("dynamic", "6"): {"zero_whole": 2, "trim_whole": 3},
    ("child", "0"): {**_PARTIAL, **_ZERO_EMPTY, "trim_whole": 2},
    ("child", "1"): {**_WRITE_EMPTY, **_ZERO_EMPTY},
    ("child", "1 anchored"): {**_WRITE_EMPTY, **_ZERO_EMPTY},
    ("child", "2"): {**_WRITE_EMPTY, "zero_whole_kept": 6},
    ("child", "3"): {**_WRITE_EMPTY, **_ZERO_EMPTY},
    ("child", "3 anchored"): {**_WRITE_EMPTY, **_ZERO_EMPTY},
    ("child", "6"): {"zero_whole": 2, "trim_whole": 3},
    ("child", "7"): {"write_whole": 6, "zero_whole": 2, "zero_whole_kept": 6, "trim_whole": 3},
    ("fixed", "0"): {**_WRITE_EMPTY, "zero_whole": 6, "zero_whole_kept": 6},
    ("fixed", "1 anchored"): {**_WRITE_EMPTY, "zero_whole": 6, "zero_whole_kept": 6},
    ("fixed", "2"): {**_WRITE_EMPTY, "zero_whole": 6, "zero_whole_kept": 6},
    ("fixed", "3"): {**_WRITE_EMPTY, "zero_whole": 6, "zero_whole_kept": 6},
    ("fixed", "6"): {},
}


def make_image(kind: str, state: str, size: int) -> tuple[ImageBuilder, ImageBuilder | None]:
    """An image whose middle block is in a state, between full ones, over dirty file space; and its parent."""
    parent = None
    if kind == "child":
        parent = ImageBuilder(size, name="parent")
        for block in range(parent.geometry.block_count):
            parent.add_block(block, PARENT * MIB)
        image = ImageBuilder.child_of(parent, block_size=MIB)
        # Bits of another state than 7 are stale and mean nothing.
        image.add_bitmap(0)[:] = b"\xff" * MIB
    else:
        image = ImageBuilder(size, kind="fixed" if kind == "fixed" else "dynamic")
    for block in range(image.geometry.block_count):
        if block != BLOCK:
            image.add_block(block, OLD * MIB)
    image.content.append((image.allocate(4 * MIB), DIRT * 4 * MIB))
    set_state(image, state)
    return image, parent


def set_state(image: ImageBuilder, state: str) -> None:
    number = STATES[state]
    if number == 7:
        image.add_partial_block(BLOCK, dict.fromkeys(HELD, OLD * SECTOR))
        bits = image.bitmaps[0][1]
        bits[256:512] = bytes(256)
        for sector in HELD:
            bits[256 + sector // 8] |= 1 << sector % 8
    elif number == 6 or "anchored" in state:
        image.add_block(BLOCK, OLD * MIB, state=number)
    else:
        image.set_block(BLOCK, number)


def content_before(kind: str, state: str, length: int) -> bytes:
    if state == "6":
        return OLD * length
    below = (PARENT if kind == "child" and state in ("0", "7") else b"\0") * length
    content = bytearray(below)
    if state == "7":
        for sector in HELD:
            content[sector * SECTOR : (sector + 1) * SECTOR] = OLD * SECTOR
    return bytes(content)


CASES = [
    pytest.param(kind, state, name, size, id=f"{kind}-{state.replace(' ', '_')}-{name}-{blocks}")
    for kind, state in EXPECTED
    for name in CHANGES
    for blocks, size in (("inside", 3 * MIB), ("at_the_end", 2 * MIB - 300 * SECTOR))
]


@pytest.mark.parametrize(("kind", "state", "name", "size"), CASES)
def test_block_becomes_what_the_table_says(kind: str, state: str, name: str, size: int) -> None:
    image, parent = make_image(kind, state, size)
    change = CHANGES[name]
    length = image.geometry.block_length(BLOCK)
    end = change.end(length)
    expected = bytearray(content_before(kind, state, length))
    if change.fill is not None and not (kind == "fixed" and change.request is _trim):
        expected[change.start : end] = change.fill * (end - change.start)
    stores = [image.build_store(), *([parent.build_store()] if parent else [])]
    old_offset = block_entry(stores[0], BLOCK)[1]

    with vhdx.open(stores[0], "r+", parents=stores[1:]) as disk:
        change.request(disk, MIB + change.start, end - change.start)
        assert disk.pread(length, MIB) == expected
        assert disk.pread(MIB, 0) == OLD * MIB

    assert faults(stores[0]) == []
    assert chain_bytes(stores, 0, size) == OLD * MIB + expected + OLD * (size - MIB - length)
    new_state = EXPECTED[kind, state].get(name, STATES[state])
    assert_entry(stores[0], new_state, STATES[state], old_offset)
    if new_state == 7:
        sectors = set(range(change.start // SECTOR, -(-end // SECTOR))) if change.fill is not None else set()
        assert bits_of(stores[0], BLOCK) == sectors | (set(HELD) if state == "7" else set())


def assert_entry(store: MemoryStore, new_state: int, old_state: int, old_offset: int) -> None:
    """The state is right, space is kept where there was some, and given up where it has no use."""
    state, file_offset = block_entry(store, BLOCK)
    assert state == new_state
    if new_state in (6, 7):
        assert file_offset
        assert not old_offset or file_offset == old_offset
    else:
        assert file_offset == (old_offset if new_state == old_state else 0)


def test_every_state_of_every_kind_is_in_the_table() -> None:
    kinds = {kind: {state for other, state in EXPECTED if other == kind} for kind in ("dynamic", "child")}
    assert kinds["dynamic"] == STATES.keys() - {"7"}
    assert kinds["child"] == STATES.keys()


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_block_whose_every_sector_is_written_becomes_fully_present(sector_size: int) -> None:
    size = 2 * MIB - 3 * 4096
    parent = ImageBuilder(size, name="parent", logical_sector_size=sector_size)
    parent.add_block(1, PARENT * MIB)
    image = ImageBuilder.child_of(parent, block_size=MIB)
    stores = [image.build_store(), parent.build_store()]
    pieces = [(start, min(100_000, size - start)) for start in range(MIB, size, 100_000)]
    with vhdx.open(stores[0], "r+", parents=stores[1:]) as disk:
        for start, length in pieces[::2]:
            disk.pwrite(NEW * length, start)
        disk.flush()
        assert block_entry(stores[0], BLOCK)[0] == 7
        for start, length in pieces[1::2]:
            disk.pwrite(NEW * length, start)
        disk.flush()
        assert block_entry(stores[0], BLOCK)[0] == 6
    assert chain_bytes(stores, MIB, size - MIB) == NEW * (size - MIB)
    assert faults(stores[0]) == []


def test_part_of_a_sector_is_completed_from_the_grandparent() -> None:
    base = ImageBuilder(2 * MIB, name="base")
    base.add_block(1, PARENT * MIB)
    middle = ImageBuilder.child_of(base, name="middle")
    leaf = ImageBuilder.child_of(middle, name="leaf")
    stores = [image.build_store() for image in (leaf, middle, base)]
    with vhdx.open(stores[0], "r+", parents=stores[1:]) as disk:
        disk.pwrite(NEW, MIB + 700)
        disk.write_zeroes(3, MIB + 1535)
    expected = bytearray(PARENT * MIB)
    expected[700:701] = NEW
    expected[1535:1538] = bytes(3)
    assert chain_bytes(stores, MIB, MIB) == expected
    assert bits_of(stores[0], BLOCK) == {1, 2, 3}


def test_without_the_parent_whole_sectors_are_written_and_parts_refused() -> None:
    parent = ImageBuilder(2 * MIB, name="parent")
    parent.add_block(1, PARENT * MIB)
    store = ImageBuilder.child_of(parent).build_store()
    with vhdx.open(store, "r+", parents="none") as disk:
        with pytest.raises(vhdx.ParentNotFoundError):
            disk.pwrite(NEW * 100, MIB)
        disk.pwrite(NEW * 512, MIB + 512)
        assert disk.pread(512, MIB + 512) == NEW * 512
    assert chain_bytes([store, parent.build_store()], MIB, 1024) == PARENT * 512 + NEW * 512
