"""`vhdx mount` with a real mount: what is there, what may be done to it, and how it ends."""

import errno
import mmap
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import vhdx
from support.mounting import (
    HANG_GUARD_SECONDS,
    is_mounted,
    mounted,
    need_fuse,
)
from support.programs import attempt, run
from support.tables import Slot, boot_record
from support.units import KIB, MIB, TIB
from vhdx.cli.main import main
from vhdx.disks.raw import RawDevice
from vhdx.fuse.files import disk_files
from vhdx.fuse.mount import Mount, RefusedMountError
from vhdx.fuse.unmounting import is_dead
from vhdx.guest.partition import Partition
from vhdx.ops.check import check
from vhdx.ops.create import create
from vhdx.rules import Severity
from vhdx.storage import libc
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder

pytestmark = pytest.mark.interop

START = 2 * MIB
LENGTH = 5 * MIB


@pytest.fixture(autouse=True)
def _fuse() -> None:
    need_fuse()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """16 MiB in blocks of 1 MiB, with a partition of 5 MiB at 2 MiB that has two blocks of data."""
    path = tmp_path / "disk.vhdx"
    create(path, 16 * MIB, block_size=MIB)
    with vhdx.open(path, "r+") as disk:
        disk.pwrite(boot_record({0: Slot(0x83, START // 512, LENGTH // 512)}), 0)
        disk.pwrite(os.urandom(2 * MIB), START + MIB)
    return path


def content(image: Path) -> bytes:
    with vhdx.open(image) as disk:
        return disk.pread(disk.size, 0)


def faults(image: Path) -> list[object]:
    return [f for f in check(image).findings() if f.severity in (Severity.ERROR, Severity.LEAK)]


def until(condition: Callable[[], bool]) -> None:
    """Wait; a hang guard fails the test."""
    deadline = time.monotonic() + HANG_GUARD_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.02)


@contextmanager
def held_open(path: Path) -> Iterator[int]:
    """A descriptor for reading and writing, which may be closed after its mount has gone."""
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd
    finally:
        with suppress(OSError):
            os.close(fd)


# -- reading ---------------------------------------------------------------------------------------------------


def test_files_hold_the_disk_and_its_partitions(image: Path, place: Path) -> None:
    expected = content(image)
    with mounted(image, place) as mount:
        assert sorted(path.name for path in place.iterdir()) == ["disk.raw", "p1"]
        assert mount.file().read_bytes() == expected
        assert mount.file("p1").read_bytes() == expected[START : START + LENGTH]
        assert "disk.raw: 16 MiB, the whole disk\n" in mount.out
        assert mount.unmount() == 0
        assert mount.err == ""
    assert not list(place.iterdir())


def test_odd_offsets_are_read_right(image: Path, place: Path) -> None:
    expected = content(image)[START : START + LENGTH]
    with mounted(image, place) as mount, mount.file("p1").open("rb", buffering=0) as file:
        for offset, length in ((1, 1), (MIB - 3, 7), (4095, 130 * KIB), (LENGTH - 5, 100), (LENGTH, 1)):
            assert os.pread(file.fileno(), length, offset) == expected[offset : offset + length]
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            assert (
                subprocess.run(["cmp", str(mount.file("p1")), str(mount.file("p1"))], check=False).returncode
                == 0
            )
            assert len(view) == LENGTH


def test_files_are_sparse_as_the_image_is(image: Path, place: Path) -> None:
    with mounted(image, place) as mount:
        assert mount.file().stat().st_blocks * 512 == 3 * MIB
        assert mount.file("p1").stat().st_blocks * 512 == 2 * MIB
        with mount.file("p1").open("rb") as file:
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == MIB
            assert os.lseek(file.fileno(), MIB, os.SEEK_HOLE) == 3 * MIB
            with pytest.raises(OSError, match="No such device") as caught:
                os.lseek(file.fileno(), 3 * MIB, os.SEEK_DATA)
            assert caught.value.errno == errno.ENXIO
        copy = image.with_name("copy.raw")
        subprocess.run(["cp", "--sparse=auto", mount.file(), copy], check=True)
        assert copy.read_bytes() == content(image)
        assert copy.stat().st_blocks * 512 < 4 * MIB


def test_disk_of_64_tib_is_there_at_once(tmp_path: Path, place: Path) -> None:
    create(tmp_path / "large.vhdx", 64 * TIB, block_size=MIB)
    with vhdx.open(tmp_path / "large.vhdx", "r+") as disk:
        disk.pwrite(b"far out", 63 * TIB)
    with mounted(tmp_path / "large.vhdx", place) as mount:
        status = mount.file().stat()
        assert (status.st_size, status.st_blocks * 512) == (64 * TIB, MIB)
        with mount.file().open("rb") as file:
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 63 * TIB
            assert os.pread(file.fileno(), 7, 63 * TIB) == b"far out"


def test_mount_is_read_only_by_default(image: Path, place: Path) -> None:
    before = image.read_bytes()
    with mounted(image, place) as mount:
        for attempted in (
            lambda: mount.file().open("r+b"),
            lambda: mount.file().unlink(),
            (place / "new").touch,
            lambda: os.truncate(mount.file(), 0),
        ):
            with pytest.raises(OSError, match="Read-only file system"):
                attempted()
        assert mount.unmount() == 0
    assert image.read_bytes() == before


def test_several_readers_at_once_get_the_right_bytes(image: Path, place: Path) -> None:
    with mounted(image, place) as mount:
        readers = [
            subprocess.Popen(["sha256sum", mount.file(name)], stdout=subprocess.PIPE, text=True)
            for name in ("disk.raw", "p1") * 4
        ]
        sums = [reader.communicate(timeout=HANG_GUARD_SECONDS)[0].split()[0] for reader in readers]
    assert len(set(sums)) == 2


def test_disk_that_is_a_file_system_is_said_to_be_one(tmp_path: Path, place: Path) -> None:
    create(tmp_path / "fs.vhdx", 8 * MIB, block_size=MIB)
    with vhdx.open(tmp_path / "fs.vhdx", "r+") as disk:
        disk.pwrite(b"XFSB", 0)
    with mounted(tmp_path / "fs.vhdx", place) as mount:
        expected = f"no partition table; the disk itself is an XFS file system: mount {place}/disk.raw"
        assert expected in mount.out
        assert [path.name for path in place.iterdir()] == ["disk.raw"]


def test_faults_of_the_table_are_warnings_and_the_disk_is_there(tmp_path: Path, place: Path) -> None:
    builder = ImageBuilder(name="disk")
    builder.add_block(0, boot_record({0: Slot(0x83, 64, 1 << 20), 1: Slot(0x83, 64, 8)}))
    with mounted(builder.write(tmp_path / "disk.vhdx"), place) as mount:
        assert sorted(path.name for path in place.iterdir()) == ["disk.raw", "p2"]
        mount.unmount()
        assert re.search(r"^vhdx: warning: .*disk.vhdx: partition 1 .* is left out", mount.err, re.MULTILINE)


def test_block_that_cannot_be_read_is_an_io_error_and_a_line(tmp_path: Path, place: Path) -> None:
    builder = ImageBuilder(name="disk")
    builder.add_block(0, b"sound")
    builder.set_block(2, 6, 1 << 43)
    with mounted(builder.write(tmp_path / "disk.vhdx"), place) as mount:
        with mount.file().open("rb", buffering=0) as file:
            assert os.pread(file.fileno(), 5, 0) == b"sound"
            for _ in range(3):
                with pytest.raises(OSError, match="Input/output error"):
                    os.pread(file.fileno(), 5, 2 * MIB)
            assert os.pread(file.fileno(), 5, 4 * MIB) == bytes(5)
        assert mount.unmount() == 0
        assert len(mount.err.splitlines()) == len(set(mount.err.splitlines())) > 0
        assert "Traceback" not in mount.err


def test_raw_file_can_be_mounted_too(tmp_path: Path, place: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(boot_record({0: Slot(0x83, 2, 4)}) + os.urandom(4096))
    with mounted(path, place) as mount:
        assert mount.file().read_bytes() == path.read_bytes()
        assert mount.file("p1").read_bytes() == path.read_bytes()[1024:3072]


def test_raw_file_can_be_written_to(tmp_path: Path, place: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(boot_record({0: Slot(0x83, 8, 8)}) + bytes(8192 - 512))
    with mounted(path, place, "--read-write", "-f", "raw") as mount:
        with mount.file("p1").open("r+b", buffering=0) as file:
            file.write(b"written")
            os.fsync(file.fileno())
        assert path.read_bytes()[4096:4103] == b"written"
        assert mount.unmount() == 0
    assert path.stat().st_size == 8192


# -- writing ---------------------------------------------------------------------------------------------------


def test_what_is_written_is_in_the_image(image: Path, place: Path) -> None:
    expected = bytearray(content(image))
    with mounted(image, place, "--read-write") as mount:
        with mount.file("p1").open("r+b", buffering=0) as file:
            for offset, data in ((0, b"first"), (3 * MIB - 2, os.urandom(300 * KIB)), (LENGTH - 4, b"last")):
                assert os.pwrite(file.fileno(), data, offset) == len(data)
                expected[START + offset : START + offset + len(data)] = data
            with pytest.raises(OSError, match="No space left"):
                os.pwrite(file.fileno(), b"past", LENGTH)
        assert mount.file().read_bytes() == expected
        assert mount.unmount() == 0
        assert mount.err == ""
    assert content(image) == expected
    assert faults(image) == []


def test_fsync_makes_durable_what_a_killed_mount_had_written(image: Path, place: Path) -> None:
    with mounted(image, place, "--read-write") as mount, held_open(mount.file("p1")) as fd:
        for block in range(5):
            os.pwrite(fd, bytes([block + 1]) * 4096, block * MIB)
        os.fsync(fd)
        mount.signal(signal.SIGKILL)
        mount.wait()
    assert faults(image) == []
    found = content(image)
    for block in range(5):
        start = START + block * MIB
        assert found[start : start + 4096] == bytes([block + 1]) * 4096


def test_mount_of_a_dead_process_that_libfuse_left_behind_can_be_unmounted(
    image: Path, place: Path, tmp_path: Path
) -> None:
    with mounted(image, place) as mount, mounted(image, tmp_path / "other") as other:
        # libfuse's helper would take it away, most of the time.
        run("pkill", "-KILL", "-f", f"fusermount3 .*auto_unmount.* {place}$")
        mount.signal(signal.SIGKILL)
        mount.wait()
        until(lambda: is_dead(str(place)))
        assert is_mounted(place)
        run(sys.executable, "-m", "vhdx", "unmount", place)
        assert not is_mounted(place)
        assert other.process.poll() is None


def test_unmounting_one_of_two_mounts_of_an_image_does_not_wait_for_the_other(
    image: Path, place: Path, tmp_path: Path
) -> None:
    with mounted(image, tmp_path / "other") as other, mounted(image, place) as mount:
        assert mount.unmount() == 0
        assert other.process.poll() is None
        assert is_mounted(other.directory)


def test_punching_holes_gives_space_back_and_zeroing_keeps_it(image: Path, place: Path) -> None:
    with mounted(image, place, "--read-write") as mount, mount.file("p1").open("r+b") as file:
        keep = libc.FALLOC_KEEP_SIZE
        libc.fallocate(file.fileno(), libc.FALLOC_PUNCH_HOLE | keep, MIB, MIB)
        assert os.pread(file.fileno(), MIB, MIB) == bytes(MIB)
        assert os.fstat(file.fileno()).st_blocks * 512 == MIB
        libc.fallocate(file.fileno(), libc.FALLOC_ZERO_RANGE | keep, 2 * MIB, MIB)
        assert os.pread(file.fileno(), MIB, 2 * MIB) == bytes(MIB)
        with pytest.raises(OSError, match="not supported"):
            libc.fallocate(file.fileno(), keep, 0, MIB)
    assert content(image)[START : START + LENGTH] == bytes(LENGTH)


def test_size_cannot_be_changed(image: Path, place: Path) -> None:
    with mounted(image, place, "--read-write") as mount:
        file = mount.file("p1")
        os.truncate(file, LENGTH)
        for size in (0, LENGTH - 1, LENGTH + 1):
            with pytest.raises(PermissionError):
                os.truncate(file, size)
        # cp and dd open like this.
        fd = os.open(file, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, b"over")
        os.close(fd)
        assert file.stat().st_size == LENGTH
        assert file.read_bytes() == b"over" + bytes(LENGTH - 4)
    assert content(image)[START : START + 4] == b"over"


def test_read_write_mount_without_a_write_leaves_the_image_as_it_was(image: Path, place: Path) -> None:
    before = image.read_bytes()
    with mounted(image, place, "--read-write") as mount:
        mount.file().read_bytes()
        mount.unmount()
    assert image.read_bytes() == before


def test_image_is_locked_while_it_is_mounted_and_the_holder_named(image: Path, place: Path) -> None:
    other = place.with_name("other")
    other.mkdir()
    with mounted(image, place, "--read-write") as mount:
        done = attempt(sys.executable, "-m", "vhdx", "mount", image, other)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "in use by another process" in line
        assert f"(process {mount.process.pid})" in line
        assert not is_mounted(other)


# -- ending ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("options", [(), ("--read-write",)])
def test_signal_unmounts_and_closes(
    image: Path, place: Path, number: signal.Signals, options: tuple[str, ...]
) -> None:
    with mounted(image, place, *options) as mount:
        if options:
            mount.file("p1").write_bytes(b"written")
        mount.signal(number)
        assert (mount.wait(), mount.err) == (0, "")
    assert not is_mounted(place)
    assert faults(image) == []
    with vhdx.open(image, "r+") as disk:
        assert not disk.is_dirty
        assert (disk.pread(7, START) == b"written") == bool(options)


def test_unmount_by_the_system_closes_the_image(image: Path, place: Path) -> None:
    with mounted(image, place, "--read-write") as mount:
        mount.file("p1").write_bytes(b"written")
        assert attempt("fusermount3", "-u", place).returncode == 0
        assert (mount.wait(), mount.err) == (0, "")
    assert content(image)[START : START + 7] == b"written"


def test_busy_mount_names_its_users_and_goes_when_they_are_done(image: Path, place: Path) -> None:
    with mounted(image, place, "--read-write") as mount:
        with mount.file("p1").open("r+b") as file:
            done = attempt(sys.executable, "-m", "vhdx", "unmount", place)
            assert done.returncode == 1
            assert f"(process {os.getpid()}) uses {place}/p1" in done.stderr
            assert "nothing was unmounted" in done.stderr
            mount.signal(signal.SIGTERM)
            until(lambda: bool(mount.err))
            assert f"(process {os.getpid()}) uses {place}/p1" in mount.err
            assert mount.process.poll() is None
            file.write(b"still works")
        assert mount.wait() == 0
        assert len(mount.err.splitlines()) == 1
    assert content(image)[START : START + 11] == b"still works"


def test_directory_that_somebody_stands_in_is_busy(image: Path, place: Path) -> None:
    with mounted(image, place) as mount, subprocess.Popen(["sleep", "600"], cwd=place) as sleeper:
        try:
            done = attempt(sys.executable, "-m", "vhdx", "unmount", place)
            assert f"sleep (process {sleeper.pid}) uses {place};" in done.stderr
        finally:
            sleeper.kill()
        assert sleeper.wait() < 0
        assert mount.unmount() == 0


def test_second_signal_detaches_and_loses_nothing(image: Path, place: Path) -> None:
    with mounted(image, place, "--read-write") as mount:
        with held_open(mount.file("p1")) as fd:
            os.write(fd, b"before")
            mount.signal(signal.SIGTERM)
            until(lambda: bool(mount.err))
            mount.signal(signal.SIGTERM)
            assert mount.wait() == 0
            with pytest.raises(OSError, match="not connected"):
                os.write(fd, b"after")
        assert "detached while in use" in mount.err
    assert not is_mounted(place)
    assert faults(image) == []
    assert content(image)[START : START + 6] == b"before"


def test_commands_return_when_mounted_and_when_closed(image: Path, place: Path) -> None:
    done = attempt(sys.executable, "-m", "vhdx", "mount", "--read-write", image, place)
    assert (done.returncode, done.stderr) == (0, "")
    assert "p1:" in done.stdout
    with (place / "p1").open("r+b", buffering=0) as file:
        file.write(b"background")
        assert "busy" in attempt(sys.executable, "-m", "vhdx", "unmount", place).stderr
    done = attempt(sys.executable, "-m", "vhdx", "unmount", place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # Closed, not merely unmounted: a writer gets its lock at once.
    with vhdx.open(image, "r+") as disk:
        assert not disk.is_dirty
        assert disk.pread(10, START) == b"background"


def test_name_with_commas_and_spaces_can_be_mounted(image: Path, place: Path) -> None:
    odd = image.rename(image.with_name("a,b \\ c.vhdx"))
    done = attempt(sys.executable, "-m", "vhdx", "mount", odd, place)
    assert done.returncode == 0, done.stderr
    assert attempt(sys.executable, "-m", "vhdx", "unmount", place).returncode == 0
    with vhdx.open(odd, "r+"):
        pass


def ignores_broken_pipes() -> bool:
    """Whether SIGPIPE is ignored by this process, as the kernel has it."""
    status = Path("/proc/self/status").read_text()
    (ignored,) = [line for line in status.splitlines() if line.startswith("SigIgn:")]
    return bool(int(ignored.split()[1], 16) >> (signal.SIGPIPE - 1) & 1)


def test_any_block_device_can_be_mounted_from_python(place: Path) -> None:
    data = os.urandom(MIB)
    ended = threading.Event()
    with RawDevice(MemoryStore(data)) as device:
        mount = Mount(disk_files(device, [Partition(3, 4096, 8192, "")], 10**18), str(place), print)
        mount.start("memory", on_end=ended.set)
        assert (place / "disk.raw").read_bytes() == data
        assert (place / "p3").read_bytes() == data[4096:12288]
        assert (place / "p3").stat().st_mtime_ns == 10**18
        with (place / "p3").open("rb"):
            assert not mount.unmount()
        assert mount.unmount()
        mount.detach()
    assert ended.wait(HANG_GUARD_SECONDS)
    assert not is_mounted(place)
    assert ignores_broken_pipes(), "the next write to a closed socket would end the process"


def test_binding_leaves_the_environment_as_it_was() -> None:
    program = (
        "import os; before = dict(os.environ); import vhdx.fuse.binding; assert dict(os.environ) == before"
    )
    run(sys.executable, "-c", program)


def unknown_option(*_: object, **__: object) -> dict[str, object]:
    """Options for libfuse of which it knows none."""
    return {"foreground": True, "nonsense": True}


def test_refusal_of_libfuse_is_an_error_whose_reason_is_on_stderr(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vhdx.fuse.mount._options", unknown_option)
    ended = threading.Event()
    with RawDevice(MemoryStore(bytes(MIB))) as device:
        mount = Mount(disk_files(device, [], 0), str(place), print)
        with pytest.raises(RefusedMountError, match="cannot be mounted"):
            mount.start("memory", on_end=ended.set)
    assert ended.is_set()
    assert not is_mounted(place)
    assert "nonsense" in capfd.readouterr().err


def test_command_tells_the_reason_for_which_libfuse_refuses(
    image: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vhdx.fuse.mount._options", unknown_option)
    assert main(["mount", "--foreground", str(image), str(place)]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"vhdx: {place}: cannot be mounted: ")
    assert "nonsense" in line


# -- refusals --------------------------------------------------------------------------------------------------


def refusal(*arguments: str | Path) -> str:
    """The one line that a command which must fail prints."""
    done = attempt(sys.executable, "-m", "vhdx", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("mode", ["--foreground", "--read-write"])
def test_image_that_cannot_be_opened_leaves_nothing_mounted(tmp_path: Path, place: Path, mode: str) -> None:
    broken = tmp_path / "broken.vhdx"
    broken.write_bytes(b"vhdxfile" + bytes(4 * MIB))
    assert "broken.vhdx" in refusal("mount", mode, broken, place)
    assert "No such file" in refusal("mount", mode, tmp_path / "absent.vhdx", place)
    assert not is_mounted(place)


def test_absent_parent_is_refused(tmp_path: Path, place: Path) -> None:
    base = ImageBuilder(name="base")
    child = ImageBuilder.child_of(base, name="child").write(tmp_path / "child.vhdx")
    assert "--parent" in refusal("mount", child, place)
    assert "--parent" in refusal("mount", "--no-parents", child, place)
    assert not is_mounted(place)


def test_chain_is_mounted_with_what_its_parents_hold(tmp_path: Path, place: Path) -> None:
    base = ImageBuilder(name="base")
    base.add_block(1, b"from the parent")
    base.write(tmp_path / "base.vhdx")
    child = ImageBuilder.child_of(base, name="child").write(tmp_path / "child.vhdx")
    with mounted(child, place, "--read-write") as mount, mount.file().open("r+b", buffering=0) as file:
        assert os.pread(file.fileno(), 15, MIB) == b"from the parent"
        os.pwrite(file.fileno(), b"changed", MIB)
        os.fsync(file.fileno())
    assert content(child)[MIB : MIB + 15] == b"changed" + b"from the parent"[7:]


def test_directory_in_use_is_refused(image: Path, place: Path) -> None:
    with mounted(image, place):
        assert "something is mounted there already" in refusal("mount", image, place)
    (place / "file").touch()
    assert "not empty" in refusal("mount", image, place)
    assert "not a directory" in refusal("mount", image, place / "file")
    assert "mkdir" in refusal("mount", image, place / "absent")


def test_unmounting_what_is_not_ours_is_refused(place: Path) -> None:
    assert "nothing is mounted there" in refusal("unmount", place)
    assert "none of vhdx's" in refusal("unmount", "/proc")


def test_two_mounts_of_one_image_for_reading(image: Path, place: Path) -> None:
    other = place.with_name("other")
    with mounted(image, place) as one, mounted(image, other) as two:
        assert one.file().read_bytes() == two.file().read_bytes()
