"""Locks between our stores and running QEMU programs, in both directions."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vhdx import _host
from vhdx.errors import ImageLockedError
from vhdx.storage.file import FileStore

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in ("qemu-img", "qemu-io", "qemu-nbd")),
        reason="qemu-img, qemu-io and qemu-nbd are needed (Debian package qemu-utils)",
    ),
    pytest.mark.skipif(not _host.HAVE_OFD_LOCKS, reason="OFD locks are switched off"),
]


@pytest.fixture
def qemu_image(tmp_path: Path) -> Path:
    path = tmp_path / "image.vhdx"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vhdx", path, "16M"], check=True)
    return path


@contextmanager
def _qemu_nbd(image: Path, *options: str) -> Iterator[None]:
    path = image.with_name("nbd.sock")
    command = ["qemu-nbd", "--format=vhdx", "--persistent", f"--socket={path}", *options, str(image)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            if not _is_greeted(process, path):
                assert process.stderr is not None
                raise ChildProcessError(process.stderr.read())
            yield
        finally:
            process.kill()
            process.wait()
            path.unlink(missing_ok=True)


def _is_greeted(process: subprocess.Popen[str], path: Path) -> bool:
    """Wait until a server answers or ends; it listens before it opens the image, and greets after that."""
    while process.poll() is None:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
                if client.recv(8) == b"NBDMAGIC":
                    return True
            except OSError:
                time.sleep(0.01)
    return False


@contextmanager
def _qemu_io(image: Path, *options: str) -> Iterator[None]:
    """A qemu-io that waits for commands; it has opened the image once it has answered one."""
    command = ["qemu-io", "-f", "vhdx", *options, str(image)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("length\n")
            process.stdin.flush()
            assert "16 MiB" in process.stdout.readline()
            yield
        finally:
            process.kill()
            process.wait()


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _assert_excluded(image: Path, *, writable: bool) -> None:
    with pytest.raises(ImageLockedError, match="in use by another process"):
        FileStore.open(image, writable=writable)


def test_reader_coexists_with_a_read_only_qemu_nbd_and_a_writer_does_not(qemu_image: Path) -> None:
    with _qemu_nbd(qemu_image, "--read-only"):
        FileStore.open(qemu_image).close()
        _assert_excluded(qemu_image, writable=True)
    FileStore.open(qemu_image, writable=True).close()


def test_writing_qemu_nbd_excludes_our_readers_and_writers(qemu_image: Path) -> None:
    with _qemu_nbd(qemu_image):
        _assert_excluded(qemu_image, writable=False)
        _assert_excluded(qemu_image, writable=True)
        FileStore.open(qemu_image, lock=False).close()


def test_reader_coexists_with_a_read_only_qemu_io_and_a_writer_does_not(qemu_image: Path) -> None:
    with _qemu_io(qemu_image, "-r"):
        FileStore.open(qemu_image).close()
        _assert_excluded(qemu_image, writable=True)


def test_writing_qemu_io_excludes_our_readers_and_writers(qemu_image: Path) -> None:
    with _qemu_io(qemu_image):
        _assert_excluded(qemu_image, writable=False)
        _assert_excluded(qemu_image, writable=True)


def test_raw_disk_that_qemu_writes_excludes_us_too(qemu_image: Path) -> None:
    # Over the raw driver QEMU shares more rights than over a format driver: it holds 100 and 101 only.
    with subprocess.Popen(
        ["qemu-io", "-f", "raw", str(qemu_image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("length\n")
            process.stdin.flush()
            assert "MiB" in process.stdout.readline()
            _assert_excluded(qemu_image, writable=False)
            _assert_excluded(qemu_image, writable=True)
        finally:
            process.kill()
            process.wait()


def test_our_writer_excludes_qemu(qemu_image: Path) -> None:
    with FileStore.open(qemu_image, writable=True):
        for command in (
            ("qemu-img", "info", qemu_image),
            ("qemu-img", "check", qemu_image),
            ("qemu-io", "-r", "-f", "vhdx", "-c", "length", qemu_image),
            ("qemu-io", "-f", "vhdx", "-c", "length", qemu_image),
        ):
            done = _run(*command)
            assert done.returncode != 0
            assert "lock" in done.stderr
        with pytest.raises(ChildProcessError, match="lock"), _qemu_nbd(qemu_image, "--read-only"):
            pass
        assert _run("qemu-img", "info", "--force-share", qemu_image).returncode == 0
    assert _run("qemu-img", "info", qemu_image).returncode == 0


def test_our_reader_lets_qemu_read_and_not_write(qemu_image: Path) -> None:
    with FileStore.open(qemu_image):
        assert _run("qemu-img", "info", qemu_image).returncode == 0
        assert _run("qemu-io", "-r", "-f", "vhdx", "-c", "read 0 512", qemu_image).returncode == 0
        with _qemu_nbd(qemu_image, "--read-only"):
            pass
        done = _run("qemu-io", "-f", "vhdx", "-c", "write 0 512", qemu_image)
        assert done.returncode != 0
        assert "lock" in done.stderr
        with pytest.raises(ChildProcessError, match="lock"), _qemu_nbd(qemu_image):
            pass


def test_store_without_lock_does_not_hinder_qemu(qemu_image: Path) -> None:
    with FileStore.open(qemu_image, lock=False):
        assert _run("qemu-io", "-f", "vhdx", "-c", "write 0 512", qemu_image).returncode == 0
