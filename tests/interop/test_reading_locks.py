"""An image that another program is writing is in use, whatever its log may hold at that moment."""

import shutil
import subprocess
from pathlib import Path

import pytest

import vhdx
from support.units import MIB
from vhdx import _host
from vhdx.ops.check import check
from vhdx.testing import ImageBuilder

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        shutil.which("qemu-io") is None, reason="qemu-io is not installed (Debian: qemu-utils)"
    ),
    pytest.mark.skipif(not _host.HAVE_OFD_LOCKS, reason="OFD locks are switched off"),
]


def ask(process: "subprocess.Popen[str]", command: str, answer: str) -> None:
    """Give qemu-io one command and wait for its answer; a second line at once it might not look at."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{command}\n")
    process.stdin.flush()
    while answer not in process.stdout.readline():
        assert process.poll() is None


def test_image_that_qemu_is_writing_is_in_use_and_never_dirty(tmp_path: Path) -> None:
    path = ImageBuilder(8 * MIB).write(tmp_path / "disk.vhdx")
    with subprocess.Popen(
        ["qemu-io", "-f", "vhdx", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        ask(process, "write -P 1 0 65536", "wrote 65536")
        with pytest.raises(vhdx.ImageLockedError, match="in use by another process"):
            vhdx.open(path)
        with pytest.raises(vhdx.ImageLockedError, match="in use by another process"):
            list(check(path).findings())
        with vhdx.open(path, lock=False) as disk:
            assert disk.pread(10, 0) == b"\1" * 10
        process.communicate("quit\n")
    with vhdx.open(path) as disk:
        assert not disk.is_dirty
        assert disk.pread(65536, 0) == b"\1" * 65536


def test_parent_that_qemu_is_writing_is_in_use(tmp_path: Path) -> None:
    parent = ImageBuilder(8 * MIB, name="parent")
    path = parent.write(tmp_path / "parent.vhdx")
    child = ImageBuilder.child_of(parent).write(tmp_path / "child.vhdx")
    with subprocess.Popen(
        ["qemu-io", "-f", "vhdx", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        ask(process, "length", "8 MiB")
        with pytest.raises(vhdx.ImageLockedError, match="in use by another process"):
            vhdx.open(child)
        process.communicate("quit\n")
