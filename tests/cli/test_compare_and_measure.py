"""`vhdx compare` and `vhdx measure`."""

import json
from pathlib import Path

import pytest

from support.command import Vhdx
from support.units import MIB


@pytest.fixture
def raw_copy(vhdx: Vhdx, image: Path) -> Path:
    path = image.with_suffix(".raw")
    assert vhdx("convert", image, path).code == 0
    return path


def test_same_content_is_exit_code_0(vhdx: Vhdx, image: Path, raw_copy: Path) -> None:
    assert vhdx("compare", image, raw_copy) == (0, "Images are identical.\n", "")


def test_first_difference_is_named_with_exit_code_1(vhdx: Vhdx, image: Path, raw_copy: Path) -> None:
    with raw_copy.open("r+b") as file:
        file.seek(3 * MIB + 77)
        file.write(b"x")
    expected = f"Content mismatch at offset {3 * MIB + 77}!\n"
    assert vhdx("compare", image, raw_copy) == (1, expected, "")


def test_longer_disk_may_only_have_more_zeroes(vhdx: Vhdx, image: Path, raw_copy: Path) -> None:
    with raw_copy.open("r+b") as file:
        file.truncate(9 * MIB)
    outcome = vhdx("compare", image, raw_copy)
    assert (outcome.code, outcome.out) == (0, "Images are identical.\n")
    assert "sizes differ" in outcome.error_line


def test_format_of_either_side_can_be_named(vhdx: Vhdx, image: Path) -> None:
    assert vhdx("compare", "-f", "raw", "-F", "raw", image, image).code == 0
    assert vhdx("compare", "-F", "raw", image, image).code == 1


@pytest.mark.parametrize("problem", ["absent", "directory", "unknown", "corrupt"])
def test_whatever_prevents_a_comparison_is_exit_code_2(
    vhdx: Vhdx, image: Path, corrupt_image: Path, tmp_path: Path, problem: str
) -> None:
    unknown = tmp_path / "unknown"
    unknown.write_bytes(b"content")
    other = {
        "absent": tmp_path / "absent",
        "directory": tmp_path,
        "unknown": unknown,
        "corrupt": corrupt_image,
    }[problem]
    options = ["--strict"] if problem == "corrupt" else []
    outcome = vhdx("compare", *options, image, other)
    assert (outcome.code, outcome.out) == (2, "")
    assert str(other) in outcome.error_line


def test_child_without_its_parent_cannot_be_compared(vhdx: Vhdx, chain: list[Path]) -> None:
    assert vhdx("compare", chain[0], chain[0]).code == 0
    assert vhdx("compare", "--no-parents", chain[0], chain[0]).code == 2


def test_measure_is_what_convert_makes(vhdx: Vhdx, image: Path, tmp_path: Path) -> None:
    outcome = vhdx("measure", "--json", "--block-size", "1M", image)
    assert (outcome.code, outcome.err) == (0, "")
    target = tmp_path / "new.vhdx"
    assert vhdx("convert", "--block-size", "1M", image, target).code == 0
    assert json.loads(outcome.out) == {"required": target.stat().st_size, "fully-allocated": 12 * MIB}


def test_measure_is_printed_with_units_and_in_bytes(vhdx: Vhdx, image: Path) -> None:
    outcome = vhdx("measure", "-O", "raw", image)
    assert "fully allocated size: 8 MiB (8388608 bytes)" in outcome.out


def test_measure_of_a_raw_target_knows_no_blocks(vhdx: Vhdx, image: Path) -> None:
    assert vhdx("measure", "-O", "raw", "--block-size", "1M", image).code == 1


def test_measure_needs_the_parents(vhdx: Vhdx, chain: list[Path]) -> None:
    assert vhdx("measure", chain[0]).code == 0
    assert vhdx("measure", "--no-parents", chain[0]).code == 1
