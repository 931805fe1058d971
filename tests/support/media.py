"""Block devices and small file systems, for those who may make them; the test is skipped for others."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.units import KIB, MIB


@contextmanager
def loop_device(folder: Path) -> Iterator[str]:
    """A block device of 1 MiB full of "d"."""
    backing = folder / "device.img"
    backing.write_bytes(b"d" * MIB)
    try:
        done = subprocess.run(
            ["losetup", "--find", "--show", backing], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no loop device can be made here (needs root and Debian package mount)")
    device = done.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def small_file_system(kind: str, directory: Path) -> Iterator[Path]:
    """A folder that is a file system of about 20 MiB, "tmpfs" or "ext4"."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    folder = directory / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "none", str(folder)]
    if kind == "ext4":
        if shutil.which("mke2fs") is None:
            pytest.skip("mke2fs is not installed (Debian: e2fsprogs)")
        disk = directory / "small.raw"
        with disk.open("wb") as file:
            file.truncate(24 * MIB)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m0", disk], check=True)
        command = ["mount", "-o", "loop", str(disk), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a test that failed may have left its image open, and must not leave the mount behind as well.
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Take the space that is left, but for some."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        free = shutil.disk_usage(folder).free - leave
        try:
            while free > 0:
                free -= file.write(b"b" * min(free, 64 * KIB))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return ballast
