"""`vhdx map`."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.command import Argument, Vhdx
from support.units import MIB
from vhdx import _host
from vhdx.testing import ImageBuilder

Items = list[dict[str, Any]]

needs_qemu = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("qemu-img", "qemu-io")),
    reason="qemu-img and qemu-io are needed",
)


def map_json(vhdx: Vhdx, *arguments: object) -> Items:
    outcome = vhdx("map", "--json", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    items: Items = json.loads(outcome.out)
    return items


def qemu_map(path: Path, file_format: str) -> Items:
    command: list[Argument] = ["qemu-img", "map", "--output=json", "-f", file_format, path]
    items: Items = json.loads(subprocess.check_output(command))
    return items


def data_sectors(items: Items) -> set[int]:
    """Sectors of 64 KiB that hold data."""
    return {
        sector
        for item in items
        if item["data"]
        for sector in range(item["start"] >> 16, (item["start"] + item["length"] - 1 >> 16) + 1)
    }


def gaps(items: Items) -> Iterator[int]:
    position = 0
    for item in items:
        if item["start"] != position:
            yield position
        position += item["length"]


def test_json_has_the_keys_of_qemu_img(vhdx: Vhdx, image: Path) -> None:
    items = map_json(vhdx, image)
    zero = {"depth": 0, "zero": True, "data": False}
    data = {"depth": 0, "present": True, "zero": False, "data": True}
    assert items == [
        {"start": 0, "length": MIB, "present": False, **zero},
        {"start": MIB, "length": 2 * MIB, **data, "offset": 4 * MIB},
        {"start": 3 * MIB, "length": MIB, "present": True, **zero},
        {"start": 4 * MIB, "length": MIB, "present": False, **zero},
        {"start": 5 * MIB, "length": MIB, **data, "offset": 6 * MIB},
        {"start": 6 * MIB, "length": 2 * MIB, "present": False, **zero},
    ]


def test_table_names_the_files(vhdx: Vhdx, chain: list[Path]) -> None:
    outcome = vhdx("map", chain[0])
    assert (outcome.code, outcome.err) == (0, "")
    rows = [line.split() for line in outcome.out.splitlines()[1:]]
    assert rows[0] == ["0x0", "0x100000", "data", "0x400000", str(chain[2])]
    assert rows[1] == ["0x100000", "0x100000", "data", "0x400000", str(chain[1])]
    assert [row[4] for row in rows if row[2] == "data"].count(str(chain[0])) == 1


def test_depth_counts_from_the_leaf(vhdx: Vhdx, chain: list[Path]) -> None:
    assert [item["depth"] for item in map_json(vhdx, chain[0]) if item["data"]] == [2, 1, 0]


def test_missing_parent_is_shown_as_not_present(vhdx: Vhdx, chain: list[Path]) -> None:
    chain[2].unlink()
    outcome = vhdx("map", "--json", chain[0])
    assert outcome.code == 0
    assert "shown as not present" in outcome.error_line
    first, second, *_ = json.loads(outcome.out)
    assert (first["present"], first["zero"], first["data"]) == (False, False, False)
    assert (second["depth"], second["data"]) == (1, True)
    assert "not present" in vhdx("map", chain[0]).out


def test_no_parents_opens_none_and_says_nothing(vhdx: Vhdx, chain: list[Path]) -> None:
    items = map_json(vhdx, "--no-parents", chain[0])
    assert {item["depth"] for item in items} == {0}
    assert not any(item["zero"] for item in items)


def test_wrong_parent_is_an_error(vhdx: Vhdx, chain: list[Path], image: Path) -> None:
    chain[1].unlink()
    outcome = vhdx("map", "--parent", image, chain[0])
    assert (outcome.code, outcome.out) == (1, "")
    assert "DataWriteGuid" in outcome.error_line


def test_largest_disk_is_mapped_from_its_holes(vhdx: Vhdx, tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=64 << 40, block_size=MIB, name="huge")
    builder.add_block(0)
    builder.add_block((64 << 20) - 1)
    items = map_json(vhdx, builder.write(tmp_path / "huge.vhdx"))
    assert [item["start"] for item in items if item["data"]] == [0, (64 << 40) - MIB]
    assert sum(item["length"] for item in items) == 64 << 40


def test_damage_ends_the_map_with_an_error(vhdx: Vhdx, tmp_path: Path) -> None:
    builder = ImageBuilder(name="broken")
    builder.set_block(1, 4)
    outcome = vhdx("map", builder.write(tmp_path / "broken.vhdx"))
    assert outcome.code == 1
    assert "[bat-state-reserved]" in outcome.error_line


@pytest.mark.interop
@needs_qemu
@pytest.mark.skipif(not _host.HAVE_SEEK_HOLE, reason="hole seeking is switched off")
def test_map_of_a_raw_file_is_that_of_qemu_img(vhdx: Vhdx, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        for offset in (MIB, 5 * MIB):
            file.seek(offset)
            file.write(b"x" * 65536)
        file.truncate(8 * MIB)
    ours, theirs = map_json(vhdx, path), qemu_map(path, "raw")
    # QEMU gives an offset for holes too; here only data has one.
    for item in theirs:
        if not item["data"]:
            del item["offset"]
    assert ours == theirs


@pytest.mark.interop
@needs_qemu
def test_map_of_a_qemu_image_covers_all_data_in_it(vhdx: Vhdx, tmp_path: Path) -> None:
    path, raw = tmp_path / "qemu.vhdx", tmp_path / "qemu.raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", path, "64M"], check=True)
    writes = ["write -P 1 1M 1M", "write -P 2 5M 2M", "write -P 3 20M 64k", "write -P 4 64000k 64k"]
    commands = [argument for write in writes for argument in ("-c", write)]
    subprocess.run(["qemu-io", "-f", "vhdx", *commands, path], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, raw], check=True)
    ours, theirs = map_json(vhdx, path), qemu_map(path, "vhdx")
    assert not list(gaps(ours))
    assert sum(item["length"] for item in ours) == sum(item["length"] for item in theirs)
    # QEMU tells one data extent for the whole of a VHDX, so the content that it reads is the witness.
    disk = raw.read_bytes()
    written = {sector for sector in range(len(disk) >> 16) if any(disk[sector << 16 : sector + 1 << 16])}
    assert len(written) == 50
    assert written <= data_sectors(ours)
    assert len(data_sectors(ours)) == 5 * 16
    content = path.read_bytes()
    for item in ours:
        if item["data"]:
            expected = disk[item["start"] : item["start"] + item["length"]]
            assert content[item["offset"] : item["offset"] + item["length"]] == expected
    assert set(theirs[0]) <= set(ours[0]) | {"offset"}
