"""`vhdx dump`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.command import Vhdx
from support.units import MIB
from vhdx.format.guids import METADATA_REGION, VIRTUAL_DISK_SIZE
from vhdx.testing import ImageBuilder, data_change

Structures = dict[str, dict[str, Any]]


def dump_json(vhdx: Vhdx, path: Path) -> Structures:
    outcome = vhdx("dump", "--json", path)
    assert (outcome.code, outcome.err) == (0, "")
    dump = json.loads(outcome.out)
    assert set(dump) == {"filename", "format", "reliable", "structures"}
    for structure in dump["structures"]:
        assert set(structure) == {
            "structure",
            "file-offset",
            "length",
            "fields",
            "entries",
            "findings",
            "error",
        }
    return {structure["structure"]: structure for structure in dump["structures"]}


def test_every_structure_has_its_place(vhdx: Vhdx, image: Path) -> None:
    structures = dump_json(vhdx, image)
    assert {name: structure["file-offset"] for name, structure in structures.items()} == {
        "file identifier": 0,
        "header 1": 0x10000,
        "header 2": 0x20000,
        "region table 1": 0x30000,
        "region table 2": 0x40000,
        "log": MIB,
        "metadata table": 2 * MIB,
        "metadata item file parameters": 0x210000,
        "metadata item virtual disk size": 0x210008,
        "metadata item logical sector size": 0x210010,
        "metadata item physical sector size": 0x210014,
        "metadata item virtual disk id": 0x210018,
        "BAT": 3 * MIB,
    }
    assert not any(structure["findings"] or structure["error"] for structure in structures.values())
    assert structures["BAT"]["fields"]["blocks"] == {"not-present": 4, "zero": 1, "fully-present": 3}
    assert structures["BAT"]["entries"][0] == {
        "index": 1,
        "block": 1,
        "state": "fully-present",
        "file-offset": 4 * MIB,
    }


def test_text_shows_the_same(vhdx: Vhdx, image: Path) -> None:
    outcome = vhdx("dump", image)
    assert (outcome.code, outcome.err) == (0, "")
    assert "0x000000020000 header 2 (4096 bytes)" in outcome.out
    assert "current:         yes" in outcome.out
    assert "- index 1, block 1, state fully-present, file-offset 0x400000" in outcome.out


def test_log_shows_what_is_active_and_what_is_history(vhdx: Vhdx, windows_dirty_sample: Path) -> None:
    structures = dump_json(vhdx, windows_dirty_sample)
    entries = {
        structure["fields"]["position"]: structure
        for name, structure in structures.items()
        if name.startswith("log entry")
    }
    assert sorted(entries) == [0, 0x1000, 0x3000, 0x5000, 0x7000]
    assert [position for position in entries if entries[position]["fields"]["active"]] == [0x5000, 0x7000]
    (change,) = entries[0x7000]["entries"]
    assert (change["type"], change["file-offset"], change["target"]) == ("data", 3 * MIB, "BAT region")
    assert structures["BAT"]["fields"]["blocks"] == {"not-present": 32}
    replayed = structures["BAT after replay"]["fields"]["blocks"]
    assert replayed == {"not-present": 28, "zero": 3, "fully-present": 1}


def test_entries_of_former_sessions_are_stale(vhdx: Vhdx, tmp_path: Path) -> None:
    builder = ImageBuilder(name="stale")
    builder.log_run([data_change(3 * MIB, bytes(4096))])
    structures = dump_json(vhdx, builder.write(tmp_path / "stale.vhdx"))
    fields = structures["log entry at position 0x0"]["fields"]
    assert (fields["valid"], fields["stale"], fields["active"]) == (True, True, False)


def test_locator_is_shown_pair_by_pair(vhdx: Vhdx, chain: list[Path]) -> None:
    pairs = dump_json(vhdx, chain[0])["metadata item parent locator"]["entries"]
    assert [pair["key"] for pair in pairs] == ["parent_linkage", "relative_path"]
    assert pairs[1]["value"] == ".\\middle.vhdx"


def no_signature(builder: ImageBuilder) -> None:
    builder.signature = b"xhdxfile"


def no_headers(builder: ImageBuilder) -> None:
    builder.each_header(bad_checksum=True)


def no_region_tables(builder: ImageBuilder) -> None:
    for table in builder.region_tables:
        table.bad_checksum = True


def too_many_regions(builder: ImageBuilder) -> None:
    for table in builder.region_tables:
        table.count = 0xFFFFFFFF


def no_metadata_region(builder: ImageBuilder) -> None:
    for table in builder.region_tables:
        table.regions = [region for region in table.regions if region.guid != METADATA_REGION]


def metadata_far_away(builder: ImageBuilder) -> None:
    builder.each_region(METADATA_REGION, file_offset=(1 << 64) - MIB)


def no_metadata_signature(builder: ImageBuilder) -> None:
    builder.metadata.signature = b"metadatA"


def too_many_items(builder: ImageBuilder) -> None:
    builder.metadata.count = 0xFFFF


def no_virtual_size(builder: ImageBuilder) -> None:
    builder.drop_item(VIRTUAL_DISK_SIZE)


def impossible_log(builder: ImageBuilder) -> None:
    builder.each_header(log_length=0xFFFFF000, log_offset=(1 << 64) - MIB)


def cut_off(builder: ImageBuilder) -> None:
    builder.file_length = 3 * MIB // 2


def bad_block(builder: ImageBuilder) -> None:
    builder.set_block(1, 6, 1 << 62)


@pytest.mark.parametrize(
    ("wound", "hurt", "code"),
    [
        (no_signature, "file identifier", "file-signature"),
        (no_headers, "header 1", "header-checksum"),
        (no_region_tables, "region table 1", "region-table-checksum"),
        (too_many_regions, "region table 2", "region-count"),
        (no_metadata_region, "region table 1", "region-missing"),
        (metadata_far_away, "region table 1", "region-overflow"),
        (no_metadata_signature, "metadata table", "metadata-signature"),
        (too_many_items, "metadata table", "metadata-count"),
        (no_virtual_size, "metadata table", "metadata-missing"),
        (impossible_log, "header 2", "log-alignment"),
        (cut_off, "region table 1", "region-truncated"),
        (bad_block, "BAT", "block-offset-limit"),
    ],
)
def test_damage_is_shown_in_its_place_and_hides_nothing_else(
    vhdx: Vhdx, tmp_path: Path, wound: Callable[[ImageBuilder], None], hurt: str, code: str
) -> None:
    builder = ImageBuilder(name="hurt")
    builder.add_block(0)
    wound(builder)
    path = builder.write(tmp_path / "hurt.vhdx")
    structures = dump_json(vhdx, path)
    assert code in [finding["code"] for finding in structures[hurt]["findings"]]
    expected = {"file identifier", "header 1", "header 2", "region table 1", "region table 2", "log", "BAT"}
    assert expected | {"metadata table"} <= set(structures)
    assert f"[{code}]" in vhdx("dump", path).out
    assert vhdx("dump", "--strict", path).code == 1


def test_image_without_valid_headers_still_shows_its_metadata(vhdx: Vhdx, tmp_path: Path) -> None:
    builder = ImageBuilder(name="hurt")
    no_headers(builder)
    no_region_tables(builder)
    structures = dump_json(vhdx, builder.write(tmp_path / "hurt.vhdx"))
    assert structures["metadata item virtual disk size"]["fields"] == {"virtual-size": 8 * MIB}


def test_sound_image_passes_strictly(vhdx: Vhdx, image: Path) -> None:
    assert vhdx("dump", "--strict", image).code == 0


def test_what_has_no_trace_of_a_vhdx_is_refused(vhdx: Vhdx, qcow2_like: Path) -> None:
    for arguments in (("dump",), ("dump", "--json")):
        outcome = vhdx(*arguments, qcow2_like)
        assert (outcome.code, outcome.out) == (1, "")
        assert "qcow2" in outcome.error_line
