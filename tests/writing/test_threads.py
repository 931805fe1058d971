"""Many threads on one disk: what each wrote is there, and nobody sees what is not his."""

import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

import vhdx
from support.units import MIB
from support.written_images import assert_sound
from vhdx.format.bat import PayloadState
from vhdx.storage.base import pread_zero_extended
from vhdx.storage.file import FileStore
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder
from vhdx.testing.crash import Content

THREADS = 8
PIECE = 512 // THREADS
"""Bytes that a thread has of every sector."""


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def run_together(workers: Sequence[Callable[[], None]]) -> None:
    """Run each in a thread of its own, begun together; the first exception is raised."""
    start = threading.Barrier(len(workers))

    def begin(worker: Callable[[], None]) -> None:
        start.wait()
        worker()

    with ThreadPoolExecutor(len(workers)) as pool:
        for done in [pool.submit(begin, worker) for worker in workers]:
            done.result()


def chain(kind: str) -> tuple[list[MemoryStore], Content]:
    """An image of 8 blocks with nothing in them, over dirty space and a parent perhaps; and its content."""
    model = Content(size=8 * MIB)
    parents: list[MemoryStore] = []
    if kind == "child":
        parent = ImageBuilder(8 * MIB, name="parent")
        for block in range(8):
            parent.add_block(block, b"p" * MIB)
        model.write(b"p" * 8 * MIB, 0)
        parents.append(parent.build_store())
        image = ImageBuilder.child_of(parent, block_size=MIB)
    else:
        image = ImageBuilder(8 * MIB)
        for block in range(8):
            image.set_block(block, PayloadState.ZERO)
    image.content.append((image.allocate(4 * MIB), b"\xd1" * 4 * MIB))
    return [image.build_store(), *parents], model


@pytest.mark.parametrize("kind", ["dynamic", "child"])
@pytest.mark.parametrize("round_", range(3))
def test_bytes_of_one_sector_written_by_many_threads_are_all_there(kind: str, round_: int) -> None:
    stores, model = chain(kind)
    written: list[dict[int, bytes]] = [{} for _ in range(THREADS)]
    with vhdx.open(stores[0], "r+", parents=stores[1:]) as disk:

        def worker(index: int) -> None:
            chance = random.Random(f"{round_} {index}")
            for number in range(60):
                # Every block is new to all of them at about the same time.
                offset = number // 8 * MIB + chance.randrange(12) * 512 + index * PIECE
                data = bytes([index * 16 + number % 16]) * PIECE
                disk.pwrite(data, offset)
                written[index][offset] = data
                assert disk.pread(PIECE, offset) == data
                if chance.random() < 0.1:
                    disk.flush()

        run_together([partial(worker, index) for index in range(THREADS)])
    for pieces in written:
        for offset, data in pieces.items():
            model.write(data, offset)
    assert_sound(stores, model)


def own_blocks(disk: vhdx.Disk, model: Content, index: int, seed: int) -> None:
    """Change the blocks that are this thread's alone in every way, and compare what they read as."""
    chance = random.Random(f"{seed} {index}")
    start = index * MIB
    for number in range(25):
        match chance.choice(("write", "write", "whole", "trim", "zero", "read", "flush")):
            case "write":
                offset, data = (
                    start + chance.randrange(MIB - 5000),
                    bytes([number + 1]) * chance.randrange(5000),
                )
                disk.pwrite(data, offset)
                model.write(data, offset)
            case "whole":
                disk.pwrite(bytes([number + 1]) * MIB, start)
                model.write(bytes([number + 1]) * MIB, start)
            case "trim":
                disk.trim(MIB, start)
                model.clear(start, start + MIB)
            case "zero":
                length = chance.choice((3000, MIB))
                disk.write_zeroes(length, start, may_unmap=chance.random() < 0.7)
                model.clear(start, start + length)
            case "flush":
                disk.flush()
        assert disk.pread(MIB, start) == model.read(MIB, start)


@pytest.mark.parametrize("kind", ["dynamic", "child", "file"])
def test_blocks_changed_in_every_way_by_a_thread_each_are_their_models(tmp_path: Path, kind: str) -> None:
    stores, start = chain(kind)
    models = [start.copy() for _ in range(THREADS)]
    leaf: MemoryStore | FileStore = stores[0]
    if kind == "file":
        path = tmp_path / "disk.vhdx"
        path.write_bytes(pread_zero_extended(stores[0], stores[0].size(), 0))
        leaf = FileStore.open(path, writable=True)
    with vhdx.open(leaf, "r+", parents=stores[1:]) as disk:
        run_together([partial(own_blocks, disk, models[index], index, 5) for index in range(THREADS)])
    model = Content(size=8 * MIB)
    for index, part in enumerate(models):
        model.write(part.read(MIB, index * MIB), index * MIB)
    assert_sound([leaf, *stores[1:]], model)
    leaf.close()


def test_readers_never_see_another_blocks_bytes() -> None:
    image = ImageBuilder(4 * MIB)
    image.content.append((image.allocate(2 * MIB), b"\xd1" * 2 * MIB))
    store = image.build_store()
    stop = threading.Event()
    seen: set[bytes] = set()
    with vhdx.open(store, "r+") as disk:

        def writer(block: int) -> None:
            try:
                for _ in range(40):
                    disk.pwrite(bytes([block + 1]) * MIB, block * MIB)
                    disk.flush()
                    disk.trim(MIB, block * MIB)
                    disk.flush()
            finally:
                stop.set()

        def reader(block: int) -> None:
            allowed = {b"\0", bytes([block + 1])}
            while not stop.is_set():
                data = disk.pread(MIB, block * MIB)
                found = {data[at : at + 1] for at in range(0, MIB, 512)}
                assert found <= allowed
                seen.update(found)

        run_together([partial(each, block) for each in (writer, reader) for block in range(4)])
    assert seen, "the readers never ran"
    assert_sound([store], Content(size=4 * MIB))
