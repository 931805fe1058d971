"""Copying between stores."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.units import MIB
from vhdx import _host
from vhdx.storage import copy, libc
from vhdx.storage.base import ByteStore, pread
from vhdx.storage.copy import RangeCopier
from vhdx.storage.file import FileStore
from vhdx.storage.memory import MemoryStore

kernel = pytest.mark.skipif(not _host.HAVE_COPY_FILE_RANGE, reason="copy_file_range is switched off")
reflink = pytest.mark.skipif(not _host.HAVE_REFLINK, reason="reflinks are switched off")

CONTENT = os.urandom(3 * MIB + 777)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[FileStore, FileStore]]:
    (tmp_path / "source").write_bytes(CONTENT)
    (tmp_path / "target").write_bytes(b"")
    source_path, target_path = tmp_path / "source", tmp_path / "target"
    with FileStore.open(source_path) as source, FileStore.open(target_path, writable=True) as target:
        yield source, target


@pytest.mark.parametrize(("source_kind", "target_kind"), [("f", "f"), ("f", "m"), ("m", "f"), ("m", "m")])
@pytest.mark.parametrize(
    ("source_offset", "target_offset", "length"),
    [
        (0, 0, len(CONTENT)),
        (4096, 8192, MIB),
        (4096, 8192, MIB + 5),
        (1, 0, 4096),
        (7, 11, 2 * MIB + 1),
        (5, 5, 0),
    ],
)
def test_range_arrives_and_nothing_else_changes(
    files: tuple[FileStore, FileStore],
    source_kind: str,
    target_kind: str,
    source_offset: int,
    target_offset: int,
    length: int,
) -> None:
    source: ByteStore = files[0] if source_kind == "f" else MemoryStore(CONTENT)
    target: ByteStore = files[1] if target_kind == "f" else MemoryStore()
    target.pwrite(b"\xaa" * 4 * MIB, 0)
    RangeCopier(target).copy(source, source_offset, target_offset, length)
    expected = bytearray(b"\xaa" * 4 * MIB)
    expected[target_offset : target_offset + length] = CONTENT[source_offset : source_offset + length]
    assert pread(target, 5 * MIB, 0) == expected


def test_buffer_is_reused(files: tuple[FileStore, FileStore]) -> None:
    target = MemoryStore()
    buffer = bytearray(1000)
    RangeCopier(target, buffer).copy(files[0], 3, 0, 2500)
    assert pread(target, 3000, 0) == CONTENT[3:2503]
    assert buffer[:500] == CONTENT[2003:2503]
    buffer.append(0)


@pytest.mark.parametrize("kind", ["f", "m"])
def test_source_that_ends_too_early_is_an_error(files: tuple[FileStore, FileStore], kind: str) -> None:
    target: ByteStore = files[1] if kind == "f" else MemoryStore()
    with pytest.raises(OSError, match="ends before") as caught:
        RangeCopier(target).copy(files[0], MIB, 0, 3 * MIB)
    assert caught.value.filename == files[0].name


@kernel
def test_kernel_moves_the_bytes_between_files(
    files: tuple[FileStore, FileStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileStore, "pread_into", None)
    RangeCopier(files[1]).copy(files[0], 0, 0, len(CONTENT))
    monkeypatch.undo()
    assert pread(files[1], len(CONTENT) + 1, 0) == CONTENT


@kernel
@pytest.mark.skipif(not _host.HAVE_SYNC_FILE_RANGE, reason="sync_file_range is switched off")
def test_only_long_copies_are_hurried_to_the_device(
    files: tuple[FileStore, FileStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[tuple[int, int]]()
    monkeypatch.setattr(libc, "start_writeback", lambda _, offset, length: begun.append((offset, length)))
    copier = RangeCopier(files[1])
    for offset in range(0, MIB, 4096):
        copier.copy(files[0], offset, offset, 4095)  # an odd length: never a shared block
    RangeCopier(files[1]).copy(files[0], MIB + 1, 2 * MIB + 3, MIB)
    assert begun == [(2 * MIB + 3, MIB)]


@kernel
def test_short_kernel_copies_are_continued(
    files: tuple[FileStore, FileStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.copy_file_range
    monkeypatch.setattr(os, "copy_file_range", lambda s, t, n, so, to: real(s, t, min(n, 500_000), so, to))
    RangeCopier(files[1]).copy(files[0], 3, 5, 3 * MIB)
    assert pread(files[1], 4 * MIB, 5) == CONTENT[3 : 3 * MIB + 3]


@kernel
@pytest.mark.parametrize("good_calls", [0, 1])
@pytest.mark.parametrize(
    "code", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY]
)
def test_copy_goes_on_through_memory_where_the_kernel_cannot(
    files: tuple[FileStore, FileStore], monkeypatch: pytest.MonkeyPatch, code: int, good_calls: int
) -> None:
    real, calls = os.copy_file_range, list[int]()

    def refusing(source: int, target: int, count: int, source_offset: int, target_offset: int) -> int:
        calls.append(count)
        if len(calls) > good_calls:
            raise OSError(code, os.strerror(code))
        return real(source, target, min(count, 100_000), source_offset, target_offset)

    monkeypatch.setattr(os, "copy_file_range", refusing)
    copier = RangeCopier(files[1])
    for _ in range(2):
        copier.copy(files[0], 3, 3, 3 * MIB)
        assert pread(files[1], 4 * MIB, 3) == CONTENT[3 : 3 * MIB + 3]
    assert len(calls) == good_calls + 1  # the failure is remembered for this source


@kernel
def test_silent_kernel_copy_does_not_lose_bytes(
    files: tuple[FileStore, FileStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    RangeCopier(files[1]).copy(files[0], 0, 0, len(CONTENT))
    assert pread(files[1], len(CONTENT) + 1, 0) == CONTENT


@kernel
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_real_error_of_the_kernel_copy_is_raised(
    files: tuple[FileStore, FileStore], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def failing(*_: int) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", failing)
    with pytest.raises(OSError) as caught:
        RangeCopier(files[1]).copy(files[0], 0, 0, MIB)
    assert caught.value.errno == code


def test_read_only_target_is_refused(files: tuple[FileStore, FileStore], tmp_path: Path) -> None:
    (tmp_path / "third").write_bytes(bytes(MIB))
    with FileStore.open(tmp_path / "third") as third, pytest.raises(OSError, match="not open for writing"):
        RangeCopier(third).copy(files[0], 0, 0, MIB)


def test_closed_store_raises_value_error(files: tuple[FileStore, FileStore]) -> None:
    files[0].close()
    with pytest.raises(ValueError, match="closed"):
        RangeCopier(files[1]).copy(files[0], 0, 0, 4096)


@reflink
def test_reflink_is_asked_only_for_aligned_ranges_of_files(
    files: tuple[FileStore, FileStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[int, int, int]]()

    def clone(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> bool:
        assert (source_fd, target_fd) == (files[0].fileno(), files[1].fileno())
        asked.append((source_offset, target_offset, length))
        return True

    monkeypatch.setattr(copy, "_clone", clone)
    copier = RangeCopier(files[1])
    assert copier.share(files[0], 4096, 8192, 12288)
    for source_offset, target_offset, length in [(1, 0, 4096), (0, 1, 4096), (0, 0, 4097), (0, 0, 0)]:
        assert not copier.share(files[0], source_offset, target_offset, length)
    assert not copier.share(MemoryStore(CONTENT), 0, 0, 4096)
    assert asked == [(4096, 8192, 12288)]


@reflink
def test_reflinked_part_is_not_copied_again_but_the_tail_is(
    files: tuple[FileStore, FileStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone(source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int) -> bool:
        os.pwrite(target_fd, b"c" * length, target_offset)
        return True

    monkeypatch.setattr(copy, "_clone", clone)
    RangeCopier(files[1]).copy(files[0], 0, 0, 10_000)
    assert pread(files[1], 20_000, 0) == b"c" * 8192 + CONTENT[8192:10_000]


@reflink
def test_failed_reflink_is_remembered_for_its_source_only(
    files: tuple[FileStore, FileStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[int]()

    def refuse(fd: int, *_: Any) -> bool:
        calls.append(fd)
        return False

    monkeypatch.setattr(copy, "_clone", refuse)
    (tmp_path / "third").write_bytes(CONTENT)
    with FileStore.open(tmp_path / "third") as third:
        copier = RangeCopier(files[1])
        for source in (files[0], files[0], third, third):
            assert not copier.share(source, 0, 0, 4096)
        assert calls == [files[0].fileno(), third.fileno()]


@reflink
def test_reflink_request_is_packed_as_the_kernel_wants_it(
    files: tuple[FileStore, FileStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    seen = list[tuple[int, int, bytes]]()
    monkeypatch.setattr(fcntl, "ioctl", lambda *arguments: seen.append(arguments))
    assert RangeCopier(files[1]).share(files[0], 4096, 8192, 12288)
    expected = b"".join(n.to_bytes(8, "little") for n in (files[0].fileno(), 4096, 12288, 8192))
    assert seen == [(files[1].fileno(), 0x4020940D, expected)]


def test_reflink_on_this_file_system_is_right_or_not_done(files: tuple[FileStore, FileStore]) -> None:
    if RangeCopier(files[1]).share(files[0], 0, 0, 3 * MIB):
        assert pread(files[1], 4 * MIB, 0) == CONTENT[: 3 * MIB]
    else:
        assert files[1].size() == 0
