"""Conversions that do not end well: nothing is left behind, and nothing looks like an image."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import vhdx
from support.units import MIB
from vhdx import NotVhdxError
from vhdx.disks.raw import RawDevice
from vhdx.ops.convert import convert
from vhdx.ops.create import create
from vhdx.storage.file import FileStore
from vhdx.storage.memory import MemoryStore

CONTENT = b"".join(bytes([number]) * MIB for number in range(1, 7))

Failure = Callable[[], BaseException]
FAILURES: list[Failure] = [
    lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    KeyboardInterrupt,
]


class Fuse:
    """Makes the n-th changing call on any writable FileStore fail, and all calls after it."""

    def __init__(self, patch: pytest.MonkeyPatch, failure: Failure) -> None:
        self.calls = 0
        self.limit = 1 << 60
        self._failure = failure
        for name in ("pwrite", "truncate", "flush"):
            self._wrap(patch, name)

    def _wrap(self, patch: pytest.MonkeyPatch, name: str) -> None:
        original = getattr(FileStore, name)

        def call(store: FileStore, *arguments: object) -> object:
            self.calls += 1
            if self.calls >= self.limit:
                raise self._failure()
            return original(store, *arguments)

        patch.setattr(FileStore, name, call)


def source() -> RawDevice:
    return RawDevice(MemoryStore(CONTENT))


def no_worker_is_left() -> bool:
    return not any(thread.name.startswith("vhdx-") for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("format", ["raw", "vhdx"])
@pytest.mark.parametrize("failure", FAILURES)
def test_failure_at_any_call_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Failure, format: str, threads: int
) -> None:
    fuse = Fuse(monkeypatch, failure)
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def run() -> None:
        options = {"format": format, "threads": threads, "overwrite": True}
        if format == "vhdx":
            options["block_size"] = MIB
        convert(source(), path, **options)  # type: ignore[arg-type]

    run()
    total, fuse.calls = fuse.calls, 0
    path.write_bytes(b"old")
    for limit in [*range(1, 6), *range(6, total, 5), total]:
        fuse.calls, fuse.limit = 0, limit
        with pytest.raises(type(failure())):
            run()
        assert os.listdir(tmp_path) == ["out"]
        assert path.read_bytes() == b"old"
        assert no_worker_is_left()
    fuse.limit = 1 << 60
    run()
    if format == "raw":
        assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_interrupted_creation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    fuse = Fuse(monkeypatch, KeyboardInterrupt)
    create(tmp_path / "probe.vhdx", 64 * MIB, kind=kind, block_size=MIB)  # type: ignore[arg-type]
    total = fuse.calls
    (tmp_path / "probe.vhdx").unlink()
    assert total > 5
    for limit in range(1, total + 1):
        fuse.calls, fuse.limit = 0, limit
        with pytest.raises(KeyboardInterrupt):
            create(tmp_path / "new.vhdx", 64 * MIB, kind=kind, block_size=MIB)  # type: ignore[arg-type]
        assert os.listdir(tmp_path) == []


class FullStore(MemoryStore):
    """A store that takes so many bytes and no more."""

    def __init__(self, room: int) -> None:
        self.room = 1 << 60
        super().__init__()
        self.room = room

    def pwrite(self, data: object, file_offset: int) -> None:
        with memoryview(data) as view:  # type: ignore[arg-type]
            self.room -= view.nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)
        super().pwrite(data, file_offset)  # type: ignore[arg-type]


def test_full_store_of_the_callers_holds_no_image() -> None:
    room = 0
    while True:
        store = FullStore(room)
        try:
            convert(source(), store, format="vhdx", block_size=MIB)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            with pytest.raises(NotVhdxError):
                vhdx.open(store)
            room += 97 * 4096
        else:
            break
    with vhdx.open(store) as disk:
        assert disk.pread(disk.size, 0) == CONTENT
    assert room > len(CONTENT)


def test_unreadable_source_fails_the_conversion(tmp_path: Path) -> None:
    class Broken(MemoryStore):
        def pread_into(self, buffer: object, file_offset: int) -> int:
            if file_offset >= 4 * MIB:
                raise OSError(errno.EIO, "broken disk", self.name)
            return super().pread_into(buffer, file_offset)  # type: ignore[arg-type]

    with pytest.raises(OSError, match="broken disk"):
        convert(RawDevice(Broken(CONTENT)), tmp_path / "out.raw")
    assert os.listdir(tmp_path) == []
    assert no_worker_is_left()


def test_source_that_shrinks_fails_the_conversion(tmp_path: Path) -> None:
    for sparse in (True, False):
        path = tmp_path / "source.raw"
        path.write_bytes(CONTENT)
        with RawDevice.open(path) as device:
            os.truncate(path, 2 * MIB + 77)
            device_store = device.store

            class Stale(MemoryStore):
                """Tells the old extents of a file that has become shorter."""

                def pread_into(self, buffer: object, file_offset: int) -> int:
                    return device_store.pread_into(buffer, file_offset)  # type: ignore[arg-type]  # noqa: B023

            with pytest.raises(OSError, match=r"shorter|ends before"):
                convert(RawDevice(Stale(CONTENT)), tmp_path / "out.raw", sparse=sparse)
        path.unlink()
        assert os.listdir(tmp_path) == []


def test_progress_that_raises_ends_the_conversion(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source(), tmp_path / "out.raw", progress=stop)
    assert os.listdir(tmp_path) == []
    assert no_worker_is_left()


def test_corrupt_block_fails_the_conversion(tmp_path: Path) -> None:
    from vhdx.testing import ImageBuilder

    image = ImageBuilder(4 * MIB)
    image.add_block(0, b"x")
    image.set_block(2, 6, 1 << 40)
    with vhdx.open(image.build_store()) as disk, pytest.raises(vhdx.CorruptImageError):
        convert(disk, tmp_path / "out.raw")
    assert os.listdir(tmp_path) == []
