"""Raw files as block devices."""

import os
from pathlib import Path

import pytest

from support.units import KIB, MIB
from vhdx import Ability, ImageClosedError, ImageLockedError, RequestError, _host
from vhdx.disks.raw import RawDevice
from vhdx.storage.file import FileStore
from vhdx.storage.memory import MemoryStore


@pytest.fixture
def odd_file(tmp_path: Path) -> Path:
    """A file of 1000 bytes: not a whole number of sectors."""
    path = tmp_path / "odd.raw"
    path.write_bytes(bytes(range(250)) * 4)
    return path


def test_size_need_not_be_a_multiple_of_anything(odd_file: Path) -> None:
    with RawDevice.open(odd_file) as device:
        assert device.size == 1000
        assert device.pread(1000, 0) == odd_file.read_bytes()
        assert device.pread(3, 997) == bytes((247, 248, 249))


@pytest.mark.parametrize(("length", "offset"), [(1, 1000), (1001, 0), (1, -1), (-1, 0)])
def test_range_outside_is_refused(odd_file: Path, length: int, offset: int) -> None:
    with RawDevice.open(odd_file) as device:
        with pytest.raises(RequestError):
            device.pread(length, offset)
        with pytest.raises(RequestError):
            device.extents(offset, length)
        with pytest.raises(RequestError), device.ranges(offset, length):
            pass


def test_nothing_at_the_end_is_no_error(odd_file: Path) -> None:
    with RawDevice.open(odd_file) as device:
        assert device.pread(0, 1000) == b""
        assert list(device.extents(1000, 0)) == []
        with device.ranges(1000, 0) as ranges:
            assert list(ranges) == []


def test_any_buffer_is_filled(odd_file: Path) -> None:
    from array import array

    words = array("H", [0] * 4)
    with RawDevice.open(odd_file) as device:
        device.pread_into(words, 2)
    assert words.tobytes() == odd_file.read_bytes()[2:10]


@pytest.mark.skipif(not _host.HAVE_SEEK_HOLE, reason="this system does not tell where holes are")
def test_holes_of_the_file_are_holes_of_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "sparse.raw"
    with path.open("wb") as file:
        file.truncate(4 * MIB)
        file.seek(MIB)
        file.write(b"x" * MIB)
    with RawDevice.open(path) as device:
        told = [(extent.offset, extent.length, extent.data) for extent in device.extents()]
        assert told == [(0, MIB, False), (MIB, MIB, True), (2 * MIB, 2 * MIB, False)]
        (part,) = device.extents(MIB + 5, 7)
        assert (part.offset, part.file_offset, part.length) == (MIB + 5, MIB + 5, 7)
        assert all(extent.zero == extent.hole for extent in device.extents())


def test_ranges_name_the_store_and_the_same_offset(odd_file: Path) -> None:
    with RawDevice.open(odd_file) as device, device.ranges(10, 20) as ranges:
        assert list(ranges) == [(device.store, 10, 20)]
        assert device.limits.ranges is Ability.NATIVE


def test_raw_disk_is_a_file_object_like_any_other(odd_file: Path) -> None:
    with RawDevice.open(odd_file) as device, device.stream() as stream:
        stream.seek(-10, os.SEEK_END)
        assert stream.read(100) == odd_file.read_bytes()[-10:]


def test_closed_device_answers_nothing() -> None:
    device = RawDevice.open(MemoryStore(b"x" * 512))
    device.close()
    device.close()
    with pytest.raises(ImageClosedError):
        device.pread(1, 0)
    with pytest.raises(ImageClosedError):
        device.extents()


def test_file_that_shrinks_is_an_error_not_zeroes(odd_file: Path) -> None:
    with RawDevice.open(odd_file) as device:
        os.truncate(odd_file, 500)
        with pytest.raises(OSError, match="shorter"):
            device.pread(1000, 0)


def test_file_in_use_by_a_writer_is_refused(odd_file: Path) -> None:
    with FileStore.open(odd_file, writable=True):
        with pytest.raises(ImageLockedError):
            RawDevice.open(odd_file)
        RawDevice.open(odd_file, lock=False).close()


def test_reading_changes_no_times(odd_file: Path) -> None:
    os.utime(odd_file, ns=(1, 1))
    before = odd_file.stat()
    with RawDevice.open(odd_file) as device:
        device.pread(10 * KIB // 16, 0)
    after = odd_file.stat()
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
