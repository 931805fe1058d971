"""`vhdx info`."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.command import Argument, Vhdx
from support.units import MIB
from vhdx.format.guids import guid_text
from vhdx.testing import ImageBuilder, LocatorPair

DATA_KEYS = {
    "kind",
    "file-size",
    "block-size",
    "logical-sector-size",
    "physical-sector-size",
    "disk-id",
    "creator",
    "file-write-guid",
    "data-write-guid",
    "headers",
    "log",
    "blocks",
    "parent-locator",
    "change-tracking",
    "findings",
    "reliable",
}


def info_json(vhdx: Vhdx, *arguments: object) -> Any:
    outcome = vhdx("info", "--json", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


def test_json_has_the_keys_of_qemu_img_and_ours_beneath(vhdx: Vhdx, image: Path) -> None:
    info = info_json(vhdx, image)
    assert set(info) == {
        "virtual-size",
        "filename",
        "cluster-size",
        "format",
        "actual-size",
        "dirty-flag",
        "format-specific",
    }
    assert info["format-specific"]["type"] == "vhdx"
    assert set(info["format-specific"]["data"]) == DATA_KEYS


def test_json_values_are_those_of_the_image(vhdx: Vhdx, image: Path) -> None:
    info = info_json(vhdx, image)
    data = info["format-specific"]["data"]
    assert (info["virtual-size"], info["cluster-size"], info["filename"]) == (8 * MIB, MIB, str(image))
    assert info["actual-size"] == image.stat().st_blocks * 512
    assert info["dirty-flag"] is False
    assert data["kind"] == "dynamic"
    assert data["file-size"] == image.stat().st_size
    assert data["blocks"] == {"total": 8, "not-present": 4, "zero": 1, "fully-present": 3}
    assert data["headers"][1] == {"file-offset": 131072, "valid": True, "current": True, "sequence-number": 2}
    assert data["reliable"] is True


@pytest.mark.interop
def test_json_agrees_with_qemu_img(vhdx: Vhdx, tmp_path: Path) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is needed")
    path = tmp_path / "qemu.vhdx"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vhdx", path, "96M"], check=True)
    theirs = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", path]))
    ours = info_json(vhdx, path)
    assert {key: ours[key] for key in theirs if key in ours} == {
        key: value for key, value in theirs.items() if key in ours
    }
    assert {"virtual-size", "actual-size", "filename", "format", "cluster-size", "dirty-flag"} <= set(theirs)


def test_every_real_image_is_described(vhdx: Vhdx, sample: Path) -> None:
    outcome = vhdx("info", sample)
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(r"^virtual size: +\d", outcome.out, re.MULTILINE)


def test_dirty_log_is_told_with_what_replay_changes(vhdx: Vhdx, windows_dirty_sample: Path) -> None:
    outcome = vhdx("info", windows_dirty_sample)
    assert "dirty: replay of 2 entries changes 1 sectors" in outcome.out
    data = info_json(vhdx, windows_dirty_sample)["format-specific"]["data"]
    assert data["log"]["replay"] == {
        "entries": 2,
        "sectors": 1,
        "zeroed-bytes": 0,
        "file-size": data["file-size"],
    }
    assert data["blocks"]["fully-present"] == 1
    assert [finding["code"] for finding in data["findings"]] == ["log-dirty"]


def test_damaged_copy_is_a_finding(vhdx: Vhdx, tmp_path: Path) -> None:
    builder = ImageBuilder(name="hurt")
    builder.headers[1].bad_checksum = True
    path = builder.write(tmp_path / "hurt.vhdx")
    outcome = vhdx("info", path)
    assert outcome.code == 0
    assert re.search(r"^header 2: +not valid$", outcome.out, re.MULTILINE)
    assert "error: header 2 at file offset 0x20000" in outcome.out


def test_image_that_cannot_be_opened_is_exit_code_1(vhdx: Vhdx, tmp_path: Path) -> None:
    builder = ImageBuilder(name="broken")
    builder.metadata.signature = b"metadatA"
    outcome = vhdx("info", builder.write(tmp_path / "broken.vhdx"))
    assert (outcome.code, outcome.out) == (1, "")
    assert "metadata table at file offset 0x200000" in outcome.error_line
    assert "[metadata-signature]" in outcome.error_line


def test_strict_refuses_what_is_otherwise_a_finding(vhdx: Vhdx, tmp_path: Path) -> None:
    path = ImageBuilder(name="odd", physical_sector_size=8192).write(tmp_path / "odd.vhdx")
    assert vhdx("info", path).code == 0
    outcome = vhdx("info", "--strict", path)
    assert (outcome.code, outcome.out) == (1, "")
    assert "physical-sector-size" in outcome.error_line


def test_child_shows_its_locator_and_needs_no_parent(vhdx: Vhdx, chain: list[Path]) -> None:
    for parent in chain[1:]:
        parent.unlink()
    outcome = vhdx("info", chain[0])
    assert outcome.code == 0
    assert 'parent relative_path: ".\\middle.vhdx"' in outcome.out
    locator = info_json(vhdx, chain[0])["format-specific"]["data"]["parent-locator"]
    assert locator["paths"] == {"relative_path": ".\\middle.vhdx"}


def test_chain_is_listed_leaf_first(vhdx: Vhdx, chain: list[Path]) -> None:
    assert [info["filename"] for info in info_json(vhdx, "--chain", chain[0])] == [
        str(path) for path in chain
    ]
    out = vhdx("info", "--chain", chain[0]).out
    assert len(re.findall(r"^image:", out, re.MULTILINE)) == 3


def test_chain_of_a_single_image_is_a_list_too(vhdx: Vhdx, image: Path) -> None:
    assert len(info_json(vhdx, "--chain", image)) == 1


def test_missing_parent_of_a_chain_is_told_after_what_was_found(vhdx: Vhdx, chain: list[Path]) -> None:
    chain[2].unlink()
    outcome = vhdx("info", "--chain", "--json", chain[0])
    assert outcome.code == 1
    assert [info["filename"] for info in json.loads(outcome.out)] == [str(path) for path in chain[:2]]
    assert "--parent PATH" in outcome.error_line


def test_parents_elsewhere_are_found_where_the_caller_says(
    vhdx: Vhdx, chain: list[Path], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = [path.rename(elsewhere / path.name) for path in chain[1:]]
    assert vhdx("info", "--chain", chain[0]).code == 1
    named = [argument for path in reversed(moved) for argument in ("--parent", path)]
    assert len(info_json(vhdx, "--chain", *named, chain[0])) == 3
    assert len(info_json(vhdx, "--chain", "--parent-root", elsewhere, chain[0])) == 3
    assert len(info_json(vhdx, "--chain", "--no-parents", chain[0])) == 1


def test_naming_parents_without_chain_is_refused(vhdx: Vhdx, chain: list[Path]) -> None:
    outcome = vhdx("info", "--parent", chain[1], chain[0])
    assert outcome.code == 1
    assert "--chain" in outcome.error_line


@pytest.mark.parametrize("suffix", [".rct", ".mrt"])
def test_change_tracking_is_told(vhdx: Vhdx, image: Path, suffix: str) -> None:
    side_file = Path(f"{image}{suffix}")
    side_file.touch()
    data = info_json(vhdx, image)["format-specific"]["data"]
    assert data["change-tracking"] == [str(side_file)]
    assert [finding["code"] for finding in data["findings"]] == ["change-tracking"]


def test_texts_from_the_image_reach_no_terminal_unescaped(vhdx: Vhdx, tmp_path: Path) -> None:
    builder = ImageBuilder(kind="differencing", name="evil")
    builder.creator = "\x1b[2J\x07\u202eevil"
    assert builder.locator is not None
    builder.locator.pair("relative_path").value = "\x1b]0;title\x07\\.vhdx".encode("utf-16-le") + b"\0\xd8"
    builder.locator.pairs.append(LocatorPair("odd\nkey", "\x9b31m\r"))
    path = builder.write(tmp_path / "evil.vhdx")
    for arguments in (("info",), ("info", "--json"), ("info", "--chain"), ("dump",), ("dump", "--json")):
        outcome = vhdx(*arguments, path)
        text = (outcome.out + outcome.err).replace("\n", "")
        assert text.isprintable(), arguments
    assert "\\x1b[2J\\x07\\u202eevil" in vhdx("info", path).out
    assert "\\ud800" in vhdx("info", path).out


def test_linkage_that_is_no_guid_is_an_escaped_error(vhdx: Vhdx, tmp_path: Path) -> None:
    builder = ImageBuilder(kind="differencing", name="evil")
    assert builder.locator is not None
    builder.locator.pair("parent_linkage").value = guid_text(builder.linkage)[:-1] + "\x1b"
    outcome = vhdx("info", builder.write(tmp_path / "evil.vhdx"))
    assert outcome.code == 1
    assert outcome.error_line.isprintable()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names there are Unicode")
@pytest.mark.parametrize("name", [b"\xff\xfe.vhdx", b"\x1b[31m.vhdx", b"a\nb.vhdx"])
@pytest.mark.parametrize("command", ["probe", "info", "check", "map", "dump", "measure"])
def test_any_file_name_can_be_printed(vhdx_process: Vhdx, image: Path, name: bytes, command: str) -> None:
    path = os.fsencode(image.parent) + b"/" + name
    image.rename(os.fsdecode(path))
    for arguments in ((), ("--json",))[: 1 if command == "probe" else 2]:
        outcome = vhdx_process(command, *arguments, path, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.replace("\n", "").isprintable()
    absent = vhdx_process(command, path + b".absent")
    assert absent.code == 1
    assert absent.error_line.isprintable()


def test_nothing_of_the_file_is_changed(vhdx: Vhdx, windows_dirty_sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.vhdx"
    path.write_bytes(windows_dirty_sample.read_bytes())
    content, before = path.read_bytes(), path.stat()
    for command in ("probe", "info", "check", "map", "dump", "measure"):
        assert vhdx(command, path).code == 0
    after = path.stat()
    assert path.read_bytes() == content
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is needed to see what is opened")
def test_info_opens_one_file_and_looks_at_no_other(chain: list[Path], tmp_path: Path) -> None:
    log = tmp_path / "strace.log"
    leaf = chain[0]
    command: list[Argument] = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=%file", "-o", log]
    run = subprocess.run(
        [*command, sys.executable, "-m", "vhdx", "info", leaf], check=False, capture_output=True
    )
    if not log.exists() or b"ptrace" in run.stderr:
        pytest.skip("strace may not trace here")
    assert run.returncode == 0
    opened, looked_at = [], set()
    for line in log.read_text().splitlines():
        call = re.match(r"\d+ +(\w+)\(", line)
        for path in re.findall(rf'"({re.escape(str(tmp_path))}[^"]*)"', line):
            if call and call[1].startswith("open"):
                opened.append(path)
                assert "O_RDONLY" in line
            elif call and call[1] != "execve":
                looked_at.add(path)
    assert opened == [str(leaf)]
    assert looked_at <= {str(leaf), f"{leaf}.rct", f"{leaf}.mrt"}
