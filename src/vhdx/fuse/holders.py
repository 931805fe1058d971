"""Which programs use a mount or an image, as far as Linux tells: for the message that something is busy.

Only root can look at the processes of other users, so an empty answer does not mean that nothing is used.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_LISTED: Final = 8

_PROC: Final = Path("/proc")
_LOOPS: Final = Path("/sys/block")
_MOUNTINFO: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def users_of_mount(directory: str) -> list[str]:
    """Loop devices and processes that use what is mounted at a directory, with what each of them uses."""
    inside = directory.rstrip("/") + "/"

    def belongs(path: str) -> bool:
        return path == directory or path.startswith(inside)

    found = [*_loop_devices(belongs), *_mounts_below(inside)]
    for process in _processes():
        uses = sorted({path for path in _paths_in_use(process) if belongs(path)})
        if uses:
            found.append(f"{_name(process)} uses {', '.join(uses[:3])}")
    return found


def users_of_file(path: str) -> list[str]:
    """Names of the processes, other than this one, that have a file open."""
    wanted = _identity(path)
    if wanted is None:
        return []
    return [_name(process) for process in _processes() if wanted in _open_files(process)]


def servers_of_mount(image: str) -> list[int]:
    """Process ids of those that have an image open and serve a FUSE file system."""
    wanted = _identity(image)
    if wanted is None:
        return []
    fuse = _identity("/dev/fuse")
    return [int(process.name) for process in _processes() if {wanted, fuse} <= _open_files(process)]


def find_mount(directory: str) -> tuple[str, str] | None:
    """Type and source of the mount at a directory, the topmost if there are several; None if there is none."""
    found = [(mount.kind, mount.source) for mount in _mounts() if mount.place == directory]
    return found[-1] if found else None


def listed(users: list[str]) -> str:
    """The first few users, as a text for a message."""
    rest = len(users) - MAX_LISTED
    return "; ".join(users[:MAX_LISTED]) + (f"; and {rest} more" if rest > 0 else "")


def _loop_devices(belongs: Callable[[str], bool]) -> Iterator[str]:
    for loop in sorted(_LOOPS.glob("loop*")):
        backing = _text(loop / "loop" / "backing_file").rstrip("\n").removesuffix(" (deleted)")
        if not belongs(backing):
            continue
        device = f"/dev/{loop.name}"
        places = [
            mount.place
            for mount in _mounts()
            if mount.source == device or mount.source.startswith(f"{device}p")
        ]
        how = f"is mounted at {', '.join(places)}: umount {places[0]}" if places else f"losetup -d {device}"
        detach = f", then losetup -d {device}" if places and not _detaches_itself(loop) else ""
        yield f"{device} stands on {backing} ({how}{detach})"


def _detaches_itself(loop: Path) -> bool:
    return _text(loop / "loop" / "autoclear").strip() == "1"


def _mounts_below(inside: str) -> Iterator[str]:
    for mount in _mounts():
        if mount.place.startswith(inside):
            yield f"{mount.source} is mounted over {mount.place} (umount {mount.place})"


class _MountPoint(NamedTuple):
    place: str
    kind: str
    source: str


def _mounts() -> Iterator[_MountPoint]:
    for line in _text(_MOUNTINFO).splitlines():
        before, _, after = (part.split(" ") for part in line.partition(" - "))
        if len(before) > 4 and len(after) > 1:
            yield _MountPoint(_unescape(before[4]), after[0], _unescape(after[1]))


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def _processes() -> Iterator[Path]:
    own = str(os.getpid())
    try:
        names = os.listdir(_PROC)
    except OSError:
        return
    for name in names:
        if name.isdigit() and name != own:
            yield _PROC / name


def _paths_in_use(process: Path) -> Iterator[str]:
    for link in (process / "cwd", process / "root", process / "exe", *_children(process / "fd")):
        try:
            yield str(link.readlink())
        except OSError:
            continue
    for line in _text(process / "maps").splitlines():
        yield line[line.find("/") :] if "/" in line else ""


def _open_files(process: Path) -> set[tuple[int, int] | None]:
    return {_identity(link) for link in _children(process / "fd")}


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _name(process: Path) -> str:
    return f"{_text(process / 'comm').strip() or 'a process'} (process {process.name})"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
