"""Comparing disks: the first difference, and what need not be read to find it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vhdx
from support.units import MIB, TIB
from vhdx import ParentNotFoundError
from vhdx.disks.raw import RawDevice
from vhdx.ops.compare import Difference, compare
from vhdx.ops.convert import convert
from vhdx.ops.create import create
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder


def raw(content: bytes | bytearray, size: int | None = None) -> RawDevice:
    store = MemoryStore(content)
    store.truncate(len(content) if size is None else size)
    return RawDevice(store)


def expected(a: bytearray, b: bytearray) -> Difference | None:
    length = max(len(a), len(b))
    x, y = a.ljust(length, b"\0"), b.ljust(length, b"\0")
    return next((Difference(at) for at in range(length) if x[at] != y[at]), None)


@settings(max_examples=60)
@given(
    st.integers(1, 600_000),
    st.integers(0, 300_000),
    st.lists(st.tuples(st.integers(0, 900_000), st.integers(1, 255)), max_size=3),
    st.booleans(),
)
def test_first_difference_is_that_of_the_bytes(
    size: int, more: int, changes: list[tuple[int, int]], dense: bool
) -> None:
    a = bytearray((b"\x05" if dense else b"\0") * size)
    b = bytearray(a + bytes(more))
    for offset, value in changes:
        b[offset % len(b)] = value
    assert compare(raw(bytes(a)), raw(bytes(b))) == expected(a, b)
    assert compare(raw(bytes(b)), raw(bytes(a))) == expected(a, b)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_lowest_of_many_differences_is_told(threads: int) -> None:
    content = bytearray(b"\x07" * (70 * MIB))
    other = bytearray(content)
    for offset in (17 * MIB - 1, 17 * MIB, 33 * MIB, 69 * MIB):
        other[offset] = 8
    assert compare(raw(content), raw(other), threads=threads) == Difference(17 * MIB - 1)


def test_image_and_its_raw_copy_are_the_same() -> None:
    image = ImageBuilder(4 * MIB + 512)
    image.add_block(1, b"content" * 1000)
    copy = MemoryStore()
    with vhdx.open(image.build_store()) as disk:
        convert(disk, copy)
        assert compare(disk, RawDevice(copy)) is None
        copy.pwrite(b"!", 4 * MIB + 511)
        assert compare(disk, RawDevice(copy)) == Difference(4 * MIB + 511)


def test_longer_disk_must_end_in_zeroes() -> None:
    assert compare(raw(b"x"), raw(b"x", MIB)) is None
    assert compare(raw(b"x"), raw(b"x" + bytes(5000) + b"y")) == Difference(5001)
    assert compare(raw(b""), raw(bytes(MIB))) is None


def test_zeroes_equal_holes_whether_written_or_not() -> None:
    written = MemoryStore(bytes(MIB))
    hole = MemoryStore()
    hole.truncate(MIB)
    assert compare(RawDevice(written), RawDevice(hole)) is None


def test_huge_empty_disks_are_compared_at_once() -> None:
    assert compare(raw(b"", 64 * TIB), raw(b"", 64 * TIB)) is None
    assert compare(raw(b"", 64 * TIB), raw(b"", 32 * TIB)) is None


def test_blocks_of_a_common_parent_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = tmp_path / "parent.vhdx"
    convert(raw(b"p" * (8 * MIB)), parent, format="vhdx", block_size=MIB)
    for name in ("a.vhdx", "b.vhdx"):
        create(tmp_path / name, parent=parent)
    read: list[int] = []
    with vhdx.open(tmp_path / "a.vhdx") as a, vhdx.open(tmp_path / "b.vhdx") as b:
        kind = type(a.images[1].file_store)
        original = kind.pread_into

        def counting(store: Any, buffer: Any, file_offset: int) -> int:
            count: int = original(store, buffer, file_offset)
            read.append(count)
            return count

        monkeypatch.setattr(kind, "pread_into", counting)
        assert compare(a, b) is None
    assert sum(read) < MIB


def test_absent_parent_is_an_error() -> None:
    parent = ImageBuilder(4 * MIB, name="parent")
    child = ImageBuilder.child_of(parent)
    with vhdx.open(child.build_store(), parents="none") as disk, pytest.raises(ParentNotFoundError):
        compare(disk, raw(bytes(4 * MIB)))


def test_progress_ends_at_the_total() -> None:
    told: list[tuple[int, int]] = []
    compare(raw(b"x" * MIB), raw(b"x" * MIB), progress=lambda *both: told.append(both))
    assert told[-1] == (2 * MIB, 2 * MIB)
