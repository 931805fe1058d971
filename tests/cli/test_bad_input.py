"""What every command does with files that it cannot use: one line that says what, where and what to do."""

import gzip
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.command import Vhdx
from vhdx import _host
from vhdx.storage.file import FileStore

READERS = ("info", "check", "map", "dump", "measure")

readers = pytest.mark.parametrize("command", READERS)


@readers
def test_missing_file_is_one_line_that_names_it(vhdx: Vhdx, tmp_path: Path, command: str) -> None:
    outcome = vhdx(command, tmp_path / "absent.vhdx")
    assert outcome.code == 1
    expected = f"vhdx: {tmp_path / 'absent.vhdx'}: No such file or directory; check the name"
    assert outcome.error_line == expected


@readers
def test_directory(vhdx: Vhdx, tmp_path: Path, command: str) -> None:
    outcome = vhdx(command, tmp_path)
    assert outcome.code == 1
    assert outcome.error_line.startswith(f"vhdx: {tmp_path}: is a directory")


@readers
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_fifo_is_refused_without_waiting_for_it(vhdx: Vhdx, tmp_path: Path, command: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    outcome = vhdx(command, tmp_path / "fifo")
    assert outcome.code == 1
    assert "is a FIFO" in outcome.error_line


@readers
def test_empty_file_is_one_line_and_exit_code_1(vhdx: Vhdx, tmp_path: Path, command: str) -> None:
    path = tmp_path / "empty.vhdx"
    path.touch()
    outcome = vhdx(command, path)
    assert (outcome.code, outcome.out) == (1, "") if command != "check" else (1, outcome.out)
    assert "an empty file" in outcome.error_line


@readers
def test_other_format_is_named(vhdx: Vhdx, qcow2_like: Path, command: str) -> None:
    outcome = vhdx(command, qcow2_like)
    assert outcome.code == 1
    assert str(qcow2_like) in outcome.error_line
    assert "qcow2" in outcome.error_line


@readers
def test_compressed_image_is_named(vhdx: Vhdx, image: Path, command: str) -> None:
    path = image.with_suffix(".vhdx.gz")
    path.write_bytes(gzip.compress(image.read_bytes()))
    outcome = vhdx(command, path)
    assert outcome.code == 1
    assert "gzip" in outcome.error_line


@readers
def test_truncated_image_is_refused_or_described_without_a_traceback(
    vhdx: Vhdx, image: Path, command: str
) -> None:
    with image.open("r+b") as file:
        file.truncate(2 << 20)
    outcome = vhdx(command, image)
    if command in {"check", "dump"}:
        assert (outcome.code, outcome.err) == (2 if command == "check" else 0, "")
        assert "[region-truncated]" in outcome.out
    else:
        assert outcome.code == 1
        assert "[region-truncated]" in outcome.error_line


@readers
@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not hold for this user"
)
def test_file_without_permission(vhdx: Vhdx, image: Path, command: str) -> None:
    image.chmod(0)
    outcome = vhdx(command, image)
    assert outcome.code == 1
    assert "Permission denied" in outcome.error_line


@readers
def test_image_in_use_by_a_writer(vhdx: Vhdx, image: Path, command: str) -> None:
    with FileStore.open(image, writable=True):
        outcome = vhdx(command, image)
        assert outcome.code == 1
        assert "already open in this process" in outcome.error_line
        assert "--force-share" in outcome.error_line


@readers
def test_image_in_use_is_read_on_demand_and_the_result_marked(vhdx: Vhdx, image: Path, command: str) -> None:
    with FileStore.open(image, writable=True):
        outcome = vhdx(command, "--force-share", image)
        assert outcome.code == 0
        assert "not reliable" in outcome.error_line
        if command in {"info", "check", "dump"}:
            assert "not reliable" in outcome.out
            marked = vhdx(command, "--force-share", "--json", image)
            assert '"reliable": false' in marked.out


@contextmanager
def qemu_nbd(image: Path) -> Iterator[None]:
    """Serve an image for writing until the block ends."""
    path = image.with_name("nbd.sock")
    command = ["qemu-nbd", "--format=vhdx", "--persistent", f"--socket={path}", str(image)]
    with subprocess.Popen(command) as process:
        try:
            while process.poll() is None:
                with socket.socket(socket.AF_UNIX) as client:
                    if client.connect_ex(str(path)) == 0 and client.recv(8) == b"NBDMAGIC":
                        break
                time.sleep(0.01)
            assert process.poll() is None
            yield
        finally:
            process.kill()
            process.wait()


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("qemu-nbd") is None, reason="qemu-nbd is needed")
@pytest.mark.skipif(not _host.HAVE_OFD_LOCKS, reason="OFD locks are switched off")
@readers
def test_image_served_by_qemu(vhdx: Vhdx, image: Path, command: str) -> None:
    with qemu_nbd(image):
        outcome = vhdx(command, image)
        assert outcome.code == 1
        assert (
            "in use by another process that has it open for writing: qemu-nbd (process " in outcome.error_line
        )
        assert vhdx(command, "--force-share", image).code == 0


@readers
def test_name_with_control_characters_is_escaped(vhdx: Vhdx, tmp_path: Path, command: str) -> None:
    outcome = vhdx(command, tmp_path / "a\x1b[2J\nb")
    assert outcome.code == 1
    assert "a\\x1b[2J\\x0ab" in outcome.error_line
