"""What lies past a file's last structure: growth that a killed writer left is given back, bytes are not."""

from pathlib import Path

import pytest

import vhdx
from support.dirty import grow, unlogged
from vhdx._buffer import Buffer
from vhdx._units import MIB
from vhdx.engine.file_tail import end_of_content
from vhdx.ops.create import create
from vhdx.storage import host
from vhdx.storage.base import pread_zero_extended
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder
from writing.disks import chain_bytes, faults
from writing.stores import WatchedStore


def image() -> ImageBuilder:
    described = ImageBuilder(16 * MIB)
    described.add_block(0, b"o" * MIB)
    return described


def write_once(store: MemoryStore | WatchedStore) -> None:
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n", 5)


@pytest.mark.parametrize("tail", [64 * MIB, 512, 3 * MIB + 512])
def test_zeroes_after_the_last_structure_are_given_back_by_a_session_that_writes(tail: int) -> None:
    store = image().build_store()
    used = store.size()
    store.truncate(used + tail)
    vhdx.open(store, "r+").close()
    assert store.size() == used + tail, "who changes nothing takes nothing away"
    write_once(store)
    assert store.size() == used
    assert faults(store) == []


def test_written_zeroes_are_as_good_as_holes() -> None:
    store = image().build_store()
    used = store.size()
    store.truncate(used + 8 * MIB)
    store.pwrite(bytes(512), used + 5 * MIB)
    write_once(store)
    assert store.size() == used


def test_bytes_that_somebody_left_stay_and_the_zeroes_behind_them_go() -> None:
    store = image().build_store()
    used = store.size()
    store.truncate(used + 64 * MIB)
    store.pwrite(b"somebody's", used + 2 * MIB + 100)
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"n" * MIB, 3 * MIB)
        disk.trim(MIB, 3 * MIB)
        disk.pwrite(b"n", 5)
    assert used + 2 * MIB + 110 <= store.size() < used + 4 * MIB
    assert pread_zero_extended(store, 10, used + 2 * MIB + 100) == b"somebody's"
    assert faults(store) == []


def test_tail_is_used_for_blocks_before_the_file_grows() -> None:
    watched = WatchedStore(image().build_store())
    used = watched.size()
    watched.base.truncate(used + 4 * MIB + 512)
    with vhdx.open(watched, "r+") as disk:
        for block in range(1, 7):
            disk.pwrite(b"n", block * MIB)
        assert disk.pread(6 * MIB, MIB) == (b"n" + bytes(MIB - 1)) * 6
    assert watched.size() == used + 6 * MIB
    assert [call.file_offset for call in watched.calls if call.name == "truncate"][-1] == used + 6 * MIB
    assert faults(watched) == []


def test_growth_in_a_dirty_log_is_given_back_too() -> None:
    described = unlogged()
    described.dirty_log(grow(described))
    described.log_entries[-1].last_file_offset = described.length() + 40 * MIB
    store = described.build_store()
    expected = vhdx.open(store)
    content = expected.pread(expected.size, 0)
    expected.close()
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(content[:1], 0)
        assert store.size() >= described.length() + 40 * MIB
    assert store.size() < described.length() + 2 * MIB
    assert chain_bytes([store], 0, len(content)) == content
    assert faults(store) == []


@pytest.mark.skipif(not host.HAVE_SEEK_HOLE, reason="holes cannot be told, and 64 MiB are not read")
def test_growth_of_a_writer_that_was_killed_is_given_back(tmp_path: Path) -> None:
    path, copy = tmp_path / "disk.vhdx", tmp_path / "killed.vhdx"
    create(path, 64 * MIB, block_size=MIB)
    with vhdx.open(path, "r+") as disk:
        disk.pwrite(b"k" * 4096, 9 * MIB, fua=True)
        with path.open("rb") as live, copy.open("wb") as dead:
            dead.write(live.read(5 * MIB))
            dead.truncate(path.stat().st_size)
        assert copy.stat().st_size > 64 * MIB
    with vhdx.open(copy, "r+") as disk:
        assert disk.pread(4096, 9 * MIB) == b"k" * 4096
        disk.pwrite(b"n", 9 * MIB)
    assert copy.stat().st_size == path.stat().st_size


class CountingStore(WatchedStore):
    """Counts the bytes that are read."""

    read = 0

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        with memoryview(buffer) as view:
            self.read += view.nbytes
        return super().pread_into(buffer, file_offset)


def test_looking_at_a_long_tail_reads_a_bounded_part_of_it() -> None:
    base = MemoryStore()
    base.pwrite(bytes(4 * MIB), 8 * MIB)
    base.truncate(1 << 40)
    for number in range(1000):
        base.pwrite(b"\0", (100 + 2 * number) * MIB)
    store = CountingStore(base)
    assert end_of_content(store, 4 * MIB, 1 << 40) == 1 << 40, "what was not looked at may hold something"
    assert store.read <= MIB
    assert end_of_content(store, 4 * MIB, 64 * MIB) == 12 * MIB
    assert end_of_content(store, 20 * MIB, 64 * MIB) == 0
    assert end_of_content(store, 64 * MIB, 64 * MIB) == 0


def test_length_of_a_block_device_is_left_alone() -> None:
    store = WatchedStore(MemoryStore(bytes(8 * MIB)))
    store.is_block_device = True  # type: ignore[attr-defined]
    assert end_of_content(store, MIB, 8 * MIB) == 8 * MIB
