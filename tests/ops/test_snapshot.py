"""Writing to a disk that must not change."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import vhdx
from support.cases import pattern, sound, sound_child
from support.dirty import GROWN, applied, grow, unlogged
from support.media import fill
from support.units import MIB
from vhdx import ImageClosedError, RequestError, _host
from vhdx.disks.raw import RawDevice
from vhdx.ops.create import create
from vhdx.ops.snapshot import open_snapshot
from vhdx.storage import durable
from vhdx.testing import ImageBuilder

Maker = Callable[[Path], list[Path]]
"""Makes a base in a folder, and tells its files, the leaf first."""


def _dynamic(folder: Path) -> list[Path]:
    return [sound().write(folder / "base.vhdx")]


def _chain(folder: Path) -> list[Path]:
    child, parent = sound_child()
    return [child.write(folder / "child.vhdx"), parent.write(folder / "parent.vhdx")]


def _dirty(folder: Path) -> list[Path]:
    image = unlogged()
    image.dirty_log(grow(image))
    return [image.write(folder / "dirty.vhdx")]


def _large_sectors(folder: Path) -> list[Path]:
    path = folder / "large.vhdx"
    create(path, 5 * MIB + 4096, block_size=MIB, logical_sector_size=4096)
    with vhdx.open(path, "r+") as disk:
        disk.pwrite(pattern(4, 2 * MIB), MIB - 4096)
    return [path]


def _fixed(folder: Path) -> list[Path]:
    path = folder / "fixed.vhdx"
    create(path, 5 * MIB + 512, kind="fixed", block_size=MIB)
    with vhdx.open(path, "r+") as disk:
        disk.pwrite(pattern(6, MIB), MIB)
    return [path]


def _raw(folder: Path) -> list[Path]:
    path = folder / "disk.raw"
    with path.open("wb") as file:
        file.truncate(5 * MIB + 512)
        file.seek(MIB)
        file.write(pattern(5, 2 * MIB))
    return [path]


MAKERS = {
    "dynamic": _dynamic,
    "fixed": _fixed,
    "chain": _chain,
    "dirty": _dirty,
    "4096": _large_sectors,
    "raw": _raw,
}


@pytest.fixture(params=sorted(MAKERS))
def paths(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """Every kind of base in turn."""
    make: Maker = MAKERS[request.param]
    (tmp_path / "base").mkdir()
    return make(tmp_path / "base")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where what is written goes."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def open_base(path: Path) -> vhdx.Disk | RawDevice:
    return RawDevice.open(path) if path.suffix == ".raw" else vhdx.open(path)


def state_of(paths: list[Path]) -> list[tuple[bytes, int, int]]:
    return [(path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths]


def test_writes_are_seen_over_the_base_which_does_not_change(paths: list[Path], folder: Path) -> None:
    before = state_of(paths)
    with open_base(paths[0]) as base:
        model = bytearray(base.pread(base.size, 0))
        sector = base.limits.minimum_io_size
    with open_snapshot(open_base(paths[0]), str(folder)) as disk:
        assert disk.size == len(model)
        assert disk.logical_sector_size == sector
        assert disk.is_complete
        assert disk.limits.writable
        assert disk.pread(disk.size, 0) == model
        for offset, length in ((0, 5), (MIB - 3, 10), (2 * MIB - 700, MIB), (len(model) - 9, 9)):
            disk.pwrite(b"w" * length, offset)
            model[offset : offset + length] = b"w" * length
            assert disk.pread(disk.size, 0) == model
        disk.write_zeroes(3000, 3 * MIB - 1000)
        model[3 * MIB - 1000 : 3 * MIB + 2000] = bytes(3000)
        disk.flush()
        assert disk.pread(disk.size, 0) == model
        assert [
            extent for extent in disk.extents() if extent.zero and any(model[extent.offset : extent.end])
        ] == []
        assert sum(extent.length for extent in disk.extents()) == disk.size
        disk.trim(disk.size, 0)
        assert disk.pread(disk.size, 0) == bytes(len(model))
    assert state_of(paths) == before


def test_dirty_base_is_read_with_its_log_replayed(tmp_path: Path) -> None:
    path = _dirty(tmp_path)[0]
    with open_snapshot(vhdx.open(path)) as disk:
        assert disk.pread(disk.size, 0) == applied(GROWN)
        disk.pwrite(b"w", GROWN * MIB)
        assert disk.pread(4096, GROWN * MIB) == b"w" + applied(GROWN)[GROWN * MIB + 1 :][:4095]


def test_nothing_is_left_when_it_is_closed_and_the_base_is_free(paths: list[Path], folder: Path) -> None:
    disk = open_snapshot(open_base(paths[0]), str(folder))
    disk.pwrite(b"w" * MIB, 0)
    if os.name == "posix":
        assert list(folder.iterdir()) == []
    disk.close()
    disk.close()
    assert list(folder.iterdir()) == []
    with pytest.raises(ImageClosedError):
        disk.pread(1, 0)
    RawDevice.open(paths[0], writable=True).close()


_VICTIM = """
import sys, time, vhdx
from vhdx.ops.snapshot import open_snapshot
disk = open_snapshot(vhdx.open(sys.argv[1]), sys.argv[2])
disk.pwrite(b"w" * 3_000_000, 0)
disk.flush()
print("written", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_nothing_is_left_by_a_process_that_was_killed(tmp_path: Path, folder: Path) -> None:
    paths = _dynamic(tmp_path)
    before = state_of(paths)
    command = [sys.executable, "-c", _VICTIM, str(paths[0]), str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert list(folder.iterdir()) == []
    assert state_of(paths) == before
    vhdx.open(paths[0], "r+").close()


@pytest.mark.skipif(
    not _host.HAVE_FALLOCATE, reason="space cannot be reserved: a full disk may poison the child"
)
def test_full_folder_is_an_error_of_the_write_and_the_rest_goes_on(tmp_path: Path, small_disk: Path) -> None:
    path = tmp_path / "base.vhdx"
    create(path, 64 * MIB)
    model = bytearray(64 * MIB)
    disk = open_snapshot(vhdx.open(path), str(small_disk))
    ballast = fill(small_disk, 6 * MIB)

    def write(offset: int) -> None:
        disk.pwrite(b"w" * 300_000, offset)
        model[offset : offset + 300_000] = b"w" * 300_000

    def write_everywhere() -> None:
        for offset in range(0, 64 * MIB - 300_000, MIB):
            write(offset)

    with pytest.raises(OSError, match=r".") as caught:
        write_everywhere()
    assert caught.value.errno == errno.ENOSPC
    assert disk.pread(64 * MIB, 0) == model
    write(5)
    disk.flush()
    ballast.unlink()
    write(60 * MIB)
    disk.flush()
    assert disk.pread(64 * MIB, 0) == model
    disk.close()
    assert list(small_disk.glob("*")) == list(small_disk.glob("lost+found"))


def test_what_lies_in_an_absent_parent_is_an_error_and_can_be_written_over(tmp_path: Path) -> None:
    child = _chain(tmp_path)[0]
    with open_snapshot(vhdx.open(child, parents="none")) as disk:
        assert not disk.is_complete
        disk.pwrite(b"w" * 512, 0)
        assert disk.pread(512, 0) == b"w" * 512
        with pytest.raises(vhdx.ParentNotFoundError):
            disk.pread(disk.size, 0)


@pytest.mark.parametrize("size", [0, 1000])
def test_raw_disk_that_is_no_whole_number_of_sectors_is_refused_and_stays_the_callers(
    tmp_path: Path, folder: Path, size: int
) -> None:
    path = tmp_path / "odd.raw"
    path.write_bytes(b"x" * size)
    with RawDevice.open(path) as base:
        with pytest.raises(RequestError, match="size"):
            open_snapshot(base, str(folder))
        assert base.pread(size, 0) == b"x" * size
    assert list(folder.iterdir()) == []


def test_base_that_is_open_for_writing_is_refused(tmp_path: Path) -> None:
    path = _dynamic(tmp_path)[0]
    with vhdx.open(path, "r+") as base, pytest.raises(RequestError, match=r"base\.vhdx.*reading"):
        open_snapshot(base)


def test_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with vhdx.open(_dynamic(tmp_path)[0]) as base, pytest.raises(FileNotFoundError):
        open_snapshot(base, str(tmp_path / "absent"))


def test_flush_asks_nothing_of_the_medium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise AssertionError("a throw-away file has been made durable")

    image = ImageBuilder(8 * MIB).write(tmp_path / "base.vhdx")
    monkeypatch.setattr(durable, "sync_data", refuse)
    with open_snapshot(vhdx.open(image)) as disk:
        disk.pwrite(b"w", 5 * MIB, fua=True)
        disk.flush()
