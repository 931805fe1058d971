"""nbdcopy out of a served disk and into one: the same bytes as `vhdx convert`, and no more space than needed."""

from pathlib import Path

import pytest

from support.programs import need, run
from support.served_disks import (
    SIZE,
    assert_sound,
    chain_of_three,
    flattened,
    image_of,
    mottled_raw,
)
from support.serving import run_vhdx, serving
from support.units import MIB
from vhdx.ops.create import create

pytestmark = pytest.mark.interop

CONNECTIONS = pytest.mark.parametrize("connections", [1, 4])
KINDS = pytest.mark.parametrize(
    ("dense", "sector_size"), [(True, 512), (False, 512), (False, 4096)], ids=["dense", "sparse", "4096"]
)


def nbdcopy(source: str | Path, target: str | Path, *options: str) -> None:
    run(need("nbdcopy", "libnbd-bin"), *options, source, target)


def assert_same_files(first: Path, second: Path) -> None:
    run("cmp", first, second)


@CONNECTIONS
@KINDS
def test_copy_out_equals_convert(tmp_path: Path, dense: bool, sector_size: int, connections: int) -> None:
    raw = mottled_raw(tmp_path / "disk.raw", dense=dense)
    image = image_of(raw, tmp_path / "disk.vhdx", sector_size=sector_size)
    with serving(tmp_path, "--read-only", image, persistent=False) as server:
        nbdcopy(server.uri, tmp_path / "out.raw", f"--connections={connections}")
    run_vhdx("convert", image, tmp_path / "converted.raw")
    assert_same_files(tmp_path / "out.raw", tmp_path / "converted.raw")
    assert_same_files(tmp_path / "out.raw", raw)


@CONNECTIONS
@KINDS
def test_copy_in_is_whole_to_us_and_to_qemu(
    tmp_path: Path, dense: bool, sector_size: int, connections: int
) -> None:
    raw, image = mottled_raw(tmp_path / "disk.raw", dense=dense), tmp_path / "disk.vhdx"
    create(image, SIZE, block_size=MIB, logical_sector_size=sector_size)
    with serving(tmp_path, image, persistent=False) as server:
        nbdcopy(raw, server.uri, f"--connections={connections}", "--flush")
    assert_sound(image)
    assert_same_files(flattened(image, tmp_path / "flat.raw"), raw)
    if sector_size == 512:  # QEMU reads no other
        qemu_img = need("qemu-img", "qemu-utils")
        assert "No errors" in run(qemu_img, "check", "-f", "vhdx", image)
        run(qemu_img, "compare", "-f", "vhdx", "-F", "raw", image, raw)


def test_copies_of_a_sparse_disk_are_sparse_on_both_sides(tmp_path: Path) -> None:
    raw, image, out = tmp_path / "disk.raw", tmp_path / "disk.vhdx", tmp_path / "out.raw"
    with raw.open("wb") as file:
        file.truncate(256 * MIB)
        for number in range(4):
            file.seek(number * 63 * MIB)
            file.write(b"data" * (MIB // 4))
    create(image, 256 * MIB, block_size=MIB)
    with serving(tmp_path, image) as server:
        nbdcopy(raw, server.uri, "--destination-is-zero", "--flush")
        nbdcopy(server.uri, out)
    assert image.stat().st_blocks * 512 < 16 * MIB
    assert out.stat().st_blocks * 512 < 16 * MIB
    assert_same_files(raw, out)
    assert_sound(image)


def test_copy_that_writes_zeroes_over_old_data_leaves_none_of_it(tmp_path: Path) -> None:
    image = image_of(mottled_raw(tmp_path / "old.raw", dense=True), tmp_path / "disk.vhdx")
    raw = mottled_raw(tmp_path / "disk.raw", seed=12)
    with serving(tmp_path, image, persistent=False) as server:
        nbdcopy(raw, server.uri, "--flush")
    assert_same_files(flattened(image, tmp_path / "flat.raw"), raw)
    assert_sound(image)


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_chain_of_three_files_is_copied_out_as_convert_flattens_it(tmp_path: Path, sector_size: int) -> None:
    leaf, *_ = chain_of_three(tmp_path, sector_size=sector_size)
    with serving(tmp_path, "--read-only", leaf, persistent=False) as server:
        nbdcopy(server.uri, tmp_path / "out.raw")
    run_vhdx("convert", leaf, tmp_path / "converted.raw")
    assert_same_files(tmp_path / "out.raw", tmp_path / "converted.raw")


def test_copy_into_a_leaf_changes_no_parent(tmp_path: Path) -> None:
    leaf, *parents = chain_of_three(tmp_path)
    before = [path.read_bytes() for path in parents]
    raw = mottled_raw(tmp_path / "disk.raw", seed=13)
    with serving(tmp_path, leaf, persistent=False) as server:
        nbdcopy(raw, server.uri, "--flush")
    assert [path.read_bytes() for path in parents] == before
    assert_same_files(flattened(leaf, tmp_path / "flat.raw"), raw)
    assert_sound(leaf)


def test_one_served_disk_is_copied_into_another(tmp_path: Path) -> None:
    source = image_of(mottled_raw(tmp_path / "disk.raw"), tmp_path / "source.vhdx")
    target = tmp_path / "target.vhdx"
    create(target, SIZE)
    exports = (f"source={source}", f"target={target}")
    with serving(tmp_path, *exports, exports=2) as server:
        nbdcopy(*server.uris, "--flush")
    assert_same_files(flattened(target, tmp_path / "flat.raw"), tmp_path / "disk.raw")
    assert_sound(target)


def test_raw_file_without_a_telling_name_is_served_for_writing(tmp_path: Path) -> None:
    disk, raw = tmp_path / "disk", mottled_raw(tmp_path / "content.raw")
    with disk.open("wb") as file:
        file.truncate(SIZE)
    with serving(tmp_path, "-f", "raw", disk) as server:
        nbdcopy(raw, server.uri, "--flush")
        nbdcopy(server.uri, tmp_path / "out.raw")
    assert_same_files(disk, raw)
    assert_same_files(tmp_path / "out.raw", raw)
