"""What lies past a file's last structure: growth that a killed writer left is given back, bytes are not."""

import errno
import os
from pathlib import Path

import pytest

import vhdx
from support.dirty import grow, unlogged
from support.units import MIB
from support.written_images import chain_bytes, faults
from vhdx import _host
from vhdx._buffer import Buffer
from vhdx.engine.session.file_tail import end_of_content
from vhdx.ops.create import create
from vhdx.storage.base import pread_zero_extended
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder
from vhdx.testing.stores import CountingStore, WatchedStore

DIRT = b"\xd1"


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


@pytest.mark.skipif(not _host.HAVE_SEEK_HOLE, reason="holes cannot be told, and 64 MiB are not read")
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


def test_looking_at_a_long_tail_reads_a_bounded_part_of_it() -> None:
    base = MemoryStore()
    base.pwrite(bytes(4 * MIB), 8 * MIB)
    base.truncate(1 << 40)
    for number in range(1000):
        base.pwrite(b"\0", (100 + 2 * number) * MIB)
    store = CountingStore(base)
    assert end_of_content(store, 4 * MIB, 1 << 40) == 1 << 40, "what was not looked at may hold something"
    assert store.work.bytes_read <= MIB
    assert end_of_content(store, 4 * MIB, 64 * MIB) == 12 * MIB
    assert end_of_content(store, 20 * MIB, 64 * MIB) == 0
    assert end_of_content(store, 64 * MIB, 64 * MIB) == 0


def test_whole_mibs_of_what_others_left_are_free_space_and_the_rest_is_not() -> None:
    described = image()
    described.trailing = b"s" * (2 * MIB + 512)
    store = described.build_store()
    used = store.size() - len(described.trailing)
    with vhdx.open(store, "r+") as disk:
        for block in range(1, 4):
            disk.pwrite(b"n", block * MIB)
        assert disk.pread(3 * MIB, MIB) == (b"n" + bytes(MIB - 1)) * 3
    assert pread_zero_extended(store, 512, used + 2 * MIB) == b"s" * 512
    assert store.size() == used + 4 * MIB, "two blocks in the whole MiBs, one above the rest"
    assert faults(store) == []


class Device(WatchedStore):
    """A block device, full to its end."""

    is_block_device = True

    def truncate(self, size: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        with memoryview(data) as view:
            self.check(file_offset + view.nbytes)
        super().pwrite(data, file_offset)

    def write_zeroes(self, length: int, file_offset: int) -> None:
        self.check(file_offset + length)
        super().write_zeroes(length, file_offset)

    def check(self, end: int) -> None:
        if end > self.size():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)


def test_trim_of_the_block_that_ends_a_device_leaves_its_length_alone() -> None:
    described = ImageBuilder(4 * MIB)
    for block in range(4):
        described.add_block(block, bytes([block]) * MIB)
    device = Device(described.build_store())
    with vhdx.open(device, "r+") as disk:
        disk.trim(MIB, 3 * MIB)
        disk.flush()
        disk.pwrite(b"n", 3 * MIB)
        disk.trim(MIB, 3 * MIB)
    assert device.size() == described.length()
    assert faults(device) == []


@pytest.mark.parametrize("spare", [0, 512 << 10, 2 * MIB, 2 * MIB + 512])
@pytest.mark.parametrize("is_dirty", [False, True])
def test_device_is_used_up_to_its_end_and_is_then_full(spare: int, *, is_dirty: bool) -> None:
    described = image()
    used = described.build_store().size()
    if is_dirty:
        described.dirty_log(described.bat_change(1, 2))
    device = Device(described.build_store())
    device.base.truncate(used + spare)
    device.base.pwrite(DIRT * spare, used)
    with vhdx.open(device, "r+") as disk:
        room = spare // MIB
        for block in range(2, 2 + room):
            disk.pwrite(b"n", block * MIB)
        with pytest.raises(OSError) as caught:
            disk.pwrite(b"n", (2 + room) * MIB)
        assert caught.value.errno == errno.ENOSPC
        disk.pwrite(b"m", 5)
        assert disk.pread(room * MIB, 2 * MIB) == (b"n" + bytes(MIB - 1)) * room
    assert device.size() == used + spare
    assert chain_bytes([device], 0, 16) == b"o" * 5 + b"m" + b"o" * 10
    assert faults(device) == []


def test_log_that_ends_a_mib_which_the_device_has_not_is_replayed() -> None:
    described = unlogged()
    described.dirty_log(grow(described))
    described.log_entries[-1].last_file_offset = described.length() + 1
    device = Device(described.build_store())
    device.base.truncate(described.length() + 512)
    with vhdx.open(device) as disk:
        content = disk.pread(disk.size, 0)
    with vhdx.open(device, "r+") as disk:
        disk.pwrite(content[:1], 0)
    assert device.size() == described.length() + 512
    assert chain_bytes([device], 0, len(content)) == content
    assert faults(device) == []
