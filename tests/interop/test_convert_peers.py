"""What is created and converted here is what other programs read, and the other way round."""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import vhdx
from support.units import GIB, MIB, TIB
from vhdx.disks.raw import RawDevice
from vhdx.ops.compare import compare
from vhdx.ops.convert import convert
from vhdx.ops.create import create
from vhdx.ops.measure import measure

pytestmark = pytest.mark.interop

BLOCK_SIZES = [1 << shift for shift in range(20, 29)]


@pytest.fixture
def qemu_img() -> str:
    found = shutil.which("qemu-img")
    if found is None:
        pytest.skip("qemu-img is not installed (Debian: qemu-utils)")
    return found


@pytest.fixture
def raw_file(tmp_path: Path) -> Path:
    """A sparse file with runs of data of many lengths, and zeroes inside the data."""
    generator = random.Random(11)
    path = tmp_path / "source.raw"
    with path.open("wb") as file:
        for _ in range(60):
            file.seek(generator.randrange(0, 60 * MIB) & ~511)
            file.write(generator.randbytes(generator.choice((512, 4096, 70_000, 300_000))))
            file.write(bytes(generator.choice((0, 512, 65536))))
        file.truncate(64 * MIB + 4096)
    return path


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def to_image(raw_file: Path, target: Path, **options: Any) -> Path:
    with RawDevice.open(raw_file) as source:
        convert(source, target, format="vhdx", **options)
    return target


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_qemu_reads_what_was_converted(
    qemu_img: str, tmp_path: Path, raw_file: Path, kind: str, block_size: int
) -> None:
    image = to_image(raw_file, tmp_path / "out.vhdx", kind=kind, block_size=block_size)
    assert "No errors" in run(qemu_img, "check", image)
    run(qemu_img, "compare", "-f", "vhdx", "-F", "raw", image, raw_file)
    info = json.loads(run(qemu_img, "info", "--output=json", image))
    assert (info["virtual-size"], info["cluster-size"]) == (64 * MIB + 4096, block_size)
    assert not info["dirty-flag"]


@pytest.mark.parametrize("size", [512, MIB, 10 * GIB + 512, 64 * TIB])
@pytest.mark.parametrize("block_size", [MIB, 32 * MIB, 256 * MIB])
def test_qemu_finds_no_fault_in_a_new_image(
    qemu_img: str, tmp_path: Path, size: int, block_size: int
) -> None:
    create(tmp_path / "new.vhdx", size, block_size=block_size)
    assert "No errors" in run(qemu_img, "check", tmp_path / "new.vhdx")
    info = json.loads(run(qemu_img, "info", "--output=json", tmp_path / "new.vhdx"))
    assert info["virtual-size"] == size


def test_qemu_writes_into_a_new_image(qemu_img: str, tmp_path: Path) -> None:
    qemu_io = shutil.which("qemu-io")
    if qemu_io is None:
        pytest.skip("qemu-io is not installed (Debian: qemu-utils)")
    image = tmp_path / "new.vhdx"
    create(image, GIB)
    run(qemu_io, "-f", "vhdx", "-c", "write -P 7 700M 1M", image)
    assert "No errors" in run(qemu_img, "check", image)
    with vhdx.open(image) as disk:
        assert disk.pread(MIB, 700 * MIB) == b"\x07" * MIB


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_qemus_images_are_converted_to_the_same_bytes(
    qemu_img: str, tmp_path: Path, raw_file: Path, subformat: str
) -> None:
    image = tmp_path / "qemu.vhdx"
    run(qemu_img, "convert", "-O", "vhdx", "-o", f"subformat={subformat}", raw_file, image)
    with vhdx.open(image) as disk, RawDevice.open(raw_file) as source:
        assert compare(disk, source) is None
        convert(disk, tmp_path / "back.raw")
    assert (tmp_path / "back.raw").read_bytes() == raw_file.read_bytes()


def test_difference_is_where_qemu_sees_it(qemu_img: str, tmp_path: Path, raw_file: Path) -> None:
    image = to_image(raw_file, tmp_path / "out.vhdx")
    with raw_file.open("r+b") as file:
        file.seek(33 * MIB + 777)
        byte = file.read(1)[0]
        file.seek(33 * MIB + 777)
        file.write(bytes([byte ^ 1]))
    with vhdx.open(image) as disk, RawDevice.open(raw_file) as source:
        difference = compare(disk, source)
    assert difference is not None
    assert difference.offset == 33 * MIB + 777
    told = subprocess.run([qemu_img, "compare", image, raw_file], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert str(difference.offset // 512 * 512) in told.stdout + told.stderr


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_result_takes_no_more_space_than_qemus(
    qemu_img: str, tmp_path: Path, raw_file: Path, subformat: str
) -> None:
    # Written out in full, so that both have to find the zeroes themselves.
    dense = tmp_path / "dense.raw"
    dense.write_bytes(raw_file.read_bytes())
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    run(qemu_img, "convert", "-O", "vhdx", "-o", f"subformat={subformat}", dense, theirs)
    to_image(dense, ours, kind=subformat, block_size=8 * MIB)
    slack = 64 * 1024
    assert ours.stat().st_blocks * 512 <= theirs.stat().st_blocks * 512 + slack
    run(qemu_img, "convert", "-O", "raw", theirs, tmp_path / "theirs.raw")
    with vhdx.open(theirs) as disk:
        convert(disk, tmp_path / "ours.raw")
    os.sync()
    their_blocks, our_blocks = (
        (tmp_path / name).stat().st_blocks * 512 for name in ("theirs.raw", "ours.raw")
    )
    assert our_blocks <= their_blocks + slack


def test_raw_is_measured_as_qemu_does(qemu_img: str, tmp_path: Path, raw_file: Path) -> None:
    theirs = json.loads(run(qemu_img, "measure", "--output=json", "-O", "raw", raw_file))
    with RawDevice.open(raw_file) as source:
        ours = measure(source).as_json()
    assert ours["fully-allocated"] == theirs["fully-allocated"]
    assert set(ours) == set(theirs)


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
@pytest.mark.parametrize("block_size", [MIB, 32 * MIB])
def test_libvhdi_reads_what_was_converted(tmp_path: Path, raw_file: Path, kind: str, block_size: int) -> None:
    pyvhdi = pytest.importorskip("pyvhdi", reason="pyvhdi is not installed (PyPI: libvhdi-python)")
    image = to_image(raw_file, tmp_path / "out.vhdx", kind=kind, block_size=block_size)
    file = pyvhdi.file()
    file.open(str(image))
    try:
        assert file.get_media_size() == 64 * MIB + 4096
        assert file.read_buffer_at_offset(64 * MIB + 4096, 0) == raw_file.read_bytes()
    finally:
        file.close()


@pytest.mark.parametrize("lss", [512, 4096])
@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_dissect_reads_what_was_converted(tmp_path: Path, raw_file: Path, kind: str, lss: int) -> None:
    module = pytest.importorskip(
        "dissect.hypervisor.disk.vhdx", reason="dissect is not installed (PyPI: dissect.hypervisor)"
    )
    image = to_image(raw_file, tmp_path / "out.vhdx", kind=kind, block_size=MIB, logical_sector_size=lss)
    with image.open("rb") as file:
        disk = module.VHDX(file)
        assert disk.size == 64 * MIB + 4096
        assert disk.sector_size == lss
        assert disk.read(disk.size) == raw_file.read_bytes()


def test_libvhdi_reads_a_child_through_its_parent(tmp_path: Path, raw_file: Path) -> None:
    pyvhdi = pytest.importorskip("pyvhdi", reason="pyvhdi is not installed (PyPI: libvhdi-python)")
    to_image(raw_file, tmp_path / "parent.vhdx", block_size=MIB)
    create(tmp_path / "child.vhdx", parent=tmp_path / "parent.vhdx")
    parent, child = pyvhdi.file(), pyvhdi.file()
    parent.open(str(tmp_path / "parent.vhdx"))
    child.open(str(tmp_path / "child.vhdx"))
    try:
        assert child.get_parent_identifier() == parent.get_identifier()
        child.set_parent(parent)
        assert child.read_buffer_at_offset(4 * MIB, 0) == raw_file.read_bytes()[: 4 * MIB]
    finally:
        child.close()
        parent.close()


def test_dissect_reads_a_child_through_its_parent(tmp_path: Path, raw_file: Path) -> None:
    module = pytest.importorskip(
        "dissect.hypervisor.disk.vhdx", reason="dissect is not installed (PyPI: dissect.hypervisor)"
    )
    to_image(raw_file, tmp_path / "parent.vhdx", block_size=MIB)
    create(tmp_path / "child.vhdx", parent=tmp_path / "parent.vhdx")
    disk = module.VHDX(tmp_path / "child.vhdx")
    try:
        assert disk.read(4 * MIB) == raw_file.read_bytes()[: 4 * MIB]
    finally:
        for layer in (disk, disk.parent):
            layer.fh.close()
