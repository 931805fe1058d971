"""A mount under other programs: qemu-img, and file systems mounted from a partition through a loop device."""

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import vhdx
from support.mounting import (
    HANG_GUARD_SECONDS,
    force_unmount,
    loop_mounted,
    mounted,
    need_fuse,
    need_root,
)
from support.programs import attempt, need, run
from support.units import MIB
from vhdx.disks.raw import RawDevice
from vhdx.ops.check import check
from vhdx.ops.convert import convert
from vhdx.rules import Severity

pytestmark = pytest.mark.interop

START = MIB


@pytest.fixture(autouse=True)
def _fuse() -> None:
    need_fuse()


class FileSystem(NamedTuple):
    """How a file system is made, mounted and judged."""

    maker: tuple[str, ...]
    package: str
    size: int
    type_code: str
    judge: tuple[str, ...]


EXT4 = FileSystem(("mkfs.ext4", "-q", "-F"), "e2fsprogs", 96 * MIB, "83", ("fsck.ext4", "-f", "-n"))
XFS = FileSystem(("mkfs.xfs", "-q"), "xfsprogs", 320 * MIB, "83", ("xfs_repair", "-n"))
NTFS = FileSystem(("mkntfs", "-q", "-F", "-f"), "ntfs-3g", 96 * MIB, "7", ("ntfsfix", "-n"))


def image_with(system: FileSystem, folder: Path, label: str = "dos") -> Path:
    """A VHDX with a partition table of sfdisk and one partition that holds a new file system."""
    raw, part, image = folder / "disk.raw", folder / "part.raw", folder / "disk.vhdx"
    for path, size in ((part, system.size), (raw, system.size + 4 * MIB)):
        with path.open("wb") as file:
            file.truncate(size)
    run(need(system.maker[0], system.package), *system.maker[1:], part)
    kind = system.type_code if label == "dos" else "L"
    script = f"label: {label}\nstart={START // 512}, size={system.size // 512}, type={kind}\n"
    subprocess.run([need("sfdisk", "fdisk"), "-q", raw], input=script, text=True, check=True)
    run(
        "dd", f"if={part}", f"of={raw}", "bs=1M", f"seek={START // MIB}", "conv=notrunc,sparse", "status=none"
    )
    with RawDevice.open(raw) as device:
        convert(device, image, format="vhdx", block_size=MIB)
    raw.unlink()
    part.unlink()
    return image


def judge(system: FileSystem, image: Path) -> None:
    """The image has no fault, and neither has the file system in it."""
    assert [f for f in check(image).findings() if f.severity in (Severity.ERROR, Severity.LEAK)] == []
    part = image.with_name("judged.raw")
    with vhdx.open(image) as disk, part.open("wb") as file:
        file.truncate(system.size)
        for extent in disk.extents(START, system.size):
            if not extent.zero:
                file.seek(extent.offset - START)
                file.write(disk.pread(extent.length, extent.offset))
    run(need(system.judge[0], system.package), *system.judge[1:], part)
    part.unlink()


def fill(folder: Path, seed: int) -> dict[str, str]:
    """Write files of all sizes; return the digest of each."""
    chance = random.Random(seed)
    found = {}
    for number in range(30):
        data = chance.randbytes(chance.choice((0, 1, 511, 4096, 70_001, 700_001)))
        path = folder / f"folder {seed}" / f"file {number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def digests(folder: Path) -> dict[str, str]:
    """Digest of every file in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_disk_is_what_qemu_converts_it_to(tmp_path: Path, kind: str) -> None:
    qemu_img, qemu_io = need("qemu-img", "qemu-utils"), need("qemu-io", "qemu-utils")
    image, raw = tmp_path / "disk.vhdx", tmp_path / "disk.raw"
    run(qemu_img, "create", "-q", "-f", "vhdx", "-o", f"subformat={kind},block_size=1M", image, "40M")
    for value, offset, length in ((17, 0, 512), (34, 3 * MIB - 4096, 70_656), (51, 39 * MIB, MIB)):
        run(qemu_io, "-f", "vhdx", "-c", f"write -P {value} {offset} {length}", image)
    run(qemu_img, "convert", "-f", "vhdx", "-O", "raw", image, raw)
    with mounted(image, tmp_path / "mount") as mount:
        run("cmp", mount.file(), raw)
        run(qemu_img, "compare", "-f", "raw", "-F", "vhdx", mount.file(), image)


def test_writes_of_qemu_into_the_mount_are_in_the_image(tmp_path: Path) -> None:
    qemu_img, qemu_io = need("qemu-img", "qemu-utils"), need("qemu-io", "qemu-utils")
    image, raw = tmp_path / "disk.vhdx", tmp_path / "model.raw"
    for path, suffix in ((image, "vhdx"), (raw, "raw")):
        run(qemu_img, "create", "-q", "-f", suffix, path, "40M")
    with mounted(image, tmp_path / "mount", "--read-write") as mount:
        for path in (mount.file(), raw):
            for command in (
                "write -P 9 1000448 3000320",
                "write -z 2M 1M",
                "discard 3M 1M",
                "write -P 7 39M 1M",
            ):
                run(qemu_io, "-f", "raw", "-c", command, "-c", "flush", path)
        run("cmp", mount.file(), raw)
        assert mount.unmount() == 0
    run(qemu_img, "compare", "-f", "vhdx", "-F", "raw", image, raw)
    assert "No errors" in run(qemu_img, "check", "-f", "vhdx", image)


@pytest.mark.parametrize("label", ["dos", "gpt"])
@pytest.mark.parametrize("system", [EXT4, XFS], ids=["ext4", "xfs"])
def test_file_system_written_through_a_loop_mount_survives(
    tmp_path: Path, system: FileSystem, label: str
) -> None:
    need_root()
    image = image_with(system, tmp_path, label)
    written: dict[str, str] = {}
    for round_number in range(2):
        with mounted(image, tmp_path / "mount", "--read-write") as mount:
            with loop_mounted(mount.file("p1"), tmp_path / "inside") as inside:
                assert digests(inside) == written
                written |= fill(inside, round_number)
            assert mount.unmount() == 0
            assert mount.err == ""
        judge(system, image)
    with (
        mounted(image, tmp_path / "mount") as mount,
        loop_mounted(mount.file("p1"), tmp_path / "inside", "ro") as inside,
    ):
        assert digests(inside) == written


def test_ntfs_written_through_ntfs_3g_survives(tmp_path: Path) -> None:
    need_root()
    image = image_with(NTFS, tmp_path)
    inside = tmp_path / "inside"
    inside.mkdir()
    ntfs_3g = need("ntfs-3g", "ntfs-3g")
    try:
        with mounted(image, tmp_path / "mount", "--read-write") as mount:
            run(ntfs_3g, mount.file("p1"), inside)
            written = fill(inside, 1)
            # ntfs-3g goes on for a moment after umount has returned, and is a user of the mount until then.
            run("umount", inside)
            mount.signal(signal.SIGTERM)
            assert mount.wait() == 0
        judge(NTFS, image)
        with mounted(image, tmp_path / "mount") as mount:
            run(ntfs_3g, "-o", "ro", mount.file("p1"), inside)
            assert digests(inside) == written
            run("umount", inside)
    finally:
        force_unmount(inside)


def test_trimming_a_mounted_file_system_gives_space_back(tmp_path: Path) -> None:
    need_root()
    image = image_with(EXT4, tmp_path)
    with mounted(image, tmp_path / "mount", "--read-write") as mount:
        with loop_mounted(mount.file("p1"), tmp_path / "inside") as inside:
            (inside / "large").write_bytes(os.urandom(32 * MIB))
            os.sync()
            full = image.stat().st_blocks
            (inside / "large").unlink()
            os.sync()
            run("fstrim", inside)
        assert mount.unmount() == 0
    assert image.stat().st_blocks * 512 < full * 512 - 20 * MIB
    judge(EXT4, image)


def test_loop_device_keeps_the_mount_busy_and_is_named(tmp_path: Path) -> None:
    need_root()
    image = image_with(EXT4, tmp_path)
    with mounted(image, tmp_path / "mount", "--read-write") as mount:
        with loop_mounted(mount.file("p1"), tmp_path / "inside") as inside:
            mount.signal(signal.SIGTERM)
            done = attempt(sys.executable, "-m", "vhdx", "unmount", mount.directory)
            assert done.returncode == 1
            assert f"stands on {mount.file('p1')} (is mounted at {inside}: umount {inside})" in done.stderr
            written = fill(inside, 2)
        assert mount.wait() == 0
        assert f"umount {inside}" in mount.err
    judge(EXT4, image)
    with (
        mounted(image, tmp_path / "mount") as mount,
        loop_mounted(mount.file("p1"), tmp_path / "inside", "ro") as inside,
    ):
        assert digests(inside) == written


@pytest.mark.parametrize("round_number", range(3))
def test_killed_mount_keeps_what_the_file_system_had_synced(tmp_path: Path, round_number: int) -> None:
    need_root()
    image, inside = image_with(EXT4, tmp_path), tmp_path / "inside"
    inside.mkdir()
    try:
        with mounted(image, tmp_path / "mount", "--read-write") as mount:
            run("mount", "-o", "loop,errors=remount-ro", mount.file("p1"), inside)
            written = fill(inside, round_number)
            run("sync", "-f", inside)
            (inside / "not synced").write_bytes(os.urandom(3 * MIB))
            mount.signal(signal.SIGKILL)
            mount.wait()
            subprocess.run(["umount", "-l", inside], check=True, timeout=HANG_GUARD_SECONDS)
    finally:
        force_unmount(inside)
    assert [f for f in check(image).findings() if f.severity in (Severity.ERROR, Severity.LEAK)] == []
    with (
        mounted(image, tmp_path / "mount", "--read-write") as mount,
        loop_mounted(mount.file("p1"), inside) as folder,
    ):
        found = digests(folder)
        found.pop("not synced", None)
        assert found == written
    judge(EXT4, image)
