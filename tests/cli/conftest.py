"""Fixtures of the command's tests: running it in this process and in another, and images to run it on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import Argument, Outcome, Vhdx
from support.units import MIB
from vhdx.cli.main import main
from vhdx.testing import ImageBuilder


@pytest.fixture
def vhdx(capsys: pytest.CaptureFixture[str]) -> Vhdx:
    """Run the command in this process."""

    def run(*arguments: Argument) -> Outcome:
        code = main([os.fsdecode(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def vhdx_process() -> Vhdx:
    """Run the command as a process of its own."""

    def run(*arguments: Argument, **environment: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "vhdx", *arguments],
            check=False,
            capture_output=True,
            encoding="ascii",
            stdin=subprocess.DEVNULL,
            env=os.environ | environment,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A dynamic disk of 8 MiB, of which blocks 1, 2 and 5 hold data and block 3 is zero."""
    builder = ImageBuilder(name="disk")
    for block in (1, 2, 5):
        builder.add_block(block, bytes([block]) * 4096)
    builder.set_block(3, 2)
    return builder.write(tmp_path / "disk.vhdx")


@pytest.fixture
def chain(tmp_path: Path) -> list[Path]:
    """A leaf, its parent and its grandparent, in one directory; the leaf comes first."""
    base = ImageBuilder(name="base")
    base.add_block(0, b"base" * 1024)
    base.add_block(1, b"base" * 1024)
    middle = ImageBuilder.child_of(base, name="middle")
    middle.add_block(1, b"middle")
    leaf = ImageBuilder.child_of(middle, name="leaf")
    leaf.add_partial_block(2, {4: b"leaf"})
    return [builder.write(tmp_path / f"{builder.name}.vhdx") for builder in (leaf, middle, base)]


@pytest.fixture
def corrupt_image(tmp_path: Path) -> Path:
    """An image in which two blocks share file space."""
    builder = ImageBuilder(name="corrupt")
    place = builder.add_block(1)
    builder.set_block(2, 6, place)
    return builder.write(tmp_path / "corrupt.vhdx")


@pytest.fixture
def leaking_image(tmp_path: Path) -> Path:
    """An image that owns a sector bitmap, for which it has no use."""
    builder = ImageBuilder(virtual_size=5 << 30, name="leaking")
    builder.add_bitmap(0)
    return builder.write(tmp_path / "leaking.vhdx")


@pytest.fixture
def qcow2_like(tmp_path: Path) -> Path:
    """A file that begins like a qcow2 image."""
    path = tmp_path / "disk.qcow2"
    path.write_bytes(b"QFI\xfb" + bytes(4092))
    return path


@pytest.fixture
def many_extents(tmp_path: Path) -> Path:
    """A disk of 8192 blocks, of which every other one is zero by its own word."""
    builder = ImageBuilder(virtual_size=8192 * MIB, name="many")
    for block in range(0, 8192, 2):
        builder.set_block(block, 2)
    return builder.write(tmp_path / "many.vhdx")
