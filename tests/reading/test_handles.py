"""Disks and stores as things of one process: not copied, not inherited, not forgotten."""

import copy
import dataclasses
import io
import mmap
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vhdx
from support.units import MIB
from vhdx.storage.file import FileStore

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.vhdx"
    vhdx.create(path, 8 * MIB, block_size=MIB)
    return path


@dataclasses.dataclass
class Job:
    disk: object


OPENERS: dict[str, Callable[[Path], Any]] = {
    "disk": vhdx.open,
    "image": vhdx.Image.open,
    "raw disk": vhdx.RawDevice.open,
    "file store": FileStore.open,
}
COPIERS: dict[str, Callable[[Any], object]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "asdict": lambda handle: dataclasses.asdict(Job(handle)),
}


@pytest.mark.parametrize("copier", COPIERS)
@pytest.mark.parametrize("opener", OPENERS)
def test_what_is_open_cannot_be_copied_and_stays_usable(opener: str, copier: str, path: Path) -> None:
    with OPENERS[opener](path) as handle:
        with pytest.raises(TypeError, match="cannot be copied"):
            COPIERS[copier](handle)
        assert handle.pread(512, 0) is not None


def in_a_child(action: Callable[[], object]) -> str:
    """What an action raises in a forked process, by name; empty if nothing."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        name = ""
        try:
            action()
        except BaseException as error:
            name = f"{type(error).__name__}: {error}"
        os.write(writer, name.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(child, 0)
    return said


@needs_fork
@pytest.mark.parametrize("call", ["pread", "pwrite", "flush", "extents"])
def test_a_forked_process_cannot_use_a_disk_of_its_parent(path: Path, call: str) -> None:
    with vhdx.open(path, "r+") as disk:
        disk.pwrite(b"parent", 0)
        arguments = {"pread": (512, 0), "pwrite": (b"child", 0)}.get(call, ())
        assert "forked from" in in_a_child(lambda: getattr(disk, call)(*arguments))
        assert in_a_child(disk.close) == ""
        with pytest.raises(vhdx.ImageLockedError):  # the child's close has not let go of the parent's lock
            vhdx.open(path, "r+")
        disk.pwrite(b"!", 6)
    with vhdx.open(path) as again:
        assert again.pread(8, 0) == b"parent!\0"


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise RuntimeError"])
def test_what_was_written_is_there_after_a_program_that_forgot_to_close(path: Path, ending: str) -> None:
    program = f"import sys, vhdx; disk = vhdx.open(sys.argv[1], 'r+'); disk.pwrite(b'kept', 4096); {ending}"
    run(program, path)
    with vhdx.open(path) as disk:
        assert (disk.pread(4, 4096), disk.is_dirty) == (b"kept", False)


def test_a_raw_disk_that_was_forgotten_is_closed_without_complaint(tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(MIB))
    program = "import sys, vhdx; d = vhdx.RawDevice.open(sys.argv[1], writable=True); d.pwrite(b'kept', 0)"
    assert run(program, raw).stderr == ""
    assert raw.read_bytes()[:4] == b"kept"


@pytest.mark.parametrize("source", [b"vhdxfile", bytearray(8), 7, 1.5, None, ["a"]])
def test_what_is_no_source_is_a_type_error_that_says_what_to_give(source: Any) -> None:
    for opener in (vhdx.open, vhdx.Image.open):
        with pytest.raises(TypeError, match="a path, a binary file object or a store is needed"):
            opener(source)


def test_an_open_disk_is_no_source(path: Path) -> None:
    with vhdx.open(path) as disk, pytest.raises(TypeError, match="was opened from"):
        vhdx.open(disk)  # type: ignore[arg-type]


def test_a_mapped_file_and_bytes_in_a_file_object_can_be_opened(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        with vhdx.open(mapped) as disk:  # type: ignore[arg-type]
            assert disk.size == 8 * MIB
        with vhdx.open(io.BytesIO(mapped[:])) as disk:
            assert disk.size == 8 * MIB


@pytest.mark.parametrize(
    "arguments", [{"size": 1e9}, {"size": "10G"}, {"size": True}, {"size": MIB, "block_size": "1M"}]
)
def test_a_size_that_is_no_int_is_a_type_error(tmp_path: Path, arguments: Any) -> None:
    with pytest.raises(TypeError, match="must be an int, in bytes"):
        vhdx.create(tmp_path / "new.vhdx", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_tells_its_state(path: Path) -> None:
    disk = vhdx.open(path, "r+")
    assert (disk.closed, disk.mode, disk.name) == (False, "r+", str(path))
    assert "mode 'r+'" in repr(disk)
    disk.close()
    assert disk.closed
    assert "closed" in repr(disk)
    with pytest.raises(vhdx.ImageClosedError), disk:
        pass
