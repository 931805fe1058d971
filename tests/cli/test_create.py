"""`vhdx create`."""

import os
from pathlib import Path

import pytest

from support.command import Vhdx
from support.units import MIB
from vhdx import Image
from vhdx import open as open_disk


def test_new_image_is_dynamic_and_empty(vhdx: Vhdx, tmp_path: Path) -> None:
    path = tmp_path / "new.vhdx"
    assert vhdx("create", path, "64G") == (0, "", "")
    with Image.open(path) as image:
        assert (image.kind, image.size, image.block_size) == ("dynamic", 64 << 30, 32 * MIB)
        assert (image.logical_sector_size, image.physical_sector_size) == (512, 4096)
    assert vhdx("check", path).code == 0


def test_options_shape_the_image(vhdx: Vhdx, tmp_path: Path) -> None:
    path = tmp_path / "new.vhdx"
    shape = ["--fixed", "--block-size", "1M", "--sector-size", "4096", "--physical-sector-size", "4096"]
    assert vhdx("create", *shape, path, "8M").code == 0
    with Image.open(path) as image:
        assert (image.kind, image.block_size, image.logical_sector_size) == ("fixed", MIB, 4096)


def test_child_finds_its_parent(vhdx: Vhdx, image: Path) -> None:
    path = image.with_name("child.vhdx")
    assert vhdx("create", "--parent", image, path) == (0, "", "")
    with open_disk(path) as disk, open_disk(image) as parent:
        assert len(disk.images) == 2
        assert disk.pread(disk.size, 0) == parent.pread(parent.size, 0)


def test_child_may_be_larger_than_its_parent(vhdx: Vhdx, image: Path) -> None:
    path = image.with_name("child.vhdx")
    assert vhdx("create", "--parent", image, path, "16M").code == 0
    with open_disk(path) as disk:
        assert disk.size == 16 * MIB


def test_parent_elsewhere_is_told_with_the_option_that_allows_it(
    vhdx: Vhdx, image: Path, tmp_path: Path
) -> None:
    (tmp_path / "children").mkdir()
    path = tmp_path / "children" / "child.vhdx"
    outcome = vhdx("create", "--parent", image, path)
    assert outcome.code == 0
    assert f"--parent {image}" in outcome.error_line
    assert vhdx("measure", path).code == 1
    assert vhdx("measure", "--parent", image, path).code == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["new.vhdx"], "SIZE"),
        (["new.vhdx", "1.1G"], "smaller unit"),
        (["new.vhdx", "0"], "positive"),
        (["new.vhdx", "513"], "multiple"),
        (["new.vhdx", "65T"], "64 TiB"),
        (["new.vhdx", "99999999999999999999E"], "64 TiB"),
        (["--block-size", "512K", "new.vhdx", "8M"], "block size"),
        (["--sector-size", "512", "--physical-sector-size", "520", "new.vhdx", "8M"], "invalid choice"),
        (["--parent", "disk.vhdx", "--fixed", "new.vhdx"], "exclude"),
        (["--parent", "disk.vhdx", "new.vhdx", "4M"], "parent"),
        (["--parent", "absent.vhdx", "new.vhdx"], "absent.vhdx"),
        (["--parent", "disk.vhdx", "--force", "disk.vhdx"], "disk.vhdx"),
        (["disk.vhdx", "8M"], "--force"),
    ],
)
def test_impossible_options_are_refused_and_leave_no_file(
    vhdx: Vhdx, image: Path, arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(image.parent)
    before = image.read_bytes()
    outcome = vhdx("create", *arguments)
    assert (outcome.code, outcome.out) == (1, "")
    assert reason in outcome.error_line
    assert os.listdir() == ["disk.vhdx"]
    assert image.read_bytes() == before


def test_force_replaces(vhdx: Vhdx, image: Path) -> None:
    assert vhdx("create", "--force", image, "16M").code == 0
    with Image.open(image) as made:
        assert made.size == 16 * MIB


def test_dirty_image_cannot_become_a_parent(vhdx: Vhdx, windows_dirty_sample: Path, tmp_path: Path) -> None:
    outcome = vhdx("create", "--parent", windows_dirty_sample, tmp_path / "child.vhdx")
    assert outcome.code == 1
    assert str(windows_dirty_sample) in outcome.error_line
    assert list(tmp_path.iterdir()) == []
