"""Closing a disk that other threads are using: what had begun ends, what comes later is refused."""

import threading
from collections.abc import Callable

import pytest

import vhdx
from support.units import MIB
from support.written_images import current_header, faults
from vhdx.testing import ImageBuilder
from vhdx.testing.stores import StoreCall, WatchedStore

HANG_SECONDS = 30.0


class Paused:
    """A call in a thread of its own, which waits ahead of its nth write of payload until it is let go."""

    def __init__(self, store: WatchedStore, call: Callable[[], object], nth: int = 1) -> None:
        self.outcome: object = None
        self._go, self._inside = threading.Event(), threading.Event()
        self._call, self._left = call, nth
        self._thread = threading.Thread(target=self._work)
        store.before = self._before
        self._thread.start()
        assert self._inside.wait(HANG_SECONDS)

    def _before(self, call: StoreCall) -> None:
        if threading.current_thread() is self._thread and call.name == "pwrite" and call.length >= MIB:
            self._left -= 1
            if not self._left:
                self._inside.set()
                assert self._go.wait(HANG_SECONDS)

    def _work(self) -> None:
        try:
            self._call()
            self.outcome = "returned"
        except Exception as error:
            self.outcome = type(error)

    def let_go(self) -> object:
        """Let the call go on; return how it ended."""
        self._go.set()
        self._thread.join(HANG_SECONDS)
        assert not self._thread.is_alive()
        return self.outcome


def opened() -> tuple[WatchedStore, vhdx.Disk]:
    """An image with one block, a session that has begun, and space that has just been freed."""
    image = ImageBuilder(200 * MIB)
    image.add_block(0, b"o" * MIB)
    store = WatchedStore(image.build_store())
    disk = vhdx.open(store, "r+")
    disk.pwrite(b"1" * MIB, 2 * MIB)
    disk.trim(MIB, 2 * MIB)
    return store, disk


def closing(disk: vhdx.Disk) -> threading.Thread:
    """A thread that closes a disk, and has got as far as it gets while others are at work."""
    thread = threading.Thread(target=disk.close)
    thread.start()
    thread.join(0.05)
    return thread


@pytest.mark.parametrize("fua", [False, True])
def test_close_waits_for_a_write_under_way(fua: bool) -> None:
    store, disk = opened()
    write = Paused(store, lambda: disk.pwrite(b"data" * (MIB // 4), 5 * MIB, fua=fua))
    thread = closing(disk)
    assert thread.is_alive()
    # What it wrote is durable when `close` returns; its own flush may find the image closed.
    assert write.let_go() in ("returned", vhdx.ImageClosedError if fua else "returned")
    thread.join(HANG_SECONDS)
    assert faults(store) == []
    with vhdx.open(store) as again:
        assert not again.is_dirty
        assert again.pread(4, 5 * MIB) == b"data"


def test_write_that_goes_on_after_the_close_is_refused_from_its_next_block_on() -> None:
    store, disk = opened()
    write = Paused(store, lambda: disk.pwrite(b"data" * (40 * MIB // 4), 5 * MIB), nth=3)
    thread = closing(disk)
    assert write.let_go() is vhdx.ImageClosedError
    thread.join(HANG_SECONDS)
    assert faults(store) == []
    with vhdx.open(store) as again:
        assert again.pread(3 * MIB, 5 * MIB) == b"data" * (3 * MIB // 4)
        assert again.pread(MIB, 8 * MIB) == bytes(MIB)


def test_nothing_of_a_closed_disk_begins() -> None:
    store, disk = opened()
    disk.close()
    before = len(store.calls)
    for call in (
        lambda: disk.pwrite(b"x", 0),
        lambda: disk.write_zeroes(MIB, 0),
        lambda: disk.trim(MIB, 0),
        disk.flush,
        lambda: disk.pread(1, 0),
        disk.pin,
    ):
        with pytest.raises(vhdx.ImageClosedError):
            call()
    assert len(store.calls) == before


def test_close_does_not_wait_for_ranges_that_are_still_open() -> None:
    store, disk = opened()
    with disk.ranges(0, MIB) as ranges:
        next(ranges)
        disk.close()
    assert faults(store) == []


def test_close_in_the_midst_of_the_same_thread_s_write_does_not_wait_for_itself() -> None:
    store, disk = opened()

    def close_once(call: StoreCall) -> None:
        if call.name == "pwrite" and call.length == MIB:
            store.before = lambda _: None
            disk.close()  # as the handler of a signal may do

    store.before = close_once
    disk.pwrite(b"data" * (MIB // 4), 5 * MIB)
    assert faults(store) == []
    with vhdx.open(store) as again:
        assert again.pread(MIB, 0) == b"o" * MIB


def test_write_that_is_refused_before_it_changes_anything_leaves_the_identity_alone() -> None:
    parent = ImageBuilder(8 * MIB, name="parent")
    store = ImageBuilder.child_of(parent).build_store()
    before = current_header(store)
    with vhdx.open(store, "r+", parents="none") as disk, pytest.raises(vhdx.ParentNotFoundError):
        disk.pwrite(b"x", 700)  # a part of a sector needs the rest from the parent
    assert current_header(store) == before
