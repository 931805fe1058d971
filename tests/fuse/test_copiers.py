"""Programs that copy onto a mounted disk leave there what the source holds, whatever was there before."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import vhdx
from support.mounting import mounted, need_fuse
from support.tables import Slot, boot_record
from support.units import KIB, MIB

pytestmark = pytest.mark.interop

START = 2 * MIB
LENGTH = 5 * MIB
SIZE = 16 * MIB


@pytest.fixture(autouse=True)
def _fuse() -> None:
    need_fuse()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk full of old data, with a partition."""
    path = tmp_path / "disk.vhdx"
    vhdx.create(path, SIZE, block_size=MIB)
    with vhdx.open(path, "r+") as disk:
        disk.pwrite(os.urandom(SIZE), 0)
        disk.pwrite(boot_record({0: Slot(0x83, START // 512, LENGTH // 512)}), 0)
    return path


def command(*words: str) -> Callable[[Path, Path], object]:
    """A copier that is a program; SRC and DST stand for the two files."""

    def copy(source: Path, target: Path) -> None:
        if shutil.which(words[0]) is None:
            pytest.skip(f"{words[0]} is not installed")
        named = [word.replace("SRC", str(source)).replace("DST", str(target)) for word in words]
        subprocess.run(named, check=True, capture_output=True)

    return copy


COPIERS: dict[str, Callable[[Path, Path], object]] = {
    "cp": command("cp", "SRC", "DST"),
    "cp --sparse=always": command("cp", "--sparse=always", "SRC", "DST"),
    "cp --sparse=never": command("cp", "--sparse=never", "SRC", "DST"),
    "dd": command("dd", "if=SRC", "of=DST", "bs=64K"),
    "dd conv=sparse": command("dd", "if=SRC", "of=DST", "bs=64K", "conv=sparse"),
    "rsync --inplace": command("rsync", "--inplace", "--whole-file", "--ignore-times", "SRC", "DST"),
    "qemu-img convert -n": command("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "SRC", "DST"),
    "shutil.copyfile": shutil.copyfile,
}


@pytest.mark.parametrize("copier", COPIERS)
@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", ["disk.raw", "p1"])
def test_a_copy_holds_what_its_source_holds_and_nothing_old(
    copier: str, name: str, is_sparse: bool, image: Path, place: Path, tmp_path: Path
) -> None:
    size = SIZE if name == "disk.raw" else LENGTH
    source = tmp_path / "source.raw"
    with source.open("wb") as file:
        file.write(os.urandom(size) if not is_sparse else b"")
        file.truncate(size)
        file.seek(size // 2 + 4 * KIB)
        file.write(os.urandom(100 * KIB))
    expected = source.read_bytes()
    with vhdx.open(image) as disk:
        before = disk.pread(SIZE, 0)
    with mounted(image, place, "--read-write") as mount:
        COPIERS[copier](source, mount.file(name))
        assert mount.file(name).read_bytes() == expected
        assert mount.unmount() == 0
    with vhdx.open(image) as disk:
        after = disk.pread(SIZE, 0)
    start = 0 if name == "disk.raw" else START
    assert after == before[:start] + expected + before[start + size :]


def test_a_file_can_be_given_the_size_that_it_has_by_its_descriptor(image: Path, place: Path) -> None:
    with mounted(image, place, "--read-write") as mount:
        with mount.file().open("r+b") as file:
            os.ftruncate(file.fileno(), SIZE)
            for size in (0, SIZE - 1, SIZE + 1):
                with pytest.raises(PermissionError):
                    os.ftruncate(file.fileno(), size)
        assert mount.unmount() == 0
