"""`vhdx mount` and `vhdx unmount` where nothing can be mounted: one line that says what to install or to change."""

import errno
import os
import sys
from pathlib import Path

import pytest

from support.command import Vhdx
from support.mounting import need_fuse
from vhdx.fuse import requirements
from vhdx.fuse.unmounting import is_mounted

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the advice is for Linux")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "mount"
    directory.mkdir()
    return directory


@pytest.fixture
def _device(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if /dev/fuse could be opened."""
    refuse_device(monkeypatch, None)


def refuse_device(monkeypatch: pytest.MonkeyPatch, code: int | None) -> None:
    """Open a harmless file instead of /dev/fuse, or fail to."""
    real = os.open

    def opened(path: str, flags: int, *rest: int, **named: int) -> int:
        if path != "/dev/fuse":
            return real(path, flags, *rest, **named)
        if code is not None:
            raise OSError(code, os.strerror(code), path)
        return real(os.devnull, flags)

    monkeypatch.setattr(os, "open", opened)


@pytest.mark.usefixtures("_device")
def test_missing_extra_says_what_to_install(
    vhdx: Vhdx, image: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    monkeypatch.delitem(sys.modules, "vhdx.fuse.binding", raising=False)
    monkeypatch.delattr(sys.modules["vhdx.fuse"], "binding", raising=False)
    monkeypatch.setattr(requirements, "find_helper", lambda: "/usr/bin/fusermount3")
    outcome = vhdx("mount", image, place)
    assert outcome.code == 1
    assert outcome.error_line == (
        "vhdx: mounting needs the package mfusepy; install it: pip install 'vhdx[fuse]'"
    )


@pytest.mark.interop
def test_missing_library_says_what_to_install(vhdx_process: Vhdx, image: Path, place: Path) -> None:
    need_fuse()
    outcome = vhdx_process("mount", image, place, FUSE_LIBRARY_PATH="/absent/libfuse3.so")
    assert outcome.code == 1
    assert "apt install fuse3" in outcome.error_line


@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOENT, "modprobe fuse"), (errno.EACCES, "cannot be opened: Permission denied")],
)
def test_missing_device_says_what_to_do(
    vhdx: Vhdx, image: Path, place: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    refuse_device(monkeypatch, code)
    outcome = vhdx("mount", image, place)
    assert outcome.code == 1
    assert "/dev/fuse" in outcome.error_line
    assert advice in outcome.error_line


@pytest.mark.usefixtures("_device")
def test_missing_helper_says_what_to_install(
    vhdx: Vhdx, image: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(requirements, "find_helper", lambda: None)
    outcome = vhdx("mount", image, place)
    assert outcome.code == 1
    assert outcome.error_line == "vhdx: mounting as a user needs fusermount3; install it: apt install fuse3"


def test_directory_is_judged_before_anything_else(vhdx: Vhdx, image: Path, tmp_path: Path) -> None:
    for directory, complaint in (
        (tmp_path / "absent", "there is no such directory; make it first: mkdir"),
        (image, "not a directory"),
        (tmp_path, "it is not empty"),
    ):
        outcome = vhdx("mount", image, directory)
        assert outcome.code == 1
        assert complaint in outcome.error_line


def test_unmounting_where_nothing_is_mounted(vhdx: Vhdx, place: Path) -> None:
    outcome = vhdx("unmount", place)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.error_line == f"vhdx: {place}: nothing is mounted there"


def test_nothing_is_mounted_where_the_system_cannot_tell_dead_mounts(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(os, "statvfs")
    assert not is_mounted(str(place))


def test_force_share_does_not_go_with_writing(
    vhdx: Vhdx, image: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vhdx.cli.commands.mount.check_fuse", lambda: None)
    outcome = vhdx("mount", "--foreground", "--read-write", "--force-share", image, place)
    assert outcome.code == 1
    assert "two writers would destroy the image" in outcome.error_line
