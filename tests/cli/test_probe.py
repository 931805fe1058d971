"""`vhdx probe` and `vhdx.probe`."""

import array
from pathlib import Path

import pytest

import vhdx as library
from support.command import Vhdx


def test_vhdx_scores_100(vhdx: Vhdx, image: Path) -> None:
    assert vhdx("probe", image) == (0, f"vhdx 100 {image}\n", "")


def test_every_file_gets_a_line_and_one_that_is_no_vhdx_makes_exit_code_1(
    vhdx: Vhdx, image: Path, qcow2_like: Path
) -> None:
    expected = f"vhdx 0 {qcow2_like}\nvhdx 100 {image}\n"
    assert vhdx("probe", qcow2_like, image) == (1, expected, "")


def test_file_that_cannot_be_read_does_not_hide_the_others(vhdx: Vhdx, image: Path) -> None:
    outcome = vhdx("probe", image.parent / "absent", image.parent, image)
    assert outcome.code == 1
    assert outcome.out == f"vhdx 100 {image}\n"
    assert len(outcome.err.splitlines()) == 2


def test_damage_behind_the_signature_does_not_matter(vhdx: Vhdx, tmp_path: Path) -> None:
    path = tmp_path / "cut.vhdx"
    path.write_bytes(b"vhdxfile")
    assert vhdx("probe", path).code == 0


@pytest.mark.parametrize(
    "content", [b"", b"v", b"vhdxfil", b"VHDXFILE", bytes(8), memoryview(b""), bytearray(b"xvhdxfile")]
)
def test_other_content_scores_0(content: bytes) -> None:
    assert library.probe(content) == 0


def test_any_kind_of_buffer_is_content() -> None:
    start = b"vhdxfile" + bytes(504)
    for content in (start, bytearray(start), memoryview(start), array.array("I", start)):
        assert library.probe(content) == 100


def test_path_is_no_content(image: Path) -> None:
    assert library.probe(image) == 100
    assert library.probe(str(image)) == 100
    with pytest.raises(FileNotFoundError):
        library.probe("vhdxfile")


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError):
        library.probe(7)  # type: ignore[arg-type]
