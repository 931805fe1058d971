"""How often the device is flushed: two times for a guest's flush with dirty tables, once without.

Every exception is one of those that docs/design.md names, and has its exact number here.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import Final

import pytest

import vhdx
from support.dirty import grow, unlogged
from support.units import GIB, MIB
from support.written_images import faults
from vhdx.testing import ImageBuilder
from vhdx.testing.stores import StoreCall, WatchedStore

HEADERS: Final = 2
"""Both headers, one flush each."""
SESSION: Final = 1 + HEADERS
"""New GUIDs."""
LOG_START: Final = 1 + HEADERS
"""The empty entry, and the headers that name its GUID."""
COMMIT: Final = 2
PLAIN: Final = 1
"""A flush with nothing in the tables to make durable."""
REPLAY: Final = 1 + HEADERS
NEW_LOG: Final = 1 + HEADERS
LOG_END: Final = 1 + HEADERS
"""Pages in place, and the headers that say the log is empty."""


def open_watched(image: ImageBuilder) -> tuple[WatchedStore, vhdx.Disk]:
    watched = WatchedStore(image.build_store())
    return watched, vhdx.open(watched, "r+")


def full_image() -> ImageBuilder:
    image = ImageBuilder(300 * MIB)
    image.add_block(0, b"o" * MIB)
    return image


def test_flush_of_an_untouched_disk_flushes_nothing() -> None:
    watched, disk = open_watched(full_image())
    assert watched.count_flushes(disk.flush) == 0
    assert watched.count_flushes(disk.close) == 0


def test_flush_after_writing_in_place_costs_one() -> None:
    watched, disk = open_watched(full_image())
    assert watched.count_flushes(lambda: disk.pwrite(b"n", 5)) == SESSION
    for _ in range(3):
        disk.pwrite(b"n", 5)
        assert watched.count_flushes(disk.flush) == PLAIN
    disk.pwrite(b"n", 5)
    assert watched.count_flushes(disk.close) == PLAIN


STEADY: dict[str, Callable[[vhdx.Disk, int], object]] = {
    "write": lambda disk, block: disk.pwrite(b"n" * 512, block * MIB),
    "zero": lambda disk, block: disk.write_zeroes(MIB, block * MIB),
    "zero kept": lambda disk, block: disk.write_zeroes(MIB, block * MIB, may_unmap=False),
    "trim": lambda disk, block: disk.trim(MIB, block * MIB),
}


@pytest.mark.parametrize("kind", STEADY)
def test_flush_after_changing_tables_costs_two(kind: str) -> None:
    image = ImageBuilder(300 * MIB)
    if kind == "trim":
        for block in range(6):
            image.add_block(block, b"o")
    watched, disk = open_watched(image)
    assert watched.count_flushes(lambda: STEADY[kind](disk, 0)) == SESSION
    assert watched.count_flushes(disk.flush) == COMMIT + LOG_START
    for block in (1, 2, 3):
        assert watched.count_flushes(partial(STEADY[kind], disk, block)) == 0
        assert watched.count_flushes(disk.flush) == COMMIT
    assert watched.count_flushes(disk.flush) == PLAIN
    STEADY[kind](disk, 4)
    assert watched.count_flushes(disk.close) == COMMIT + LOG_END


def test_many_writes_share_one_commit() -> None:
    watched, disk = open_watched(full_image())
    for block in range(1, 200):
        disk.pwrite(b"n", block * MIB)
    assert watched.count_flushes(disk.flush) == COMMIT + LOG_START
    disk.close()


def test_fua_costs_the_same_as_a_flush() -> None:
    watched, disk = open_watched(full_image())
    disk.pwrite(b"n", MIB, fua=True)
    assert watched.count_flushes(lambda: disk.pwrite(b"n", 2 * MIB, fua=True)) == COMMIT
    assert watched.count_flushes(lambda: disk.pwrite(b"n", 2 * MIB, fua=True)) == PLAIN
    assert watched.count_flushes(lambda: disk.trim(MIB, 2 * MIB, fua=True)) == COMMIT
    assert watched.count_flushes(lambda: disk.write_zeroes(MIB, MIB, fua=True)) == COMMIT
    disk.close()


def test_writing_to_a_child_costs_no_more_flushes() -> None:
    parent = ImageBuilder(300 * MIB, name="parent")
    watched = WatchedStore(ImageBuilder.child_of(parent).build_store())
    disk = vhdx.open(watched, "r+", parents=[parent.build_store()])
    disk.pwrite(b"n" * 512, 0, fua=True)
    for block in range(1, 4):
        assert watched.count_flushes(partial(disk.pwrite, b"n" * 512, block * MIB, fua=True)) == COMMIT
    disk.close()


def test_restart_of_a_full_log_costs_five_more_once() -> None:
    watched, disk = open_watched(full_image())
    disk.pwrite(b"n", MIB, fua=True)
    costs = [
        watched.count_flushes(partial(disk.pwrite, b"n", block * MIB, fua=True)) for block in range(2, 260)
    ]
    # Of the log's 256 sectors the empty entry takes one, every other entry two, and two stay free.
    restarts = [index for index, cost in enumerate(costs) if cost != COMMIT]
    assert restarts == [125, 125 + 126]
    assert {costs[index] for index in restarts} == {HEADERS + LOG_START + COMMIT}
    disk.close()
    assert faults(watched) == []


def test_more_pages_than_an_entry_takes_are_committed_meanwhile() -> None:
    pages = 126
    watched, disk = open_watched(ImageBuilder(256 * GIB))
    disk.pwrite(b"n", 0, fua=True)
    before = watched.flushes
    for page in range(1, pages + 1):
        disk.pwrite(b"n", page * 512 * MIB)
    assert watched.flushes == before
    assert watched.count_flushes(lambda: disk.pwrite(b"n", (pages + 1) * 512 * MIB)) == COMMIT
    assert watched.count_flushes(disk.flush) == COMMIT
    disk.close()
    assert faults(watched) == []


@pytest.mark.parametrize("change", ["in place", "allocate"])
def test_replay_of_a_dirty_log_costs_three_more(change: str) -> None:
    image = unlogged()
    image.dirty_log(grow(image))
    watched, disk = open_watched(image)
    at = 0 if change == "in place" else 2 * MIB
    assert watched.count_flushes(lambda: disk.pwrite(b"n", at)) == SESSION + REPLAY
    assert watched.count_flushes(disk.flush) == (PLAIN if change == "in place" else COMMIT + LOG_START)
    disk.close()


def test_new_log_costs_three_more() -> None:
    image = full_image()
    image.each_header(log_length=0, log_offset=0)
    watched, disk = open_watched(image)
    assert watched.count_flushes(lambda: disk.pwrite(b"n", 0)) == SESSION + NEW_LOG
    disk.close()


def test_flushes_that_wait_together_share_one_commit() -> None:
    watched, disk = open_watched(full_image())
    disk.pwrite(b"n", MIB, fua=True)
    begun, go_on = threading.Event(), threading.Event()

    def hold(call: StoreCall) -> None:
        if call.name == "flush" and not begun.is_set():
            begun.set()
            assert go_on.wait(60)

    disk.pwrite(b"n", 2 * MIB)
    watched.before = hold
    before = watched.flushes
    threads = [threading.Thread(target=disk.flush)]
    threads[0].start()
    assert begun.wait(60)
    disk.pwrite(b"n", 3 * MIB)
    waiting = threading.Barrier(9)

    def flush_with_others() -> None:
        waiting.wait()
        disk.flush()

    threads += [threading.Thread(target=flush_with_others) for _ in range(8)]
    for thread in threads[1:]:
        thread.start()
    waiting.wait()
    _until_all_wait(disk, len(threads))
    go_on.set()
    for thread in threads:
        thread.join()
    assert watched.flushes - before == COMMIT + COMMIT
    disk.close()


def _until_all_wait(disk: vhdx.Disk, count: int) -> None:
    writer = disk.images[0].writer
    assert writer is not None
    committer = writer.session._committer
    start = committer._served
    while committer._requested < start + count:
        threading.Event().wait(0.001)
