"""`convert`, `compare` and `measure` of paths: what a path is opened as, and what is made of its name."""

from pathlib import Path

import pytest

import vhdx
from support.units import MIB

CONTENT = b"in the middle of the disk"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw disk of 4 MiB."""
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(2 * MIB) + CONTENT.ljust(2 * MIB, b"\0"))
    return path


def test_the_name_of_the_destination_decides_the_format(raw: Path, tmp_path: Path) -> None:
    image, back = tmp_path / "disk.VHDX", tmp_path / "back.img"
    vhdx.convert(raw, image)
    assert vhdx.probe(image) == 100
    vhdx.convert(image, back)
    assert back.read_bytes() == raw.read_bytes()


def test_a_name_that_tells_nothing_means_raw(raw: Path, tmp_path: Path) -> None:
    vhdx.convert(raw, tmp_path / "disk")
    assert (tmp_path / "disk").read_bytes() == raw.read_bytes()


def test_an_argument_overrules_the_name(raw: Path, tmp_path: Path) -> None:
    vhdx.convert(raw, tmp_path / "new.raw", format="vhdx")
    assert vhdx.probe(tmp_path / "new.raw") == 100


def test_paths_are_compared_and_measured(raw: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.vhdx"
    vhdx.convert(raw, image, block_size=MIB)
    assert vhdx.compare(raw, image) is None
    assert vhdx.measure(image, format="vhdx", block_size=MIB).required == image.stat().st_size
    with raw.open("r+b") as file:
        file.seek(MIB)
        file.write(b"x")
    assert vhdx.compare(str(raw), str(image)) == vhdx.Difference(MIB)


def test_a_child_is_converted_with_what_its_parent_holds(raw: Path, tmp_path: Path) -> None:
    vhdx.convert(raw, tmp_path / "parent.vhdx")
    vhdx.create(tmp_path / "child.vhdx", parent=tmp_path / "parent.vhdx")
    vhdx.convert(tmp_path / "child.vhdx", tmp_path / "flat.raw")
    assert (tmp_path / "flat.raw").read_bytes() == raw.read_bytes()
    with pytest.raises(vhdx.RequestError, match="is read from"):
        vhdx.convert(tmp_path / "child.vhdx", tmp_path / "parent.vhdx", overwrite=True)


def test_a_file_of_no_known_format_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    unknown = tmp_path / "disk.bin"
    unknown.write_bytes(b"x" * 4096)
    with pytest.raises(vhdx.RequestError, match=r"not a VHDX but no known disk image; .* RawDevice\.open"):
        vhdx.convert(unknown, tmp_path / "new.vhdx")
    assert list(tmp_path.iterdir()) == [unknown]


def test_a_disk_that_is_given_stays_open(raw: Path, tmp_path: Path) -> None:
    with vhdx.RawDevice.open(raw) as disk:
        vhdx.convert(disk, tmp_path / "disk.vhdx")
        assert disk.pread(len(CONTENT), 2 * MIB) == CONTENT


def test_a_file_that_is_opened_is_closed_again(raw: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.vhdx"
    vhdx.convert(raw, image)
    vhdx.convert(image, tmp_path / "other.raw")
    vhdx.measure(image)
    vhdx.open(image, "r+").close()  # a reader's lock would keep a writer out


@pytest.mark.parametrize("wrong", [None, 7.5, b"disk.raw", vhdx.MemoryStore(bytes(512))])
def test_what_is_no_disk_is_told_what_to_give(wrong: object, tmp_path: Path) -> None:
    for call in (
        lambda: vhdx.convert(wrong, tmp_path / "new.raw"),  # type: ignore[arg-type]
        lambda: vhdx.compare(wrong, wrong),  # type: ignore[arg-type]
        lambda: vhdx.measure(wrong),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="a disk is a path"):
            call()
