"""A file that a new one replaces: nobody may be using it, and what belongs to it stays with the name."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vhdx
from support.units import MIB
from vhdx.cli.main import main
from vhdx.storage.file import FileStore
from vhdx.storage.new_file import NewFile

posix_only = pytest.mark.skipif(
    sys.platform != "linux", reason="needs what Linux tells of files and processes"
)
pytestmark = posix_only

HOLDER = """
import os, sys, vhdx
disk = vhdx.open(sys.argv[1], sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
if sys.argv[2] == "r+":
    disk.pwrite(b"late", 4096)
disk.close()
"""


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "source.vhdx", tmp_path / "target.vhdx"
    vhdx.create(source, 4 * MIB)
    vhdx.create(target, 8 * MIB)
    return source, target


@contextmanager
def held(path: Path, mode: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that has an image open while the context lasts; with "r+" it then writes to it."""
    command = [sys.executable, "-c", HOLDER, str(path), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.communicate("\n")


def commands(source: Path, target: Path) -> dict[str, list[str]]:
    return {
        "convert": ["convert", "--force", str(source), str(target)],
        "convert to raw": ["convert", "--force", "-O", "raw", str(source), str(target)],
        "create": ["create", "--force", str(target), "4M"],
    }


@pytest.mark.parametrize("verb", ["convert", "convert to raw", "create"])
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_file_that_another_process_has_open_is_not_replaced(
    verb: str, mode: str, images: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = images
    inode = target.stat().st_ino
    with held(target, mode) as process:
        assert main(commands(source, target)[verb]) == 1
        complaint = capsys.readouterr().err
        assert "in use" in complaint
        assert f"process {process.pid}" in complaint
    assert target.stat().st_ino == inode
    assert sorted(path.name for path in target.parent.iterdir()) == ["source.vhdx", "target.vhdx"]
    with vhdx.open(target) as disk:
        assert disk.size == 8 * MIB
        assert disk.pread(4, 4096) == (b"late" if mode == "r+" else bytes(4))
    assert main(commands(source, target)[verb]) == 0


def test_a_file_that_is_open_for_writing_without_a_lock_is_not_replaced(images: tuple[Path, Path]) -> None:
    source, target = images
    program = "import sys; f = open(sys.argv[1], 'r+b'); print('ready', flush=True); sys.stdin.readline()"
    command = [sys.executable, "-c", program, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(vhdx.ImageLockedError, match=f"process {process.pid}"):
            vhdx.convert(source, target, overwrite=True)
        process.communicate("\n")
    vhdx.convert(source, target, overwrite=True)


def test_nobody_can_open_a_file_while_another_is_made_in_its_place(images: tuple[Path, Path]) -> None:
    _, target = images
    with NewFile(target, overwrite=True) as new:
        new.store.pwrite(b"x", 0)
        with pytest.raises(vhdx.ImageLockedError):
            FileStore.open(target, writable=True)
    FileStore.open(target, writable=True).close()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o400])
@pytest.mark.parametrize("verb", ["convert", "create"])
def test_a_replaced_file_keeps_its_mode(mode: int, verb: str, images: tuple[Path, Path]) -> None:
    source, target = images
    target.chmod(mode)
    assert main(commands(source, target)[verb]) == 0
    assert target.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_a_replaced_file_keeps_its_owner_and_its_attributes(images: tuple[Path, Path]) -> None:
    source, target = images
    os.chown(target, 65534, 65533)
    target.chmod(0o600)
    try:
        os.setxattr(target, "user.note", b"mine")
        note = b"mine"
    except OSError:
        note = b""
    vhdx.convert(source, target, overwrite=True)
    status = target.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65534, 65533, 0o600)
    assert not note or os.getxattr(target, "user.note") == note


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_of_a_new_file_follows_the_umask(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        vhdx.create(tmp_path / "new.vhdx", MIB)
    finally:
        os.umask(before)
    assert (tmp_path / "new.vhdx").stat().st_mode & 0o777 == mode


def test_a_failure_leaves_the_old_file_as_it_was_and_unlocked(images: tuple[Path, Path]) -> None:
    _, target = images
    before = (target.stat().st_ino, target.read_bytes())
    with pytest.raises(RuntimeError), NewFile(target, overwrite=True):
        raise RuntimeError
    assert (target.stat().st_ino, target.read_bytes()) == before
    vhdx.open(target, "r+").close()
