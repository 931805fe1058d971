"""Files and block devices."""

import errno
import fcntl
import gc
import io
import os
import socket
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

import pytest

from support.units import GIB, MIB
from vhdx import _host
from vhdx.storage import descriptor, durable, libc
from vhdx.storage.base import StoreExtent, StoreKind, pread
from vhdx.storage.copy import RangeCopier
from vhdx.storage.file import FileStore
from vhdx.storage.fileobj import store_of
from vhdx.storage.throw_away import ThrowAwayStore

DATA, HOLE = StoreKind.DATA, StoreKind.HOLE

positional = pytest.mark.skipif(not _host.HAVE_PREADV, reason="preadv is switched off")
hole_seeking = pytest.mark.skipif(not _host.HAVE_SEEK_HOLE, reason="SEEK_HOLE is switched off")
behind = pytest.mark.skipif(not _host.HAVE_SYNC_FILE_RANGE, reason="sync_file_range is switched off")
punching = pytest.mark.skipif(not _host.HAVE_FALLOCATE, reason="fallocate is switched off")


# ---- opening -------------------------------------------------------------------------------------------


def test_reading_leaves_content_and_times_alone(image: Path) -> None:
    os.utime(image, ns=(1_000_000_000, 2_000_000_000))  # atime older than mtime: relatime would renew it
    content, before = image.read_bytes(), None
    os.utime(image, ns=(1_000_000_000, 2_000_000_000))
    before = image.stat()
    with FileStore.open(image) as store:
        assert pread(store, 65536, 0) == content
        list(store.extents(0, 65536))
        store.flush()
    after = image.stat()
    assert (after.st_mtime_ns, after.st_ctime_ns, after.st_size) == (
        before.st_mtime_ns,
        before.st_ctime_ns,
        before.st_size,
    )
    if _host.HAVE_NOATIME:
        assert after.st_atime_ns == before.st_atime_ns


@pytest.mark.skipif(not _host.HAVE_NOATIME, reason="O_NOATIME is switched off")
def test_file_of_another_owner_is_read_without_noatime(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open, flags_seen = os.open, list[int]()

    def refusing(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        flags_seen.append(flags)
        if flags & os.O_NOATIME:
            raise PermissionError(errno.EPERM, "not the owner")
        return real_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refusing)
    with FileStore.open(image) as store:
        assert pread(store, 4, 4) == b"\1\0\0\0"
    assert [bool(flags & os.O_NOATIME) for flags in flags_seen] == [True, False]


def test_descriptor_is_not_inherited_and_blocks(image: Path) -> None:
    with FileStore.open(image) as store:
        assert not os.get_inheritable(store.fileno())
        assert os.get_blocking(store.fileno())
        assert fcntl.fcntl(store.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def test_leased_file_is_waited_for(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def leased(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_NONBLOCK:
            raise BlockingIOError(errno.EWOULDBLOCK, "leased")
        return real_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", leased)
    with FileStore.open(image) as store:
        assert store.size() == 65536


@pytest.mark.parametrize("writable", [False, True])
def test_directory_is_refused(tmp_path: Path, writable: bool) -> None:
    with pytest.raises(IsADirectoryError, match="is a directory"):
        FileStore.open(tmp_path, writable=writable)


@pytest.mark.parametrize("writable", [False, True])
def test_fifo_is_refused_without_waiting_for_its_other_end(tmp_path: Path, writable: bool) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OSError, match="is a FIFO"):
        FileStore.open(fifo, writable=writable)


def test_fifo_that_takes_a_file_s_place_is_refused_without_waiting(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    status = image.lstat()
    monkeypatch.setattr(os, "stat", lambda *_, **__: status)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="is a FIFO"):
        descriptor.open_descriptor(str(fifo))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("writable", [False, True])
def test_character_device_is_refused(writable: bool) -> None:
    with pytest.raises(OSError, match="is a character device"):
        FileStore.open("/dev/null", writable=writable)


def test_socket_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        with pytest.raises(OSError, match="is a socket"):
            FileStore.open(path)


def test_missing_file_is_an_os_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        FileStore.open(tmp_path / "missing")
    assert caught.value.filename == str(tmp_path / "missing")


def test_refused_opening_leaks_no_descriptor(tmp_path: Path, image: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with FileStore.open(image, writable=True):
        before = len(os.listdir("/proc/self/fd"))
        for path in (tmp_path, fifo, "/dev/null", image):
            with pytest.raises(Exception, match=r"is a|in use"):
                FileStore.open(path)
        assert len(os.listdir("/proc/self/fd")) == before


def test_symbolic_link_is_followed_only_if_allowed(tmp_path: Path, image: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(image)
    with FileStore.open(link) as store:
        assert store.identity == (image.stat().st_dev, image.stat().st_ino)
    with pytest.raises(OSError, match="is a symbolic link"):
        FileStore.open(link, follow_symlinks=False)
    with FileStore.open(image, follow_symlinks=False):
        pass


def test_link_that_takes_a_file_s_place_is_not_followed(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(image)
    status = image.lstat()
    monkeypatch.setattr(os, "stat", lambda *_, **__: status)
    with pytest.raises(OSError) as caught:
        FileStore.open(link, follow_symlinks=False)
    assert caught.value.errno == errno.ELOOP


def test_path_may_be_relative_to_a_directory_descriptor(tmp_path: Path, image: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        if _host.HAVE_DIR_FD:
            with FileStore.open(image.name, dir_fd=directory, name=str(image)) as store:
                assert (store.name, store.path, store.size()) == (str(image), None, 65536)
        else:
            with pytest.raises(io.UnsupportedOperation):
                FileStore.open(image.name, dir_fd=directory)
    finally:
        os.close(directory)


def test_store_tells_what_it_is(image: Path) -> None:
    with FileStore.open(image) as store:
        assert (store.name, store.path) == (str(image), str(image))
        assert (store.writable, store.is_block_device) == (False, False)
        assert store.lock_warning is None
        assert "read-only" in repr(store)
    assert "closed" in repr(store)


# ---- transfers -----------------------------------------------------------------------------------------


def test_read_only_store_refuses_every_change(image: Path) -> None:
    content = image.read_bytes()
    with FileStore.open(image) as store:
        calls: list[Callable[[], None]] = [
            lambda: store.pwrite(b"x", 0),
            lambda: store.truncate(0),
            lambda: store.write_zeroes(1, 0),
        ]
        for call in calls:
            with pytest.raises(io.UnsupportedOperation, match="not open for writing"):
                call()
    assert image.read_bytes() == content


@positional
def test_full_transfer_takes_one_call(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = list[int](), os.preadv

    def counting(fd: int, buffers: Any, offset: int) -> int:
        calls.append(offset)
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", counting)
    for buffer in (bytearray(4096), memoryview(bytearray(4096))):
        assert store.pread_into(buffer, 8192) == 4096
    assert calls == [8192, 8192]


@positional
def test_short_reads_are_continued(store: FileStore, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def short(fd: int, buffers: Sequence[Any], offset: int) -> int:
        return real(fd, [memoryview(buffers[0]).cast("B")[:1000]], offset)

    monkeypatch.setattr(os, "preadv", short)
    assert pread(store, 10_000, 500) == image.read_bytes()[500:10_500]
    assert pread(store, 10_000, 60_000) == image.read_bytes()[60_000:]


def test_short_writes_are_continued(store: FileStore, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if _host.HAVE_PREAD:
        real = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:1000], offset))
    else:
        transfer = store._seeking
        assert transfer is not None
        real_write = transfer.write
        monkeypatch.setattr(transfer, "write", lambda view, offset: real_write(view[:1000], offset))
    before = image.read_bytes()
    store.pwrite(b"x" * 10_000, 500)
    assert image.read_bytes() == before[:500] + b"x" * 10_000 + before[10_500:]


@behind
def test_large_write_is_on_its_way_before_a_flush(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, real = list[tuple[int, int]](), libc.start_writeback

    def watched(fd: int, file_offset: int, length: int) -> None:
        begun.append((file_offset, length))
        real(fd, file_offset, length)

    monkeypatch.setattr(libc, "start_writeback", watched)
    store.pwrite(b"x" * MIB, 4096)
    store.pwrite(b"y" * 4096, 0)  # what is small waits for others
    assert begun == [(4096, MIB)]
    assert pread(store, MIB + 4096, 0) == b"y" * 4096 + b"x" * MIB


@behind
@pytest.mark.parametrize(
    "code", [errno.ENOSYS, errno.EPERM, errno.EACCES]
)  # sandboxes forbid what they do not know
def test_large_write_needs_no_help_of_the_system(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls = list[int]()

    def unknown(fd: int, file_offset: int, length: int) -> None:
        calls.append(length)
        raise OSError(code, "not known")

    monkeypatch.setattr(libc, "start_writeback", unknown)
    for number in range(3):
        store.pwrite(bytes([number]) * MIB, 0)
    assert calls == [MIB]  # asked once
    assert pread(store, MIB, 0) == bytes([2]) * MIB


@behind
def test_error_of_the_device_is_told_by_the_write_that_meets_it(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(fd: int, file_offset: int, length: int) -> None:
        raise OSError(errno.EIO, "bad device")

    monkeypatch.setattr(libc, "start_writeback", failing)
    with pytest.raises(OSError, match="bad device") as caught:  # no flush need hear of it again
        store.pwrite(b"x" * MIB, 0)
    assert caught.value.filename == store.name


@behind
def test_throw_away_file_is_not_hurried_to_the_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun = list[int]()
    monkeypatch.setattr(libc, "start_writeback", lambda fd, file_offset, length: begun.append(length))
    (tmp_path / "source").write_bytes(b"x" * MIB)
    with ThrowAwayStore.make() as store, FileStore.open(tmp_path / "source") as source:
        store.pwrite(b"y" * MIB, 0)
        RangeCopier(store).copy(source, 0, MIB, MIB)
        assert pread(store, 2 * MIB, 0) == b"y" * MIB + b"x" * MIB
    assert begun == []


@positional
@pytest.mark.parametrize("good_bytes", [0, 1000])
def test_read_error_is_raised_with_the_name_and_keeps_no_view(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, good_bytes: int
) -> None:
    def failing(fd: int, buffers: Any, offset: int) -> int:
        if offset < good_bytes:
            return good_bytes
        raise OSError(errno.EIO, "Input/output error")

    buffer = bytearray(4096)
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", failing)
        with pytest.raises(OSError) as caught:
            store.pread_into(buffer, 0)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, store.name)
    buffer.append(0)
    assert store.pread_into(buffer, 0) == 4097  # the store is usable


@positional
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_write_error_is_raised_with_the_name(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def failing(fd: int, data: Any, offset: int) -> int:
        if offset == 0:
            return 10
        raise OSError(code, "failed")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing)
        with pytest.raises(OSError) as caught:
            store.pwrite(bytes(100), 0)
    assert (caught.value.errno, caught.value.filename) == (code, store.name)
    store.pwrite(b"good", 0)


@positional
def test_write_that_makes_no_progress_is_an_error(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    with pytest.raises(OSError, match="wrote nothing"):
        store.pwrite(b"abc", 0)


@pytest.mark.parametrize("offset", [(1 << 63) - 3, 1 << 63, 1 << 64])
def test_write_past_the_largest_offset_is_file_too_large(store: FileStore, offset: int) -> None:
    calls: list[Callable[[], None]] = [
        lambda: store.pwrite(bytes(10), offset),
        lambda: store.write_zeroes(10, offset),
        lambda: store.truncate(offset + 10),
    ]
    for call in calls:
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EFBIG
    assert store.size() == 65536


@positional
def test_pread_alone_is_enough(image: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vhdx.storage.file._HAVE_PREADV", False)
    monkeypatch.delattr(os, "preadv")
    assert pread(store, 5000, 3) == image.read_bytes()[3:5003]
    assert pread(store, 5000, 65_000) == image.read_bytes()[65_000:]


def test_many_threads_read_and_write_at_once(store: FileStore) -> None:
    failures = list[object]()

    def work(number: int) -> None:
        mine = bytes([number]) * 512
        for round_number in range(100):
            offset = (round_number * 8 + number) * 512 % 65536
            store.pwrite(mine, offset)
            if pread(store, 512, offset) != mine:
                failures.append((number, round_number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_flush_of_a_read_only_store_asks_nothing_of_the_disk(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "sync_data", None)
    with FileStore.open(image) as store:
        store.flush()


def test_failed_flush_is_raised_and_not_retried(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[int]()

    def failing(fd: int) -> None:
        calls.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError) as caught:
        store.flush()
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, store.name)
    assert calls == [store.fileno()]


# ---- zeroes and holes ----------------------------------------------------------------------------------


@punching
def test_write_zeroes_gives_host_space_back(image: Path, store: FileStore) -> None:
    store.pwrite(b"x" * MIB, 0)
    store.flush()
    before = image.stat().st_blocks
    store.write_zeroes(MIB - 8192, 4096)
    assert pread(store, MIB, 0) == b"x" * 4096 + bytes(MIB - 8192) + b"x" * 4096
    assert image.stat().st_blocks <= before - (MIB - 8192) // 512


@punching
@pytest.mark.parametrize("known", [0, 1])
def test_write_zeroes_falls_back_where_a_file_system_cannot_punch(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    modes, real = list[int](), libc.fallocate

    def partial(fd: int, mode: int, file_offset: int, length: int) -> None:
        modes.append(mode)
        if len(modes) > known:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        real(fd, mode, file_offset, length)

    monkeypatch.setattr(libc, "fallocate", partial)
    for offset in (0, 8192, 16384):
        store.pwrite(b"x" * 8192, offset)
        store.write_zeroes(8000, offset)
        assert pread(store, 8192, offset) == bytes(8000) + b"x" * 192
    assert len(modes) == known + 2  # each way is tried once, then remembered


@punching
def test_write_zeroes_passes_a_real_error_on(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(libc, "fallocate", failing)
    with pytest.raises(OSError) as caught:
        store.write_zeroes(10, 0)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, store.name)


def test_write_zeroes_does_not_cut_off_what_was_appended_meanwhile(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FileStore.size

    def size_then_append(self: FileStore) -> int:
        size = real(self)
        self.pwrite(b"appended", 200_000)
        return min(size, 65_536)

    monkeypatch.setattr(FileStore, "size", size_then_append)
    store.write_zeroes(100, 65_500)
    assert pread(store, 8, 200_000) == b"appended"


@hole_seeking
def test_extents_of_a_sparse_file_tell_data_from_holes(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.write_bytes(b"")
    with FileStore.open(path, writable=True) as store:
        store.truncate(8 * MIB)
        store.pwrite(b"x" * MIB, 2 * MIB)
        store.pwrite(b"y" * MIB, 5 * MIB)
        found = list(store.extents(MIB, 9 * MIB))
        assert found == [
            StoreExtent(MIB, MIB, HOLE),
            StoreExtent(2 * MIB, MIB, DATA),
            StoreExtent(3 * MIB, 2 * MIB, HOLE),
            StoreExtent(5 * MIB, MIB, DATA),
            StoreExtent(6 * MIB, 2 * MIB, HOLE),
            StoreExtent(8 * MIB, 2 * MIB, HOLE),
        ] or found == [*found[:4], StoreExtent(6 * MIB, 4 * MIB, HOLE)]
        assert list(store.extents(2 * MIB + 5, 10)) == [StoreExtent(2 * MIB + 5, 10, DATA)]


@hole_seeking
def test_extents_are_all_data_where_holes_are_unknown(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(fd: int, position: int, whence: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "lseek", unknown)
    assert list(store.extents(0, 70_000)) == [StoreExtent(0, 65_536, DATA), StoreExtent(65_536, 4464, HOLE)]


@hole_seeking
@pytest.mark.parametrize(
    "answers",
    [
        [100, 100],  # the data became a hole between the two questions
        [0, errno.ENXIO],  # the file became shorter between them
        [1 << 40, 0],  # nonsense
        [errno.ENXIO],
        [-5, -7],
    ],
)
def test_extents_end_and_cover_the_range_whatever_another_process_does(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, answers: list[int]
) -> None:
    queue = list[int]()

    def changing(fd: int, position: int, whence: int) -> int:
        if not queue:
            queue.extend(answers)
        answer = queue.pop(0)
        if answer == errno.ENXIO:
            raise OSError(errno.ENXIO, "No such device or address")
        return answer

    monkeypatch.setattr(os, "lseek", changing)
    position = 0
    for count, extent in enumerate(store.extents(0, 65536)):
        assert count < 100
        assert extent.file_offset == position
        assert extent.length > 0
        position += extent.length
    assert position == 65536


@hole_seeking
def test_extents_pass_a_real_error_on(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int, position: int, whence: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "lseek", failing)
    with pytest.raises(OSError):
        list(store.extents(0, 100))


def test_extents_of_a_store_closed_meanwhile_raise_value_error(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.write_bytes(b"")
    with FileStore.open(path, writable=True) as store:
        store.truncate(GIB)
        store.pwrite(b"x", GIB // 2)
        extents = store.extents(0, GIB)
        next(extents)
    if _host.HAVE_SEEK_HOLE:
        with pytest.raises(ValueError, match="closed"):
            list(extents)


# ---- closing -------------------------------------------------------------------------------------------


def test_close_frees_the_descriptor_once(image: Path) -> None:
    store = FileStore.open(image)
    fd = store.fileno()
    store.close()
    other = os.open(os.devnull, os.O_RDONLY)
    try:
        assert other == fd  # the number now belongs to somebody else
        store.close()
        os.fstat(other)
    finally:
        os.close(other)
    with pytest.raises(ValueError, match="closed"):
        store.fileno()


def test_forgotten_store_warns_and_frees_descriptor_and_lock(image: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FileStore.open(image, writable=True).size()
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    FileStore.open(image, writable=True).close()


# ---- block devices -------------------------------------------------------------------------------------


def test_block_device_is_read_and_written(block_device: str) -> None:
    with FileStore.open(block_device, writable=True) as store:
        assert store.is_block_device
        assert store.size() == MIB
        assert pread(store, 10, MIB - 5) == b"d" * 5
        store.write_zeroes(10_000, 5)
        store.pwrite(b"abc", 7)
        store.flush()
        assert pread(store, 10_006, 0) == b"ddddd\0\0abc" + bytes(9995) + b"d"
        assert list(store.extents(0, 2 * MIB)) == [StoreExtent(0, MIB, DATA), StoreExtent(MIB, MIB, HOLE)]
        with pytest.raises(OSError):
            store.write_zeroes(100, MIB - 50)
        with pytest.raises(OSError):
            store.truncate(0)


def test_block_device_has_one_identity_under_all_its_names(block_device: str, tmp_path: Path) -> None:
    alias = tmp_path / "alias"
    os.mknod(alias, 0o600 | 0o060000, Path(block_device).stat().st_rdev)
    with FileStore.open(block_device) as one:
        try:
            two = FileStore.open(alias)
        except PermissionError:
            pytest.skip("the file system holds no devices")
        with two:
            assert one.identity == two.identity


# ---- file objects --------------------------------------------------------------------------------------


def _open_raw(path: Path) -> io.FileIO:
    return io.FileIO(path)


@pytest.mark.parametrize("opener", [lambda path: path.open("rb"), _open_raw, lambda path: path.open("r+b")])
def test_file_object_with_a_descriptor_gives_a_file_store_and_stays_open(
    image: Path, opener: Callable[[Path], Any]
) -> None:
    with opener(image) as file_object:
        store = store_of(file_object)
        assert isinstance(store, FileStore)
        assert store.name == str(image)
        assert store.writable == file_object.writable()
        assert pread(store, 4, 4) == b"\1\0\0\0"
        store.close()
        assert not file_object.closed
        FileStore.open(image, writable=True).close()  # and the lock is gone


def test_store_outlives_the_file_object_it_came_from(image: Path) -> None:
    with image.open("rb") as file_object:
        store = store_of(file_object)
    assert pread(store, 4, 4) == b"\1\0\0\0"
    store.close()


def test_file_object_s_waiting_writes_are_seen(tmp_path: Path) -> None:
    with (tmp_path / "new").open("w+b") as file_object:
        file_object.write(b"waiting")
        store = store_of(file_object)
        assert pread(store, 10, 0) == b"waiting"
        store.close()


def test_file_object_in_use_elsewhere_is_refused(image: Path) -> None:
    with FileStore.open(image, writable=True), image.open("rb") as file_object:
        with pytest.raises(Exception, match="already open in this process"):
            store_of(file_object)
        store_of(file_object, lock=False).close()


@pytest.mark.parametrize(("mode", "reason"), [("wb", "reading"), ("a+b", "appending")])
def test_file_object_that_cannot_serve_is_refused(tmp_path: Path, mode: str, reason: str) -> None:
    with (tmp_path / "new").open(mode) as opened, pytest.raises(io.UnsupportedOperation, match=reason):
        store_of(cast("IO[bytes]", opened))


def test_text_file_is_refused(image: Path) -> None:
    with image.open() as text, pytest.raises(TypeError, match="binary"):
        store_of(text)  # type: ignore[arg-type]
