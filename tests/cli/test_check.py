"""`vhdx check`."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.command import Vhdx
from vhdx.testing import ImageBuilder

KEYS = {
    "filename",
    "format",
    "findings",
    "check-errors",
    "corruptions",
    "leaks",
    "total-clusters",
    "allocated-clusters",
    "image-end-offset",
    "warnings",
    "notices",
    "unlisted-findings",
    "virtual-size",
    "unused-bytes",
    "reliable",
}


def check_json(vhdx: Vhdx, path: Path, code: int) -> Any:
    outcome = vhdx("check", "--json", path)
    assert (outcome.code, outcome.err) == (code, "")
    report = json.loads(outcome.out)
    assert set(report) == KEYS
    return report


def test_sound_image_has_no_findings(vhdx: Vhdx, image: Path) -> None:
    outcome = vhdx("check", image)
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 of 8 blocks are allocated" in outcome.out
    assert outcome.out.endswith(f"{image}: no findings\n")


def test_json_of_a_sound_image(vhdx: Vhdx, image: Path) -> None:
    report = check_json(vhdx, image, 0)
    assert report["findings"] == []
    assert (report["total-clusters"], report["allocated-clusters"]) == (8, 3)
    assert report["image-end-offset"] == image.stat().st_size


def test_every_real_image_passes(vhdx: Vhdx, sample: Path) -> None:
    assert check_json(vhdx, sample, 0)["corruptions"] == 0


@pytest.mark.interop
def test_fresh_qemu_image_passes(vhdx: Vhdx, tmp_path: Path) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is needed")
    path = tmp_path / "qemu.vhdx"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vhdx", path, "96M"], check=True)
    theirs = json.loads(subprocess.check_output(["qemu-img", "check", "--output=json", path]))
    ours = check_json(vhdx, path, 0)
    assert {key: ours[key] for key in theirs} == theirs


def test_corruption_is_exit_code_2(vhdx: Vhdx, corrupt_image: Path) -> None:
    outcome = vhdx("check", corrupt_image)
    assert outcome.code == 2
    assert "error: BAT entry 2 (block 2)" in outcome.out
    assert outcome.out.endswith(": 1 error\n")
    report = check_json(vhdx, corrupt_image, 2)
    (finding,) = report["findings"]
    assert report["corruptions"] == 1
    assert set(finding) == {
        "severity",
        "code",
        "structure",
        "file-offset",
        "problem",
        "rule",
        "found",
        "expected",
        "consequence",
    }
    assert (finding["severity"], finding["code"]) == ("error", "block-overlap")


def test_image_that_cannot_be_opened_is_corrupt_not_unchecked(vhdx: Vhdx, tmp_path: Path) -> None:
    builder = ImageBuilder(name="broken")
    builder.metadata.signature = b"metadatA"
    report = check_json(vhdx, builder.write(tmp_path / "broken.vhdx"), 2)
    assert [finding["code"] for finding in report["findings"]] == ["metadata-signature"]


def test_damaged_redundant_copy_is_an_error(vhdx: Vhdx, tmp_path: Path) -> None:
    builder = ImageBuilder(name="hurt")
    builder.region_tables[1].bad_checksum = True
    assert vhdx("check", builder.write(tmp_path / "hurt.vhdx")).code == 2


def test_leaked_space_alone_is_exit_code_3(vhdx: Vhdx, leaking_image: Path) -> None:
    assert check_json(vhdx, leaking_image, 3)["leaks"] == 1


def test_warnings_and_notices_are_exit_code_0(vhdx: Vhdx, windows_dirty_sample: Path, tmp_path: Path) -> None:
    odd = ImageBuilder(name="odd", physical_sector_size=8192).write(tmp_path / "odd.vhdx")
    assert check_json(vhdx, odd, 0)["warnings"] == 1
    assert check_json(vhdx, windows_dirty_sample, 0)["notices"] == 1


def test_what_is_no_vhdx_could_not_be_checked(vhdx: Vhdx, qcow2_like: Path) -> None:
    for path in (qcow2_like, qcow2_like.with_name("absent"), qcow2_like.parent):
        outcome = vhdx("check", path)
        assert outcome.code == 1
        assert str(path) in outcome.error_line


def test_findings_past_the_limit_are_counted(vhdx: Vhdx, tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=200 << 20, name="many")
    for block in range(200):
        builder.set_block(block, 4)
    path = builder.write(tmp_path / "many.vhdx")
    report = check_json(vhdx, path, 2)
    assert report["corruptions"] == 200
    assert len(report["findings"]) + report["unlisted-findings"] == 200
    assert "more findings of the same kinds are not listed" in vhdx("check", path).out


def test_only_the_image_itself_is_needed(vhdx: Vhdx, chain: list[Path]) -> None:
    for parent in chain[1:]:
        parent.unlink()
    assert vhdx("check", chain[0]).code == 0
