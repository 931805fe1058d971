"""What we write, other programs read; what they write into our images and we into theirs is all there."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import vhdx
from support.programs import need, run
from support.units import MIB
from vhdx.ops.check import check
from vhdx.ops.convert import convert
from vhdx.ops.create import create
from vhdx.rules import Severity

pytestmark = pytest.mark.interop


TRIMMED = range(4 * MIB, 6 * MIB)
"""The block of a child that is trimmed."""


class Piece(NamedTuple):
    """A range and the byte it is filled with; None: zeroes, by whatever means."""

    offset: int
    length: int
    value: int | None


def pieces(chance: random.Random, size: int, count: int) -> Iterator[Piece]:
    """Requests of whole sectors, for QEMU's sake: near the ends of blocks, small and large."""
    for _ in range(count):
        near = chance.choice((0, size // 2, size, chance.randrange(size)))
        offset = min(max(near + chance.choice((-4096, -512, 0, 512, 65536)), 0), size - 512) & ~511
        length = min(chance.choice((512, 1024, 4096, 70_144, 1_300_480)), size - offset)
        yield Piece(offset, length, chance.choice((None, *range(1, 256))))


def write_with_qemu(image: Path, requests: list[Piece]) -> None:
    commands: list[str] = []
    for offset, length, value in requests:
        what = f"write -P {value}" if value else "write -z"
        commands += ["-c", f"{what} {offset} {length}"]
    run(need("qemu-io", "qemu-utils"), "-f", "vhdx", *commands, "-c", "flush", str(image))


def write_with_us(image: Path, requests: list[Piece], chance: random.Random) -> None:
    with vhdx.open(image, "r+") as disk:
        for offset, length, value in requests:
            if value:
                disk.pwrite(bytes([value]) * length, offset, fua=chance.random() < 0.2)
            else:
                disk.write_zeroes(length, offset, may_unmap=chance.random() < 0.5)
            if chance.random() < 0.2:
                disk.flush()


def note(model: Path, requests: list[Piece]) -> None:
    with model.open("r+b") as file:
        for offset, length, value in requests:
            file.seek(offset)
            file.write(bytes([value or 0]) * length)


def assert_same(image: Path, model: Path) -> None:
    """QEMU and we find no fault in the image, and the model's content."""
    qemu_img = need("qemu-img", "qemu-utils")
    assert "No errors" in run(qemu_img, "check", "-f", "vhdx", image)
    run(qemu_img, "compare", "-f", "vhdx", "-F", "raw", image, model)
    faults = [f for f in check(image).findings() if f.severity in (Severity.ERROR, Severity.LEAK)]
    assert faults == []


@pytest.mark.parametrize("block_size", [MIB, 2 * MIB, 8 * MIB, 32 * MIB, 256 * MIB])
@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
@pytest.mark.parametrize("maker", ["ours", "qemu"])
def test_image_written_in_turns_is_the_same_to_both(
    tmp_path: Path, block_size: int, kind: str, maker: str
) -> None:
    size = 3 * block_size + 5 * 4096 if block_size <= 8 * MIB else block_size + MIB
    image, model = tmp_path / "disk.vhdx", tmp_path / "model.raw"
    with model.open("wb") as file:
        file.truncate(size)
    if maker == "ours":
        create(image, size, kind="fixed" if kind == "fixed" else "dynamic", block_size=block_size)
    else:
        options = f"subformat={kind},block_size={block_size}"
        run(need("qemu-img", "qemu-utils"), "create", "-q", "-f", "vhdx", "-o", options, image, str(size))
    chance = random.Random(f"{block_size} {kind} {maker}")
    for turn in range(4):
        requests = list(pieces(chance, size, 12))
        if turn % 2 == (maker == "ours"):
            write_with_qemu(image, requests)
        else:
            write_with_us(image, requests, chance)
        note(model, requests)
        assert_same(image, model)


def written_image(tmp_path: Path, *, kind: str = "dynamic", sector_size: int = 512) -> tuple[Path, bytes]:
    """An image of ours after writes, zeroing, trims and several sessions; and its content."""
    size = 12 * MIB + 8192
    image, content = tmp_path / "written.vhdx", bytearray(size)
    create(
        image,
        size,
        kind="fixed" if kind == "fixed" else "dynamic",
        block_size=MIB,
        logical_sector_size=sector_size,
    )
    chance = random.Random(kind)
    for _ in range(3):
        with vhdx.open(image, "r+") as disk:
            for _ in range(15):
                offset = chance.randrange(size - 5000)
                data = chance.randbytes(5000)
                disk.pwrite(data, offset)
                content[offset : offset + 5000] = data
            block = chance.randrange(12) * MIB
            disk.write_zeroes(MIB, block)
            content[block : block + MIB] = bytes(MIB)
    return image, bytes(content)


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_libvhdi_reads_what_was_written(tmp_path: Path, kind: str) -> None:
    pyvhdi = pytest.importorskip("pyvhdi", reason="pyvhdi is not installed (PyPI: libvhdi-python)")
    image, content = written_image(tmp_path, kind=kind)
    file = pyvhdi.file()
    file.open(str(image))
    try:
        assert file.read_buffer_at_offset(len(content), 0) == content
    finally:
        file.close()


@pytest.mark.parametrize("sector_size", [512, 4096])
@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_dissect_reads_what_was_written(tmp_path: Path, kind: str, sector_size: int) -> None:
    module = pytest.importorskip(
        "dissect.hypervisor.disk.vhdx", reason="dissect is not installed (PyPI: dissect.hypervisor)"
    )
    image, content = written_image(tmp_path, kind=kind, sector_size=sector_size)
    with image.open("rb") as file:
        assert module.VHDX(file).read(len(content)) == content


@pytest.fixture
def written_child(tmp_path: Path) -> tuple[Path, Path, bytes]:
    """A child with partially present blocks on a parent of ours, and what the child reads as."""
    parent, content = written_image(tmp_path)
    child = tmp_path / "child.vhdx"
    create(child, parent=parent, block_size=2 * MIB)
    model = bytearray(content)
    chance = random.Random(3)
    with vhdx.open(child, "r+") as disk:
        for _ in range(12):
            # Whole bytes of the bitmap: dissect misreads runs that begin inside one.
            offset = chance.randrange(len(model) // 4096 - 4) * 4096
            data = chance.randbytes(3 * 4096)
            disk.pwrite(data, offset)
            model[offset : offset + len(data)] = data
        disk.trim(len(TRIMMED), TRIMMED.start)
        model[TRIMMED.start : TRIMMED.stop] = bytes(len(TRIMMED))
    return child, parent, bytes(model)


def test_libvhdi_reads_a_child_that_was_written(written_child: tuple[Path, Path, bytes]) -> None:
    pyvhdi = pytest.importorskip("pyvhdi", reason="pyvhdi is not installed (PyPI: libvhdi-python)")
    child_path, parent_path, content = written_child
    parent, child = pyvhdi.file(), pyvhdi.file()
    parent.open(str(parent_path))
    child.open(str(child_path))
    try:
        child.set_parent(parent)
        # In a child, libvhdi reads blocks in states 2 and 3 as if they were partially present.
        for start, end in ((0, TRIMMED.start), (TRIMMED.stop, len(content))):
            assert child.read_buffer_at_offset(end - start, start) == content[start:end]
    finally:
        child.close()
        parent.close()


def test_dissect_reads_a_child_that_was_written(written_child: tuple[Path, Path, bytes]) -> None:
    module = pytest.importorskip(
        "dissect.hypervisor.disk.vhdx", reason="dissect is not installed (PyPI: dissect.hypervisor)"
    )
    child_path, _, content = written_child
    disk = module.VHDX(child_path)
    try:
        wrong = [at for at in range(0, len(content), 4096) if disk_read(disk, at) != content[at : at + 4096]]
        assert wrong == []
    finally:
        for layer in (disk, disk.parent):
            layer.fh.close()


def disk_read(disk: object, offset: int) -> bytes:
    disk.seek(offset)  # type: ignore[attr-defined]
    found: bytes = disk.read(4096)  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("name", ["ext4", "xfs", "ntfs"])
def test_file_system_written_in_random_order_is_whole(tmp_path: Path, name: str) -> None:
    size = 320 * MIB if name == "xfs" else 48 * MIB
    raw, image, back = tmp_path / "fs.raw", tmp_path / "fs.vhdx", tmp_path / "back.raw"
    with raw.open("wb") as file:
        file.truncate(size)
    make, judge = file_system_tools(name, raw, tmp_path)
    run(*make)
    create(image, size, block_size=2 * MIB)
    copy_in_random_order(raw, image, size)
    with vhdx.open(image) as disk:
        convert(disk, back)
    run(*judge, back)
    run("cmp", raw, back)
    assert "No errors" in run(need("qemu-img", "qemu-utils"), "check", image)


def file_system_tools(name: str, raw: Path, tmp_path: Path) -> tuple[list[str | Path], list[str]]:
    """How to make a file system with something in it, and how to judge one."""
    if name == "ext4":
        tree = tmp_path / "tree"
        tree.mkdir()
        for number in range(200):
            (tree / f"file{number}").write_bytes(random.Random(number).randbytes(number * 200))
        make = need("mke2fs", "e2fsprogs")
        return [make, "-q", "-F", "-t", "ext4", "-d", tree, raw], [need("e2fsck", "e2fsprogs"), "-fn"]
    if name == "xfs":
        return [need("mkfs.xfs", "xfsprogs"), "-q", "-f", raw], [need("xfs_repair", "xfsprogs"), "-n", "-f"]
    return [need("mkntfs", "ntfs-3g"), "-q", "-F", "-Q", raw], [need("ntfsfix", "ntfs-3g"), "-n"]


def copy_in_random_order(raw: Path, image: Path, size: int) -> None:
    chance = random.Random(17)
    step = 96 * 1024
    offsets = list(range(0, size, step))
    chance.shuffle(offsets)
    with raw.open("rb") as file, vhdx.open(image, "r+") as disk:
        for number, offset in enumerate(offsets):
            file.seek(offset)
            data = file.read(step)
            if data.count(0) != len(data):
                disk.pwrite(data, offset)
            if number % 50 == 0:
                disk.flush()
