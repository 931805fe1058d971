"""Whole images, open here and in QEMU at once: readers share, writers do not, and nobody is harmed."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vhdx
from support.programs import attempt, need, run
from support.units import MIB
from vhdx import _host
from vhdx.ops.create import create
from vhdx.storage import durable

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not _host.HAVE_OFD_LOCKS, reason="OFD locks are switched off"),
]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.vhdx"
    create(path, 16 * MIB, block_size=MIB)
    return path


@contextmanager
def qemu_io(image: Path, *options: str) -> Iterator[None]:
    """A qemu-io that has the image open."""
    command = [need("qemu-io", "qemu-utils"), "-f", "vhdx", *options, str(image)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("length\n")
        process.stdin.flush()
        assert "16 MiB" in process.stdout.readline()
        try:
            yield
        finally:
            process.stdin.write("quit\n")
            process.stdin.close()
            process.wait()


def test_writer_keeps_qemu_out_until_it_is_closed(image: Path) -> None:
    qemu_img, qemu_io_path = need("qemu-img", "qemu-utils"), need("qemu-io", "qemu-utils")
    commands = (
        (qemu_img, "info", image),
        (qemu_img, "check", image),
        (qemu_io_path, "-r", "-f", "vhdx", "-c", "read 0 512", image),
        (qemu_io_path, "-f", "vhdx", "-c", "write 0 512", image),
        (need("qemu-nbd", "qemu-utils"), "-f", "vhdx", "-r", "-k", image.with_suffix(".sock"), image),
    )
    with vhdx.open(image, "r+") as disk:
        for moment in ("opened", "written", "flushed"):
            if moment == "written":
                disk.pwrite(b"n" * 512, 0)
            if moment == "flushed":
                disk.flush()
            for command in commands:
                done = attempt(*command)
                assert done.returncode != 0
                assert "lock" in done.stderr
    assert attempt(qemu_img, "info", image).returncode == 0
    run(qemu_io_path, "-f", "vhdx", "-c", "read -P 110 0 512", "-c", "write 0 512", image)


def test_poisoned_writer_lets_qemu_in_once_it_is_closed(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = vhdx.open(image, "r+")
    disk.pwrite(b"n" * 512, 0, fua=True)

    def fail(_: int) -> None:
        raise OSError(5, "device failed")

    with monkeypatch.context() as broken:
        broken.setattr(durable, "sync_data", fail)
        with pytest.raises(OSError, match="device failed"):
            disk.flush()
    with pytest.raises(vhdx.ImagePoisonedError):
        disk.pread(1, 0)
    assert attempt(need("qemu-img", "qemu-utils"), "info", image).returncode != 0
    disk.close()
    run(need("qemu-img", "qemu-utils"), "check", "-r", "all", image)
    with vhdx.open(image) as again:
        assert again.pread(512, 0) == b"n" * 512


def test_qemu_that_writes_keeps_our_writers_and_readers_out(image: Path) -> None:
    with qemu_io(image):
        for mode in ("r", "r+"):
            with pytest.raises(vhdx.ImageLockedError, match="in use by another process"):
                vhdx.open(image, mode)
    vhdx.open(image, "r+").close()


def test_qemu_that_reads_shares_with_readers_only(image: Path) -> None:
    with qemu_io(image, "-r"):
        vhdx.open(image).close()
        with pytest.raises(vhdx.ImageLockedError):
            vhdx.open(image, "r+")


def test_reader_shares_with_qemu_that_reads_only(image: Path) -> None:
    with vhdx.open(image):
        run(need("qemu-img", "qemu-utils"), "check", image)
        done = attempt(need("qemu-io", "qemu-utils"), "-f", "vhdx", "-c", "write 0 512", image)
        assert done.returncode != 0
        assert "lock" in done.stderr


def test_parent_of_a_disk_that_is_written_is_kept_from_writers(image: Path) -> None:
    child = image.with_name("child.vhdx")
    create(child, parent=image)
    with vhdx.open(child, "r+") as disk:
        disk.pwrite(b"n", 0)
        with pytest.raises(vhdx.ImageLockedError):
            vhdx.open(image, "r+")
        with vhdx.open(image):
            pass
        done = attempt(need("qemu-io", "qemu-utils"), "-f", "vhdx", "-c", "write 0 512", image)
        assert "lock" in done.stderr


def test_two_of_our_writers_exclude_each_other(image: Path) -> None:
    with vhdx.open(image, "r+"):
        for mode in ("r", "r+"):
            with pytest.raises(vhdx.ImageLockedError):
                vhdx.open(image, mode)
