"""Which programs use a mount, as far as Linux tells: for the message that something is busy.

Only root can look at the processes of other users, so an empty answer does not mean that nothing is used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vhdx._mounts import MountPoint, mount_points
from vhdx._processes import holder, identity_of, listed, open_files, processes, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["find_mount", "listed", "servers_of_mount", "users_of_mount"]

_LOOPS: Final = Path("/sys/block")


def users_of_mount(directory: str) -> list[str]:
    """Loop devices and processes that use what is mounted at a directory, with what each of them uses."""
    inside = directory.rstrip("/") + "/"

    def belongs(path: str) -> bool:
        return path == directory or path.startswith(inside)

    found = [*_loop_devices(belongs), *_mounts_below(inside)]
    for pid in _other_processes():
        uses = sorted({path for path in _paths_in_use(pid) if belongs(path)})
        if uses:
            found.append(f"{holder(pid)} uses {', '.join(uses[:3])}")
    return found


def servers_of_mount(image: str) -> list[int]:
    """Process ids of those that have an image open and serve a FUSE file system."""
    wanted, fuse = identity_of(image), identity_of("/dev/fuse")
    if wanted is None or fuse is None:
        return []
    return [pid for pid in _other_processes() if {wanted, fuse} <= set(open_files(pid).values())]


def find_mount(directory: str) -> tuple[str, str] | None:
    """Kind and source of what is mounted at a directory, the topmost if there are several; None: nothing is."""
    found = [(mount.kind, mount.source) for mount in mount_points() if mount.place == directory]
    return found[-1] if found else None


def _loop_devices(belongs: Callable[[str], bool]) -> Iterator[str]:
    for loop in sorted(_LOOPS.glob("loop*")):
        backing = read_text(f"{loop}/loop/backing_file").rstrip("\n").removesuffix(" (deleted)")
        if not belongs(backing):
            continue
        device = f"/dev/{loop.name}"
        places = [mount.place for mount in mount_points() if _is_on(mount, device)]
        how = f"is mounted at {', '.join(places)}: umount {places[0]}" if places else f"losetup -d {device}"
        detach = f", then losetup -d {device}" if places and not _detaches_itself(loop) else ""
        yield f"{device} stands on {backing} ({how}{detach})"


def _is_on(mount: MountPoint, device: str) -> bool:
    """Whether a loop device or one of its partitions is mounted."""
    return mount.source == device or mount.source.startswith(f"{device}p")


def _detaches_itself(loop: Path) -> bool:
    return read_text(f"{loop}/loop/autoclear").strip() == "1"


def _mounts_below(inside: str) -> Iterator[str]:
    for mount in mount_points():
        if mount.place.startswith(inside):
            yield f"{mount.source} is mounted over {mount.place} (umount {mount.place})"


def _other_processes() -> Iterator[int]:
    own = os.getpid()
    return (pid for pid in processes() if pid != own)


def _paths_in_use(pid: int) -> Iterator[str]:
    process = Path(f"/proc/{pid}")
    for link in (process / "cwd", process / "root", process / "exe", *_children(process / "fd")):
        try:
            yield str(link.readlink())
        except OSError:
            continue
    for line in read_text(f"{process}/maps").splitlines():
        yield line[line.find("/") :] if "/" in line else ""


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
