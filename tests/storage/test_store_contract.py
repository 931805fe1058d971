"""What `ByteStore` promises, asked of every store that can be written."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.units import MIB
from vhdx.storage.base import ByteStore, StoreKind, pread, pread_zero_extended
from vhdx.storage.file import FileStore
from vhdx.storage.fileobj import FileObjectStore
from vhdx.storage.memory import MemoryStore

Maker = Callable[[], ByteStore]


def _maker(kind: str, directory: Path) -> Maker:
    def from_file() -> ByteStore:
        path = directory / "store.bin"
        path.write_bytes(b"")
        return FileStore.open(path, writable=True)

    return {
        "file": from_file,
        "memory": MemoryStore,
        "object": lambda: FileObjectStore(io.BytesIO()),
    }[kind]


@pytest.fixture(params=["file", "memory", "object"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Maker:
    return _maker(request.param, tmp_path)


@pytest.fixture
def any_store(make: Maker) -> Iterator[ByteStore]:
    store = make()
    yield store
    store.close()


def test_new_store_is_empty(any_store: ByteStore) -> None:
    assert any_store.size() == 0
    assert pread(any_store, 10, 0) == b""


def test_written_bytes_are_read_back(any_store: ByteStore) -> None:
    any_store.pwrite(b"hello", 3)
    assert any_store.size() == 8
    assert pread(any_store, 8, 0) == b"\0\0\0hello"


def test_read_across_the_end_gives_what_is_there_and_leaves_the_rest_of_the_buffer(
    any_store: ByteStore,
) -> None:
    any_store.pwrite(b"abcdef", 0)
    buffer = bytearray(b"........")
    assert any_store.pread_into(buffer, 4) == 2
    assert buffer == b"ef......"
    assert any_store.pread_into(buffer, 6) == 0
    assert pread_zero_extended(any_store, 4, 5) == b"f\0\0\0"


@pytest.mark.parametrize("offset", [1 << 40, (1 << 63) - 1, 1 << 63, 1 << 64])
def test_read_far_past_the_end_gives_nothing(any_store: ByteStore, offset: int) -> None:
    any_store.pwrite(b"abc", 0)
    assert any_store.pread_into(bytearray(4096), offset) == 0


def test_truncate_shrinks_and_what_grows_again_is_zero(any_store: ByteStore) -> None:
    any_store.pwrite(b"x" * 100_000, 0)
    any_store.truncate(10)
    assert any_store.size() == 10
    any_store.truncate(100_000)
    assert any_store.size() == 100_000
    assert pread(any_store, 100_000, 0) == b"x" * 10 + bytes(99_990)


def test_write_zeroes_clears_just_the_range(any_store: ByteStore) -> None:
    any_store.pwrite(b"x" * 300_000, 0)
    any_store.write_zeroes(200_001, 12_345)
    expected = b"x" * 12_345 + bytes(200_001) + b"x" * (300_000 - 212_346)
    assert pread(any_store, 300_000, 0) == expected


def test_write_zeroes_past_the_end_extends(any_store: ByteStore) -> None:
    any_store.pwrite(b"x" * 10, 0)
    any_store.write_zeroes(100, 5)
    assert any_store.size() == 105
    any_store.write_zeroes(5, 200)
    assert pread(any_store, 1000, 0) == b"x" * 5 + bytes(200)


def test_zero_lengths_do_nothing(any_store: ByteStore) -> None:
    any_store.pwrite(b"", 1000)
    any_store.write_zeroes(0, 1000)
    assert any_store.pread_into(bytearray(), 0) == 0
    assert any_store.size() == 0


def test_buffers_of_any_item_size_are_counted_in_bytes(any_store: ByteStore) -> None:
    numbers: Any = np.arange(1000, dtype=np.uint64)
    any_store.pwrite(numbers, 8)
    back: Any = np.zeros((10, 100), dtype=np.uint64)
    assert any_store.pread_into(back, 8) == 8000
    assert (back.reshape(-1) == numbers).all()
    view = memoryview(bytearray(32)).cast("Q")
    assert any_store.pread_into(view, 16) == 32
    assert list(view) == [1, 2, 3, 4]
    assert any_store.pread_into(back, 8000) == 8  # a short one


def test_buffers_are_not_kept(any_store: ByteStore) -> None:
    buffer = bytearray(8)
    any_store.pwrite(buffer, 0)
    any_store.pread_into(buffer, 0)
    any_store.pread_into(buffer, 4)
    buffer.append(1)  # raises BufferError while anybody holds a view


def test_extents_cover_the_range_in_order_and_end_in_a_hole_past_the_end(any_store: ByteStore) -> None:
    any_store.pwrite(b"x" * 70_000, 0)
    extents = list(any_store.extents(1000, 1 << 50))
    position = 1000
    for extent in extents:
        assert extent.file_offset == position
        assert extent.length > 0
        position += extent.length
    assert position == 1000 + (1 << 50)
    assert extents[0].kind is StoreKind.DATA
    assert extents[-1].kind is StoreKind.HOLE
    assert extents[-1].file_offset >= 70_000
    assert list(any_store.extents(5, 0)) == []


def test_extents_past_the_end_are_one_hole(any_store: ByteStore) -> None:
    any_store.pwrite(b"x", 0)
    assert [(e.file_offset, e.length, e.kind) for e in any_store.extents(MIB, 5)] == [
        (MIB, 5, StoreKind.HOLE)
    ]


def test_closed_store_raises_value_error_for_every_call(any_store: ByteStore) -> None:
    any_store.pwrite(b"abc", 0)
    any_store.close()
    any_store.close()
    calls: list[Callable[[], object]] = [
        any_store.size,
        lambda: any_store.pread_into(bytearray(3), 0),
        lambda: any_store.pwrite(b"abc", 0),
        lambda: any_store.truncate(0),
        lambda: any_store.write_zeroes(1, 0),
        any_store.flush,
        lambda: list(any_store.extents(0, 3)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="closed"):
            call()


@pytest.mark.parametrize("offset", [-1, -(1 << 70)])
def test_negative_offset_raises_os_error_or_value_error_and_changes_nothing(
    any_store: ByteStore, offset: int
) -> None:
    any_store.pwrite(b"abc", 0)
    for call in (
        lambda: any_store.pread_into(bytearray(3), offset),
        lambda: any_store.pwrite(b"xyz", offset),
        lambda: any_store.write_zeroes(3, offset),
    ):
        with pytest.raises(OSError):
            call()
    assert pread(any_store, 10, 0) == b"abc"


def test_flush_of_an_open_store_succeeds(any_store: ByteStore) -> None:
    any_store.pwrite(b"abc", 0)
    any_store.flush()


_step = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 200_000), st.integers(0, 70_000), st.integers(1, 255)),
    st.tuples(st.just("zero"), st.integers(0, 200_000), st.integers(0, 140_000), st.just(0)),
    st.tuples(st.just("truncate"), st.integers(0, 260_000), st.just(0), st.just(0)),
)


@pytest.mark.parametrize("kind", ["file", "memory", "object"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_step, max_size=12))
def test_store_agrees_with_a_plain_bytearray(
    kind: str, tmp_path: Path, steps: list[tuple[str, int, int, int]]
) -> None:
    store = _maker(kind, tmp_path)()
    model = bytearray()
    for verb, offset, length, fill in steps:
        if verb == "write":
            store.pwrite(bytes([fill]) * length, offset)
        elif verb == "zero":
            store.write_zeroes(length, offset)
        else:
            store.truncate(offset)
            model = model[:offset] + bytes(max(0, offset - len(model)))
            continue
        if length:
            model += bytes(max(0, offset + length - len(model)))
            model[offset : offset + length] = bytes([fill]) * length
    assert store.size() == len(model)
    assert pread(store, len(model) + 1, 0) == model
    for extent in store.extents(0, len(model)):
        if extent.kind is StoreKind.HOLE:
            assert not any(model[extent.file_offset : extent.file_offset + extent.length])
    store.close()
