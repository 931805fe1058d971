"""`vhdx convert`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import Argument, Vhdx
from support.units import MIB
from vhdx import Image
from vhdx import open as open_disk
from vhdx.cli.progress import ProgressLine
from vhdx.storage.file import FileStore


def content_of(path: Path) -> bytes:
    with open_disk(path) as disk:
        return disk.pread(disk.size, 0)


def test_vhdx_becomes_raw_by_the_suffix(vhdx: Vhdx, image: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.raw"
    assert vhdx("convert", image, target) == (0, "", "")
    assert target.read_bytes() == content_of(image)


def test_raw_becomes_vhdx_by_the_suffix(vhdx: Vhdx, tmp_path: Path) -> None:
    source, target = tmp_path / "disk.img", tmp_path / "new.VHDX"
    source.write_bytes(b"disk" * MIB)
    assert vhdx("convert", source, target) == (0, "", "")
    assert content_of(target) == source.read_bytes()


def test_options_shape_the_new_image(vhdx: Vhdx, image: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    shape = ["--fixed", "--block-size", "2M", "--sector-size", "4K", "--physical-sector-size", "4096"]
    assert vhdx("convert", "-O", "vhdx", *shape, image, target).code == 0
    with Image.open(target) as made:
        assert (made.kind, made.block_size) == ("fixed", 2 * MIB)
        assert (made.logical_sector_size, made.physical_sector_size) == (4096, 4096)


def test_chain_is_copied_with_its_parents(vhdx: Vhdx, chain: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "flat.raw"
    assert vhdx("convert", chain[0], target).code == 0
    content = target.read_bytes()
    assert content.startswith(b"base")
    assert content[MIB:].startswith(b"middle")
    assert content[2 * MIB + 4 * 512 :].startswith(b"leaf")


@pytest.mark.parametrize("option", [[], ["--no-parents"]])
def test_chain_without_its_parent_is_refused(
    vhdx: Vhdx, chain: list[Path], tmp_path: Path, option: list[str]
) -> None:
    chain[1].unlink()
    target = tmp_path / "flat.raw"
    outcome = vhdx("convert", *option, chain[0], target)
    assert outcome.code == 1
    assert "--parent PATH" in outcome.error_line
    assert not target.exists()


def test_named_parents_are_used(vhdx: Vhdx, chain: list[Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = chain[1].rename(elsewhere / "renamed.vhdx")
    target = tmp_path / "flat.raw"
    assert vhdx("convert", "--parent", moved, "--parent", chain[2], chain[0], target).code == 0


def test_stdout_gets_the_raw_disk(image: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "vhdx", "convert", image, "-"], check=True, capture_output=True
    )
    assert run.stdout == content_of(image)
    assert run.stderr == b""


def test_reader_of_stdout_that_goes_away_is_no_error(image: Path) -> None:
    command: list[Argument] = [sys.executable, "-m", "vhdx", "convert", image, "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-O", "vhdx", "SRC", "-"], "stdout"),
        (["SRC", "new.qcow2"], "-O raw or -O vhdx"),
        (["SRC", "new"], "-O raw or -O vhdx"),
        (["--fixed", "SRC", "new.raw"], "--fixed"),
        (["--block-size", "2M", "--sector-size", "512", "SRC", "-"], "--block-size, --sector-size"),
        (["--block-size", "3M", "SRC", "new.vhdx"], "block size 3145728"),
        (["--block-size", "1.5M", "SRC", "new.vhdx"], "block size"),
        (["--sector-size", "1K", "SRC", "new.vhdx"], "invalid choice"),
        (["-f", "vhd", "SRC", "new.vhdx"], "invalid choice"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_written(
    vhdx: Vhdx, image: Path, arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(image.parent)
    outcome = vhdx("convert", *[image.name if argument == "SRC" else argument for argument in arguments])
    assert (outcome.code, outcome.out) == (1, "")
    assert reason in outcome.error_line
    assert os.listdir() == [image.name]


def test_existing_file_is_replaced_only_with_force(vhdx: Vhdx, image: Path, tmp_path: Path) -> None:
    target = tmp_path / "old.raw"
    target.write_bytes(b"precious")
    outcome = vhdx("convert", image, target)
    assert outcome.code == 1
    assert "--force" in outcome.error_line
    assert target.read_bytes() == b"precious"
    assert vhdx("convert", "--force", image, target).code == 0
    assert target.read_bytes() == content_of(image)


@pytest.mark.parametrize("kind", ["same name", "hard link", "symbolic link"])
def test_source_is_never_the_destination(vhdx: Vhdx, image: Path, tmp_path: Path, kind: str) -> None:
    target = image if kind == "same name" else tmp_path / "other.vhdx"
    if kind == "hard link":
        target.hardlink_to(image)
    elif kind == "symbolic link":
        target.symlink_to(image)
    before = image.read_bytes()
    outcome = vhdx("convert", "--force", image, target)
    assert outcome.code == 1
    assert str(image) in outcome.error_line
    assert image.read_bytes() == before


def test_parent_is_never_the_destination(vhdx: Vhdx, chain: list[Path]) -> None:
    before = chain[2].read_bytes()
    assert vhdx("convert", "--force", chain[0], chain[2]).code == 1
    assert chain[2].read_bytes() == before


def test_unknown_content_needs_a_format(vhdx: Vhdx, tmp_path: Path) -> None:
    source, target = tmp_path / "disk.bin", tmp_path / "new.vhdx"
    source.write_bytes(b"content" * 1024)
    outcome = vhdx("convert", source, target)
    assert outcome.code == 1
    assert "-f raw" in outcome.error_line
    assert vhdx("convert", "-f", "raw", source, target).code == 0


@pytest.mark.parametrize(
    "content", [b"content" * 1024, bytes(4096), bytes(510) + b"\x55\xaa"], ids=["any", "zero", "boot"]
)
@pytest.mark.parametrize("suffix", [".raw", ".img", ".DD"])
def test_suffix_of_a_raw_disk_says_that_it_is_one(
    vhdx: Vhdx, tmp_path: Path, suffix: str, content: bytes
) -> None:
    source = tmp_path / f"disk{suffix}"
    source.write_bytes(content)
    assert vhdx("convert", source, tmp_path / "new.vhdx").code == 0


def test_suffix_does_not_overrule_content_of_a_known_format(vhdx: Vhdx, qcow2_like: Path) -> None:
    source = qcow2_like.rename(qcow2_like.with_suffix(".img"))
    target = source.with_name("new.vhdx")
    outcome = vhdx("convert", source, target)
    assert outcome.code == 1
    assert "qcow2" in outcome.error_line
    assert "-f raw" in outcome.error_line
    assert vhdx("convert", "-f", "raw", source, target).code == 0


def test_raw_suffix_does_not_hide_a_vhdx(vhdx: Vhdx, image: Path, tmp_path: Path) -> None:
    source, target = image.rename(image.with_suffix(".raw")), tmp_path / "new.img"
    assert vhdx("convert", source, target).code == 0
    assert target.stat().st_size == 8 * MIB


def test_raw_format_never_looks_at_the_content(vhdx: Vhdx, image: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.raw"
    assert vhdx("convert", "-f", "raw", image, target).code == 0
    assert target.read_bytes() == image.read_bytes()


def test_vhdx_format_refuses_everything_else(vhdx: Vhdx, tmp_path: Path) -> None:
    source = tmp_path / "disk.raw"
    source.write_bytes(bytes(4096))
    assert vhdx("convert", "-f", "vhdx", source, tmp_path / "new.raw").code == 1


def test_damage_that_was_tolerated_is_told(vhdx: Vhdx, tmp_path: Path) -> None:
    from vhdx.testing import ImageBuilder

    builder = ImageBuilder(name="hurt")
    builder.headers[1].bad_checksum = True
    outcome = vhdx("convert", builder.write(tmp_path / "hurt.vhdx"), tmp_path / "new.raw")
    assert outcome.code == 0
    assert "warning" in outcome.error_line
    assert "[header-checksum]" in outcome.error_line


def test_progress_is_told_when_asked_for(vhdx: Vhdx, image: Path, tmp_path: Path) -> None:
    outcome = vhdx("convert", "-p", image, tmp_path / "new.raw")
    assert outcome.code == 0
    assert outcome.err.splitlines()[-1].startswith("100.0 %")


def test_interrupt_leaves_no_file(
    vhdx: Vhdx, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ProgressLine, "__call__", interrupt)
    outcome = vhdx("convert", image, tmp_path / "new.raw")
    assert (outcome.code, outcome.error_line) == (130, "vhdx: interrupted")
    assert list(tmp_path.iterdir()) == [image]


_SLOW_CONVERT = """
import signal, sys, time
from vhdx.ops.copying.copier import Copier
from vhdx.ops.copying.unit_workers import Stopped

def copy(self, number, unit):
    print("copying", flush=True)
    while not self._workers.is_stopping:
        time.sleep(0.01)
    raise Stopped

Copier.copy = copy
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored
from vhdx.cli.main import entry_point
entry_point()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for processes")
def test_signal_ends_a_conversion_with_one_line_and_no_file(image: Path, tmp_path: Path) -> None:
    command: list[Argument] = [sys.executable, "-c", _SLOW_CONVERT, "convert", image, tmp_path / "new.raw"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"copying\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"vhdx: interrupted\n"
        assert process.wait() == 130
    assert list(tmp_path.iterdir()) == [image]


def test_locked_source_is_not_read_unless_asked(vhdx: Vhdx, image: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.raw"
    with FileStore.open(image, writable=True):
        refused = vhdx("convert", image, target)
        assert refused.code == 1
        assert "--force-share" in refused.error_line
        assert not target.exists()
        shared = vhdx("convert", "--force-share", image, target)
    assert shared.code == 0
    assert "not reliable" in shared.error_line
