"""A file system on a served disk is changed by other programs, and is whole to its own checker afterwards."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.programs import need, run
from support.served_disks import assert_sound
from support.serving import Serving, run_vhdx, serving
from support.units import KIB, MIB

pytestmark = pytest.mark.interop

SIZE = 48 * MIB
PIECE = 4 * KIB

Change = Callable[[Serving, Path, Path], None]
"""Turns a served disk from what it holds into what it shall hold."""


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """An ext4 file system with files in it."""
    tree, raw = tmp_path / "tree", tmp_path / "before.raw"
    tree.mkdir()
    for number in range(60):
        (tree / f"file{number}").write_bytes(random.Random(number).randbytes(number * 3000))
    with raw.open("wb") as file:
        file.truncate(SIZE)
    run(need("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-d", tree, raw)
    return raw


@pytest.fixture
def after(tmp_path: Path, before: Path) -> Path:
    """The same after files have come and gone."""
    raw, new = tmp_path / "after.raw", tmp_path / "new"
    shutil.copyfile(before, raw)
    new.write_bytes(content_of_new())
    commands = tmp_path / "commands"
    lines = [f"write {new} new{number}" for number in range(8)]
    lines += [f"rm file{number}" for number in range(0, 60, 3)]
    lines += ["mkdir folder", f"write {new} folder/deep"]
    commands.write_text("\n".join(lines) + "\n")
    debugfs = need("debugfs", "e2fsprogs")
    run(debugfs, "-w", "-f", commands, raw)
    run(need("e2fsck", "e2fsprogs"), "-fp", raw)
    return raw


def content_of_new() -> bytes:
    return random.Random(100).randbytes(300_000)


def copy_all(server: Serving, before: Path, after: Path) -> None:
    run(need("nbdcopy", "libnbd-bin"), "--flush", after, server.uri)


def write_what_differs(server: Serving, before: Path, after: Path) -> None:
    """Let qemu-io write the pieces that are different, in any order."""
    old, new = before.read_bytes(), after.read_bytes()
    commands = []
    for offset in range(0, SIZE, PIECE):
        piece = new[offset : offset + PIECE]
        if piece == old[offset : offset + PIECE]:
            continue
        if any(piece):
            pattern = after.with_name(f"piece{offset}")
            pattern.write_bytes(piece)
            commands.append(f"write -s {pattern} {offset} {PIECE}")
        else:
            commands.append(f"write -z {offset} {PIECE}")
    assert len(commands) > 100
    random.Random(3).shuffle(commands)
    options = [part for command in [*commands, "flush"] for part in ("-c", command)]
    assert "failed" not in run(need("qemu-io", "qemu-utils"), "-f", "raw", *options, server.uri)


@pytest.mark.parametrize("change", [copy_all, write_what_differs])
@pytest.mark.parametrize("sector_size", ["512", "4096"])
def test_ext4_that_is_changed_through_a_server_is_whole(
    tmp_path: Path, before: Path, after: Path, change: Change, sector_size: str
) -> None:
    image, back = tmp_path / "disk.vhdx", tmp_path / "back.raw"
    run_vhdx("convert", "--block-size", "2M", "--sector-size", sector_size, before, image)
    with serving(tmp_path, image, persistent=False) as server:
        change(server, before, after)
    assert_sound(image)
    run_vhdx("convert", image, back)
    run(need("e2fsck", "e2fsprogs"), "-fn", back)
    run("cmp", back, after)
    found = tmp_path / "found"
    run(need("debugfs", "e2fsprogs"), "-R", f"dump /folder/deep {found}", back)
    assert found.read_bytes() == content_of_new()
