"""A child whose parent is not there: never zeroes, and told before it is read."""

from pathlib import Path

import pytest

import vhdx
from support.units import MIB
from vhdx.format.bat import PayloadState
from vhdx.testing import ImageBuilder


def child() -> ImageBuilder:
    image = ImageBuilder.child_of(ImageBuilder(4 * MIB, name="parent"), name="child")
    image.add_block(0, b"own content")
    image.add_partial_block(1, {3: b"own sector"})
    image.set_block(2, PayloadState.ZERO)
    return image


@pytest.fixture(params=["disk", "image"])
def lonely(request: pytest.FixtureRequest) -> vhdx.Disk | vhdx.Image:
    store = child().build_store()
    return vhdx.open(store, parents="none") if request.param == "disk" else vhdx.Image.open(store)


def test_own_content_reads_without_the_parent(lonely: vhdx.Disk | vhdx.Image) -> None:
    assert lonely.pread(11, 0) == b"own content"
    assert lonely.pread(10, MIB + 3 * 512) == b"own sector"
    assert lonely.pread(MIB, 2 * MIB) == bytes(MIB)


@pytest.mark.parametrize(
    ("offset", "length"), [(3 * MIB, 1), (MIB, 512), (MIB + 4 * 512 - 1, 2), (0, 4 * MIB), (3 * MIB - 1, 2)]
)
def test_content_of_the_parent_raises(lonely: vhdx.Disk | vhdx.Image, offset: int, length: int) -> None:
    with pytest.raises(vhdx.ParentNotFoundError, match="--parent"):
        lonely.pread(length, offset)
    with pytest.raises(vhdx.ParentNotFoundError):
        lonely.pread_into(bytearray(length), offset)
    with pytest.raises(vhdx.ParentNotFoundError), lonely.ranges(offset, length) as ranges:
        list(ranges)
    stream = lonely.stream()
    stream.seek(offset)
    with pytest.raises(vhdx.ParentNotFoundError):
        stream.read(length)


def test_extents_show_it_as_not_present(lonely: vhdx.Disk | vhdx.Image) -> None:
    found = [(extent.offset // 512, extent.length // 512) for extent in lonely.extents() if extent.unreadable]
    sectors = MIB // 512
    assert found == [(sectors, 3), (sectors + 4, sectors - 4), (3 * sectors, sectors)]
    assert all(not extent.present and not extent.zero for extent in lonely.extents() if extent.unreadable)


def test_missing_file_is_named_with_what_was_tried(tmp_path: Path) -> None:
    path = child().write(tmp_path / "child.vhdx")
    with pytest.raises(vhdx.ParentNotFoundError, match=r"parent\.vhdx.*--parent"):
        vhdx.open(path)


def test_chain_is_incomplete_without_its_parent() -> None:
    with vhdx.open(child().build_store(), parents="none") as disk:
        assert not disk.is_complete
