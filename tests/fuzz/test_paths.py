"""No file but the image's own, and for chains those of its directory, is opened or looked at."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vhdx
from proof.fuzz.invariants import examine
from vhdx.storage.base import StoreKind, pread_zero_extended
from vhdx.testing import ImageBuilder
from vhdx.testing.hostile import Mutant, base_image
from vhdx.testing.hostile.floods import HOSTILE_PATHS

PATH_KEYS = ("relative_path", "volume_path", "absolute_win32_path")
_opened: list[str] | None = None


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is not None and event in {"open", "os.listdir", "os.scandir", "os.rename", "os.remove"}:
        path = arguments[0]
        if isinstance(path, str | bytes | os.PathLike):
            _opened.append(os.fsdecode(path))


sys.addaudithook(_hook)


@pytest.fixture(scope="module", autouse=True)
def everything_imported() -> None:
    """Modules that are imported late would open files of their own."""
    examine(base_image("dirty-chain").stores)


@contextmanager
def opened_paths() -> Iterator[list[str]]:
    """Collect what is opened, by the names given: those relative to a directory's descriptor are bare names."""
    global _opened  # noqa: PLW0603 - an audit hook cannot be removed, only told to be quiet
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


def assert_inside(paths: list[str], directory: Path) -> None:
    for path in paths:
        is_bare_name = "/" not in path and path not in {".", ".."}
        assert is_bare_name or Path(path) == directory or Path(path).parent == directory, path


def populated(directory: Path) -> Path:
    """A directory with traps: links that lead out of it under the names that hostile paths end with."""
    directory.mkdir(parents=True)
    (directory / "passwd").symlink_to("/etc/passwd")
    (directory / "hostname").symlink_to("../outside/hostname")
    (directory / "full").symlink_to("/dev/full")
    (directory / "SAM").symlink_to("..")
    (directory / "sub").mkdir()
    outside = directory.parent / "outside"
    outside.mkdir(exist_ok=True)
    ImageBuilder(name="parent").write(outside / "hostname")
    return directory


def hostile_children(directory: Path) -> Iterator[Path]:
    parent = ImageBuilder(name="parent")
    for number, text in enumerate([*HOSTILE_PATHS, "sub", "..\\outside\\hostname"]):
        child = ImageBuilder.child_of(parent, paths=dict.fromkeys(PATH_KEYS, text))
        yield child.write(directory / f"child {number}.vhdx")


def use(path: Path) -> None:
    """What a caller may do with a file that was sent by a stranger."""
    try:
        vhdx.Image.open(path).close()
        with vhdx.open(path) as disk:
            disk.pread(min(disk.size, 4096), 0)
    except (vhdx.VhdxError, OSError):
        pass


def write_mutant(mutant: Mutant, directory: Path) -> Path:
    """Put a mutant's files into a directory under the names by which they know each other; return the leaf."""
    for store in mutant.stores:
        with (directory / f"{store.name}.vhdx").open("wb") as file:
            for extent in store.extents(0, store.size()):
                if extent.kind is not StoreKind.HOLE:
                    file.seek(extent.file_offset)
                    file.write(pread_zero_extended(store, extent.length, extent.file_offset))
            file.truncate(min(store.size(), 1 << 40))
    return directory / f"{mutant.stores[0].name}.vhdx"


def test_hostile_locators_open_nothing_outside_the_directory(tmp_path: Path) -> None:
    for path in hostile_children(populated(tmp_path / "disks")):
        with opened_paths() as paths:
            use(path)
        assert str(path) in paths
        assert_inside(paths, path.parent)


def test_hostile_locators_find_no_parent(tmp_path: Path) -> None:
    for path in hostile_children(populated(tmp_path / "disks")):
        with pytest.raises(vhdx.ChainError):
            vhdx.open(path)


@pytest.mark.parametrize("text", [*HOSTILE_PATHS, "x" * 5000])
def test_hostile_locators_below_a_root_stay_in_it(tmp_path: Path, text: str) -> None:
    directory = populated(tmp_path / "disks")
    child = ImageBuilder.child_of(ImageBuilder(name="parent"), paths={"relative_path": text})
    path = child.write(directory / "child.vhdx")
    with opened_paths() as paths, pytest.raises(vhdx.ChainError):
        vhdx.open(path, parents=vhdx.ParentRoot(directory))
    assert_inside(paths, directory)


def test_mutants_on_disk_open_only_their_own_files(tmp_path: Path) -> None:
    for seed in range(40):
        mutant = Mutant(seed, base_image(("chain", "deep-chain", "dirty-chain")[seed % 3]))
        directory = tmp_path / str(seed)
        directory.mkdir()
        path = write_mutant(mutant, directory)
        before = {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in directory.iterdir()}
        with opened_paths() as paths:
            use(path)
        assert_inside(paths, directory)
        assert before == {
            file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in directory.iterdir()
        }
        shutil.rmtree(directory)


_SCRIPT = """
import os, sys
import vhdx, vhdx.disks.chain, vhdx.ops.check
from vhdx.testing import ImageBuilder

def use(path):
    try:
        for finding in vhdx.ops.check.check(path).findings():
            pass
    except (vhdx.VhdxError, OSError):
        pass
    try:
        with vhdx.open(path) as disk:
            disk.pread(4096, 0)
    except (vhdx.VhdxError, OSError):
        pass

paths = sys.argv[1:]
import proof.fuzz.invariants, vhdx.testing.hostile.bases
# Whatever is imported late is imported now.
proof.fuzz.invariants.examine(vhdx.testing.hostile.bases.base_image("dirty-chain").stores)
use(paths[0])
os.access("/traced-from-here", os.F_OK)
for path in paths:
    use(path)
os.access("/traced-up-to-here", os.F_OK)
"""


def traced_paths(paths: list[Path], log: Path) -> list[str]:
    """Every path that a process names to the system while it uses the images, made absolute."""
    command = ["strace", "-f", "-y", "-s", "8192", "-e", "trace=%file", "-o", str(log)]
    result = subprocess.run(
        [*command, sys.executable, "-c", _SCRIPT, *map(str, paths)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "ptrace" in result.stderr or "Operation not permitted" in result.stderr:
        pytest.skip("strace may not trace here")
    assert result.returncode == 0, result.stderr
    lines = [line for line in log.read_text(errors="replace").splitlines() if "execve" not in line]
    (first,) = [at for at, line in enumerate(lines) if "traced-from-here" in line]
    (last,) = [at for at, line in enumerate(lines) if "traced-up-to-here" in line]
    named = []
    for line in lines[first + 1 : last]:
        directory = re.search(r"\((?:AT_FDCWD|\d+)<([^>]*)>, \"", line)
        base = Path(directory[1]) if directory else Path.cwd()
        named += [str(base / text) for text in re.findall(r'"((?:[^"\\]|\\.)*)"', line)[:2]]
    return named


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_hostile_locators_cause_no_system_call_outside_the_directory(tmp_path: Path) -> None:
    directory = populated(tmp_path / "disks")
    paths = list(hostile_children(directory))
    for seed in range(12):
        target = directory / f"mutant {seed}"
        target.mkdir()
        paths.append(write_mutant(Mutant(seed, base_image("deep-chain")), target))
    named = traced_paths(paths, tmp_path / "trace")
    assert any(name == str(paths[3]) for name in named)
    for name in named:
        assert os.path.normpath(name).startswith(str(directory)), name
        assert ".." not in Path(name).parts, name


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_trace_shows_a_path_that_is_only_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ImageBuilder().write(tmp_path / "disk.vhdx")
    looking = _SCRIPT.replace("def use(path):", "def use(path):\n    os.path.exists('/outside/parent.vhdx')")
    monkeypatch.setattr(sys.modules[__name__], "_SCRIPT", looking)
    assert "/outside/parent.vhdx" in traced_paths([path], tmp_path / "trace")
