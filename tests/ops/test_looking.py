"""`vhdx.map` and `vhdx.info`: what can be said of an image without reading what the disk holds."""

from pathlib import Path

import pytest

import vhdx
from support.units import MIB


@pytest.fixture
def child(tmp_path: Path) -> Path:
    """A child with one block of its own; so has its parent."""
    parent, child = tmp_path / "parent.vhdx", tmp_path / "child.vhdx"
    vhdx.create(parent, 8 * MIB, block_size=MIB)
    with vhdx.open(parent, "r+") as disk:
        disk.pwrite(bytes(range(256)) * 4096, 2 * MIB)
    vhdx.create(child, parent=parent, block_size=MIB)
    with vhdx.open(child, "r+") as disk:
        disk.pwrite(b"\x11" * MIB, 5 * MIB)
    return child


def test_map_gives_the_extents_of_the_whole_chain(child: Path) -> None:
    with vhdx.open(child) as disk:
        assert list(vhdx.map(child)) == list(disk.extents())
    assert [(extent.offset, extent.depth) for extent in vhdx.map(child) if extent.data] == [
        (2 * MIB, 1),
        (5 * MIB, 0),
    ]


def test_map_tells_what_lies_in_a_missing_parent(child: Path) -> None:
    (child.parent / "parent.vhdx").unlink()
    unreadable = [(extent.offset, extent.length) for extent in vhdx.map(child) if extent.unreadable]
    assert unreadable == [(0, 5 * MIB), (6 * MIB, 2 * MIB)]


def test_map_that_is_closed_early_gives_up_the_files(child: Path) -> None:
    extents = vhdx.map(child)
    next(extents)
    with pytest.raises(vhdx.ImageLockedError):
        vhdx.open(child, "r+")
    extents.close()
    vhdx.open(child, "r+").close()


def test_info_takes_a_path_or_an_open_image(child: Path) -> None:
    with vhdx.Image.open(child) as image:
        assert vhdx.info(child) == vhdx.info(image)
    found = vhdx.info(child)
    assert (found.kind, found.virtual_size, found.block_size) == ("differencing", 8 * MIB, MIB)
    assert found.locator is not None
    assert found.replay is None


def test_info_leaves_no_file_open(child: Path) -> None:
    vhdx.info(child)
    vhdx.open(child, "r+").close()


def test_info_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    path.write_bytes(bytes(4096))
    with pytest.raises(vhdx.NotVhdxError):
        vhdx.info(path)
