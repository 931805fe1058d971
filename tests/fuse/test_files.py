"""The files of a mount, without a mount: windows on a device, what they own, where their holes are."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import vhdx
from support.units import MIB, TIB
from vhdx.blockdev.device import Limits, clip_length
from vhdx.blockdev.extent import Extent
from vhdx.disks.chain import Disk
from vhdx.disks.raw import RawDevice
from vhdx.fuse.allocation import EXTENTS_PER_QUESTION, EXTENTS_PER_SEEK
from vhdx.fuse.files import DiskFile, disk_files
from vhdx.guest.partition import Partition
from vhdx.ops.create import create
from vhdx.storage.memory import MemoryStore

WINDOW = Partition(1, 3 * MIB, 4 * MIB, "0x83")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    create(tmp_path / "disk.vhdx", 16 * MIB, block_size=MIB)
    with vhdx.open(tmp_path / "disk.vhdx", "r+") as disk:
        yield disk


def files_of(disk: Disk) -> tuple[DiskFile, DiskFile]:
    whole, window = disk_files(disk, [WINDOW], 0)
    return whole, window


def test_files_are_named_and_as_long_as_what_they_show(disk: Disk) -> None:
    assert [(file.name, file.size) for file in files_of(disk)] == [("disk.raw", 16 * MIB), ("p1", 4 * MIB)]


def test_partition_is_a_window_on_the_disk(disk: Disk) -> None:
    whole, window = files_of(disk)
    assert window.write(b"window", 100) == 6
    buffer = bytearray(6)
    assert whole.read_into(memoryview(buffer), 3 * MIB + 100) == 6
    assert buffer == b"window"


def test_reading_stops_at_the_end_of_the_window(disk: Disk) -> None:
    disk.pwrite(b"x" * 16 * MIB, 0)
    window = files_of(disk)[1]
    buffer = bytearray(1000)
    assert window.read_into(memoryview(buffer), 4 * MIB - 10) == 10
    assert buffer == b"x" * 10 + bytes(990)
    assert window.read_into(memoryview(buffer), 4 * MIB) == 0
    assert window.read_into(memoryview(buffer), 1 << 62) == 0


def test_nothing_is_written_outside_the_window(disk: Disk) -> None:
    window = files_of(disk)[1]
    assert window.write(b"y" * 1000, 4 * MIB - 10) == 10
    window.write_zeroes(MIB, 4 * MIB - 5, may_unmap=False)
    for past in (4 * MIB, 5 * MIB):
        with pytest.raises(OSError, match="No space left") as caught:
            window.write(b"y", past)
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="No space left"):
            window.write_zeroes(1, past, may_unmap=True)
    assert disk.pread(20, 7 * MIB - 10) == b"y" * 5 + bytes(15)


def test_allocated_bytes_are_those_of_the_window_and_follow_changes(disk: Disk) -> None:
    whole, window = files_of(disk)
    assert (whole.allocated_bytes(), window.allocated_bytes()) == (0, 0)
    whole.write(b"outside", 0)
    assert (whole.allocated_bytes(), window.allocated_bytes()) == (MIB, 0)
    window.write(b"inside", 0)
    assert (whole.allocated_bytes(), window.allocated_bytes()) == (2 * MIB, MIB)
    whole.write_zeroes(MIB, 3 * MIB, may_unmap=True)
    assert (whole.allocated_bytes(), window.allocated_bytes()) == (MIB, 0)


def test_seeking_finds_data_and_holes_in_the_window(disk: Disk) -> None:
    disk.pwrite(b"before", 2 * MIB)
    disk.pwrite(b"inside", 5 * MIB)
    window = files_of(disk)[1]
    assert window.seek(0, os.SEEK_DATA) == 2 * MIB
    assert window.seek(2 * MIB + 7, os.SEEK_DATA) == 2 * MIB + 7
    assert window.seek(0, os.SEEK_HOLE) == 0
    assert window.seek(2 * MIB, os.SEEK_HOLE) == 3 * MIB
    for offset, whence in ((3 * MIB, os.SEEK_DATA), (4 * MIB, os.SEEK_HOLE), (-1, os.SEEK_HOLE)):
        with pytest.raises(OSError, match="No such device") as caught:
            window.seek(offset, whence)
        assert caught.value.errno == errno.ENXIO


def test_end_of_a_full_file_counts_as_a_hole(disk: Disk) -> None:
    disk.pwrite(b"d" * 16 * MIB, 0)
    assert [file.seek(0, os.SEEK_HOLE) for file in files_of(disk)] == [16 * MIB, 4 * MIB]


def test_time_is_that_of_the_image_until_something_is_written(disk: Disk) -> None:
    whole, window = disk_files(disk, [WINDOW], 1234)
    window.write(b"x", 0)
    assert whole.mtime_ns == 1234 < window.mtime_ns


class Fragmented(RawDevice):
    """64 TiB of which every other block of 1 MiB is a hole, without a table; counts what it is asked."""

    def __init__(self, *, alternating: bool = True) -> None:
        super().__init__(MemoryStore())
        self._size = 64 * TIB
        self._alternating = alternating
        self.asked = 0

    @property
    def limits(self) -> Limits:
        return super().limits._replace(allocation_size=MIB)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = offset + clip_length(self.size, offset, length)
        while offset < end:
            stop = min((offset // MIB + 1) * MIB, end)
            hole = self._alternating and offset // MIB % 2 == 0
            self.asked += 1
            place = None if hole else offset * 2
            yield Extent(
                offset, stop - offset, zero=hole, hole=hole, present=True, depth=0, file_offset=place
            )
            offset = stop


def test_table_of_millions_of_entries_is_judged_a_piece_at_a_time() -> None:
    device = Fragmented()
    (file,) = disk_files(device, [], 0)
    slice_blocks = 64 * TIB // 1024 // MIB
    before, told = 0, []
    for _ in range(3):
        told.append(file.allocated_bytes())
        assert device.asked - before <= EXTENTS_PER_QUESTION + slice_blocks
        before = device.asked
    assert 64 * TIB > told[0] > told[1] > told[2] > 32 * TIB


def test_allocated_bytes_become_exact_and_are_not_counted_again() -> None:
    device = Fragmented()
    device._size = 4 * TIB // 64
    (file,) = disk_files(device, [], 0)
    for _ in range(1024):
        figure = file.allocated_bytes()
    assert figure == device.size // 2
    asked = device.asked
    assert file.allocated_bytes() == figure
    assert device.asked == asked


def test_allocated_bytes_are_counted_again_only_where_something_changed(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(Path(disk.images[0].name).with_name("large.vhdx"), 1 << 40, block_size=MIB)
    with vhdx.open(Path(disk.images[0].name).with_name("large.vhdx"), "r+") as large:
        (file,) = disk_files(large, [], 0)
        assert file.allocated_bytes() == 0
        asked: list[int] = []
        extents = large.extents

        def counting(offset: int = 0, length: int | None = None) -> Iterator[Extent]:
            asked.append(offset)
            return extents(offset, length)

        monkeypatch.setattr(large, "extents", counting)
        file.write(b"x", 5 << 30)
        assert file.allocated_bytes() == MIB
        assert asked == [5 << 30]


@pytest.mark.parametrize("offset", [0, MIB, 5 * MIB, 64 * TIB - MIB])
def test_seeking_to_near_data_or_holes_asks_for_few_extents(offset: int) -> None:
    device = Fragmented()
    (file,) = disk_files(device, [], 0)
    assert file.seek(offset, os.SEEK_DATA) == (offset if offset // MIB % 2 else offset + MIB)
    assert device.asked <= 2
    assert file.seek(offset, os.SEEK_HOLE) == (offset + MIB if offset // MIB % 2 else offset)
    assert device.asked <= 4


def test_search_that_finds_no_hole_gives_up_and_claims_none() -> None:
    device = Fragmented(alternating=False)
    (file,) = disk_files(device, [], 0)
    assert file.seek(0, os.SEEK_HOLE) == 64 * TIB
    assert device.asked <= EXTENTS_PER_SEEK + 1


class Refusing(Fragmented):
    """Holes only, in a table that does not join them."""

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        for extent in super().extents(offset, length):
            yield extent._replace(zero=True, hole=True, file_offset=None)


def test_search_that_finds_no_data_gives_up_and_claims_some() -> None:
    device = Refusing()
    (file,) = disk_files(device, [], 0)
    assert file.seek(0, os.SEEK_DATA) == EXTENTS_PER_SEEK * MIB
    assert device.asked <= EXTENTS_PER_SEEK + 1


def test_empty_disk_is_an_empty_file() -> None:
    (file,) = disk_files(RawDevice(MemoryStore()), [], 0)
    assert (file.size, file.allocated_bytes()) == (0, 0)
    assert file.read_into(memoryview(bytearray(1)), 0) == 0
