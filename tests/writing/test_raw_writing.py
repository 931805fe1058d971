"""Raw files and block devices that are written to."""

import errno
import random
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from support.units import KIB, MIB
from vhdx import (
    Ability,
    ImageClosedError,
    ImageLockedError,
    ImagePoisonedError,
    ReadOnlyImageError,
    RequestError,
    _host,
)
from vhdx.blockdev.device import DirectDevice
from vhdx.disks.raw import RawDevice
from vhdx.storage import libc
from vhdx.storage.base import ByteStore
from vhdx.storage.file import FileStore
from vhdx.storage.memory import MemoryStore
from vhdx.testing.stores import StoreCall, WatchedStore

SIZE = 3 * MIB + 1000
"""Not a whole number of sectors."""

fallocate_only = pytest.mark.skipif(not _host.HAVE_FALLOCATE, reason="this system cannot punch holes")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x" * SIZE)
    return path


@pytest.fixture(params=["file", "memory"])
def device(request: pytest.FixtureRequest, path: Path) -> Iterator[RawDevice]:
    source: Path | ByteStore = path if request.param == "file" else MemoryStore(b"x" * SIZE)
    with RawDevice.open(source, writable=True) as device:
        yield device


@pytest.fixture
def without_fallocate(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that has no such call."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(libc, "fallocate", refuse)


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_any_bytes_are_written_where_they_belong_and_nowhere_else(device: RawDevice) -> None:
    model = bytearray(b"x" * SIZE)
    numbers = random.Random(5)
    for turn in range(200):
        offset = numbers.randrange(SIZE)
        length = min(numbers.choice((1, 511, 512, 4096, 70_000)), SIZE - offset)
        match turn % 4:
            case 0:
                device.write_zeroes(length, offset, may_unmap=turn % 8 == 0)
                model[offset : offset + length] = bytes(length)
            case _:
                data = numbers.randbytes(length)
                device.pwrite(data, offset, fua=turn % 50 == 1)
                model[offset : offset + length] = data
    assert device.pread(SIZE, 0) == model
    device.flush()
    assert device.size == device.store.size() == SIZE


def test_buffer_of_any_item_size_is_counted_in_bytes(device: RawDevice) -> None:
    device.pwrite(array("H", [0x4141] * 4), SIZE - 8)
    assert device.pread(9, SIZE - 9) == b"xAAAAAAAA"


@pytest.mark.parametrize(("length", "offset"), [(1, SIZE), (SIZE + 1, 0), (1, -1)])
def test_range_outside_is_refused_and_the_size_stays(device: RawDevice, length: int, offset: int) -> None:
    changes: list[Callable[[], None]] = [
        lambda: device.pwrite(bytes(length), offset),
        lambda: device.write_zeroes(length, offset),
        lambda: device.write_zeroes(length, offset, may_unmap=False),
        lambda: device.trim(length, offset),
    ]
    for change in changes:
        with pytest.raises(RequestError):
            change()
    assert device.place(offset, length) is None
    assert not device.writes_in_place(offset, length)
    assert device.pread(SIZE, 0) == b"x" * SIZE
    assert device.store.size() == SIZE


@fallocate_only
def test_zeroing_and_trimming_give_space_back_unless_it_is_to_be_kept(path: Path) -> None:
    with RawDevice.open(path, writable=True) as device:
        device.flush()
        full = allocated(path)
        device.write_zeroes(MIB, 0, may_unmap=False)
        assert allocated(path) == full
        device.write_zeroes(MIB, MIB)
        assert allocated(path) == full - MIB
        device.trim(MIB, 2 * MIB)
        assert allocated(path) == full - 2 * MIB
        assert device.limits.trim is device.limits.fast_zero is Ability.NATIVE
    assert path.read_bytes() == bytes(3 * MIB) + b"x" * 1000


@pytest.mark.usefixtures("without_fallocate")
def test_file_system_without_holes_is_written_to_and_fast_zeroes_are_refused(path: Path) -> None:
    with RawDevice.open(path, writable=True) as device:
        with pytest.raises(OSError, match=r".") as caught:
            device.write_zeroes(MIB, 5, fast_only=True)
        assert caught.value.errno == errno.EOPNOTSUPP
        device.trim(MIB, 5)
        assert device.pread(SIZE, 0) == b"x" * SIZE
        assert device.limits.fast_zero is device.limits.trim is Ability.NONE
        assert device.limits.write_zeroes is Ability.EMULATED
        for may_unmap in (True, False):
            device.pwrite(b"x" * MIB, 5)
            device.write_zeroes(MIB, 5, may_unmap=may_unmap)
            assert device.pread(SIZE, 0) == b"x" * 5 + bytes(MIB) + b"x" * (SIZE - MIB - 5)


def test_block_device_is_written_byte_by_byte_and_trim_leaves_it_alone(block_device: str) -> None:
    with RawDevice.open(block_device, writable=True) as device:
        with pytest.raises(OSError, match=r".") as caught:
            device.write_zeroes(4096, 8192, fast_only=True)
        assert caught.value.errno == errno.EOPNOTSUPP
        device.trim(64 * KIB, 64 * KIB)
        device.pwrite(b"abc", 509)
        device.write_zeroes(5, 4095)
        device.flush()
        expected = bytearray(b"d" * MIB)
        expected[509:512] = b"abc"
        expected[4095:4100] = bytes(5)
        assert device.pread(MIB, 0) == expected
        assert (device.limits.trim, device.limits.fast_zero) == (Ability.NONE, Ability.NONE)


def test_device_open_for_reading_refuses_every_change(path: Path) -> None:
    with RawDevice.open(path) as device:
        changes: list[Callable[[], None]] = [
            lambda: device.pwrite(b"a", 0),
            lambda: device.write_zeroes(1, 0),
            lambda: device.trim(1, 0),
        ]
        for change in changes:
            with pytest.raises(ReadOnlyImageError):
                change()
        device.flush()
        assert not device.limits.writable
        assert not device.writes_in_place(0, 1)


def test_writer_keeps_others_out(path: Path) -> None:
    with RawDevice.open(path, writable=True), pytest.raises(ImageLockedError):
        RawDevice.open(path)
    with RawDevice.open(path), pytest.raises(ImageLockedError):
        RawDevice.open(path, writable=True)


@pytest.mark.skipif(not _host.HAVE_PREADV, reason="this system reads at no offset")
def test_place_is_the_same_offset_of_the_file(path: Path) -> None:
    with RawDevice.open(path, writable=True) as device:
        direct: DirectDevice = device
        pin = direct.pin()
        place = direct.place(1000, 10)
        assert place is not None
        device.pwrite(b"0123456789", 1000)
        with open(place.fd, "rb", closefd=False) as file:
            file.seek(place.file_offset)
            assert file.read(10) == b"0123456789"
        direct.unpin(pin)
        assert direct.place(0, 0) is None
        assert direct.writes_in_place(0, SIZE)
    assert direct.place(1000, 10) is None
    assert not direct.writes_in_place(0, 1)
    with RawDevice.open(MemoryStore(b"x")) as memory:
        assert memory.place(0, 1) is None


def test_flush_that_failed_is_never_called_good_by_a_later_one() -> None:
    store = WatchedStore(MemoryStore(b"x" * 512))
    started, go_on = Event(), Event()
    flushes = 0

    def lose_the_first(call: StoreCall) -> None:
        nonlocal flushes
        flushes += call.name == "flush"
        if call.name == "flush" and flushes == 1:  # Linux calls every later one a success
            started.set()
            assert go_on.wait(60)
            raise OSError(errno.EIO, "lost")

    store.before = lose_the_first
    device = RawDevice(store, writable=True)
    outcomes: list[BaseException | None] = []

    def flush() -> None:
        try:
            device.flush()
            outcomes.append(None)
        except (OSError, ImagePoisonedError) as error:
            outcomes.append(error)

    first, second = Thread(target=flush), Thread(target=flush)
    first.start()
    assert started.wait(60)
    second.start()
    second.join(0.3)  # long enough for a second flush that would not wait for the first
    go_on.set()
    first.join(60)
    second.join(60)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ImagePoisonedError", "OSError"]
    calls: list[Callable[[], object]] = [
        device.flush,
        lambda: device.pwrite(b"a", 0),
        lambda: device.pwrite(b"a", 0, fua=True),
        lambda: device.pread(1, 0),
        device.pin,
    ]
    for call in calls:
        with pytest.raises(ImagePoisonedError, match="lost"):
            call()
    assert device.place(0, 1) is None
    assert not device.writes_in_place(0, 1)
    device.close()
    assert flushes == 1


def test_fua_flush_and_close_make_durable() -> None:
    store = WatchedStore(MemoryStore(b"x" * 512))
    device = RawDevice(store, writable=True)
    device.pwrite(b"a", 0)
    device.write_zeroes(1, 1)
    device.trim(1, 2)
    assert store.flushes == 0
    device.pwrite(b"a", 0, fua=True)
    device.write_zeroes(1, 1, fua=True)
    device.trim(1, 2, fua=True)
    device.flush()
    assert store.flushes == 4
    device.close()
    device.close()
    assert store.flushes == 5
    with pytest.raises(ImageClosedError):
        device.pwrite(b"a", 0)


def test_file_that_was_cut_off_elsewhere_is_not_shown_as_zeroes(path: Path) -> None:
    with RawDevice.open(path, lock=False) as device, FileStore.open(path, writable=True) as store:
        store.truncate(1000)
        with pytest.raises(OSError, match="shorter"):
            list(device.extents())
        with pytest.raises(OSError, match="shorter"):
            list(device.spans(0, SIZE))
