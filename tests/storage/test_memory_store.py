"""Memory."""

import io
import threading
import tracemalloc
from collections.abc import Callable

import pytest

from support.units import MIB, TIB
from vhdx.storage.base import StoreExtent, StoreKind, pread
from vhdx.storage.memory import PAGE_SIZE, MemoryStore


def test_initial_content_is_copied() -> None:
    content = bytearray(b"abc")
    store = MemoryStore(content, "mine")
    content[0] = 0
    assert (store.name, store.size(), pread(store, 5, 0)) == ("mine", 3, b"abc")
    assert store.fileno() is None


def test_read_only_store_refuses_every_change() -> None:
    store = MemoryStore(b"abc", writable=False)
    calls: list[Callable[[], None]] = [
        lambda: store.pwrite(b"x", 0),
        lambda: store.truncate(0),
        lambda: store.write_zeroes(1, 0),
    ]
    for call in calls:
        with pytest.raises(io.UnsupportedOperation, match="not open for writing"):
            call()
    assert pread(store, 5, 0) == b"abc"


def test_bytes_far_out_take_no_space_before_them() -> None:
    tracemalloc.start()
    try:
        store = MemoryStore()
        store.pwrite(b"end", 64 * TIB - 3)
        store.truncate(100 * TIB)
        store.write_zeroes(10 * TIB, 80 * TIB)
        extents = list(store.extents(0, 100 * TIB))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MIB
    assert extents == [
        StoreExtent(0, 64 * TIB - PAGE_SIZE, StoreKind.HOLE),
        StoreExtent(64 * TIB - PAGE_SIZE, PAGE_SIZE, StoreKind.DATA),
        StoreExtent(64 * TIB, 36 * TIB, StoreKind.HOLE),
    ]
    assert pread(store, 6, 64 * TIB - 3) == b"end\0\0\0"


def test_pages_never_written_overwrite_the_reader_s_buffer_with_zeroes() -> None:
    store = MemoryStore()
    store.truncate(MIB)
    buffer = bytearray(b"\xee" * MIB)
    assert store.pread_into(buffer, 10) == MIB - 10
    assert buffer == bytes(MIB - 10) + b"\xee" * 10


def test_neighbouring_pages_are_one_extent() -> None:
    store = MemoryStore(b"x" * (3 * PAGE_SIZE))
    store.pwrite(b"y", 5 * PAGE_SIZE)
    assert list(store.extents(10, 6 * PAGE_SIZE)) == [
        StoreExtent(10, 3 * PAGE_SIZE - 10, StoreKind.DATA),
        StoreExtent(3 * PAGE_SIZE, 2 * PAGE_SIZE, StoreKind.HOLE),
        StoreExtent(5 * PAGE_SIZE, 1, StoreKind.DATA),
        StoreExtent(5 * PAGE_SIZE + 1, PAGE_SIZE + 9, StoreKind.HOLE),
    ]


def test_zeroed_pages_become_holes() -> None:
    store = MemoryStore(b"x" * (3 * PAGE_SIZE))
    store.write_zeroes(PAGE_SIZE + 10, PAGE_SIZE - 5)
    assert [extent.kind for extent in store.extents(0, 3 * PAGE_SIZE)] == [
        StoreKind.DATA,
        StoreKind.HOLE,
        StoreKind.DATA,
    ]
    assert pread(store, 3 * PAGE_SIZE, 0) == b"x" * (PAGE_SIZE - 5) + bytes(PAGE_SIZE + 10) + b"x" * (
        PAGE_SIZE - 5
    )


def test_threads_that_append_to_one_page_lose_nothing() -> None:
    store = MemoryStore()

    def work(number: int) -> None:
        for position in range(number, 4000, 4):
            store.pwrite(bytes([number + 1]), position)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pread(store, 4000, 0) == bytes([1, 2, 3, 4]) * 1000
