"""What block devices stand on, and where they are mounted, as Linux tells in /sys and /proc.

Other systems tell nothing: every answer is then empty.
"""

import os
from collections.abc import Iterator
from typing import Final

from vhdx._mounts import mount_points
from vhdx._processes import Identity, identity_of, read_text

_BY_NUMBER: Final = "/sys/dev/block"
_ALL: Final = "/sys/block"


def is_part_of(one: Identity, other: Identity) -> bool:
    """Whether writing to one file or device changes what the other holds.

    So it is for a device and the file or the disk that it stands on: a loop device and its file, a partition and
    its disk, a mapped device and those below it.
    """
    return one == other or one in foundations(other) or other in foundations(one)


def foundations(identity: Identity) -> set[Identity]:
    """Files and devices that a block device stands on, directly or not; nothing for a regular file."""
    found: set[Identity] = set()
    waiting = [identity]
    while waiting:
        for below in _directly_below(waiting.pop()):
            if below not in found:
                found.add(below)
                waiting.append(below)
    return found


def loop_devices_on(identity: Identity) -> list[str]:
    """Loop devices whose content is a file."""
    return [
        f"/dev/{name}"
        for name in _names(_ALL)
        if name.startswith("loop") and _backing_file(f"{_ALL}/{name}") == identity
    ]


def places_mounted_for_writing(device: int) -> list[str]:
    """Where file systems are mounted, for writing, that lie on a device with this number (`st_rdev`).

    They may lie on one of its partitions, or on a device that is mapped onto it.
    """
    devices, waiting = {device}, [device]
    while waiting:
        above = set(_directly_above(waiting.pop())) - devices
        devices |= above
        waiting += above
    return [
        mount.place
        for mount in mount_points()
        if not mount.is_read_only and not devices.isdisjoint((mount.device, _number_at(mount.source)))
    ]


def _directly_below(identity: Identity) -> Iterator[Identity]:
    device, inode = identity
    if inode:  # a file
        return
    folder = _folder(device)
    backing = _backing_file(folder)
    if backing is not None:
        yield backing
    if os.path.exists(f"{folder}/partition"):
        yield from ((number, 0) for number in _number_in(os.path.realpath(f"{folder}/..")))
    for name in _names(f"{folder}/slaves"):
        yield from ((number, 0) for number in _number_in(f"{folder}/slaves/{name}"))


def _directly_above(device: int) -> Iterator[int]:
    folder = _folder(device)
    for name in _names(folder):
        if os.path.exists(f"{folder}/{name}/partition"):
            yield from _number_in(f"{folder}/{name}")
    for name in _names(f"{folder}/holders"):
        yield from _number_in(f"{folder}/holders/{name}")


def _folder(device: int) -> str:
    return os.path.realpath(f"{_BY_NUMBER}/{os.major(device)}:{os.minor(device)}")


def _number_in(folder: str) -> Iterator[int]:
    """The number of the device that a folder of /sys describes, if it describes one."""
    major, colon, minor = read_text(f"{folder}/dev").strip().partition(":")
    if colon:
        yield os.makedev(int(major), int(minor))


def _number_at(path: str) -> int | None:
    """The number of the device at a path; None if there is none."""
    identity = identity_of(path) if path.startswith("/") else None
    return identity[0] if identity is not None and not identity[1] else None


def _backing_file(folder: str) -> Identity | None:
    """The file that is a loop device's content."""
    path = read_text(f"{folder}/loop/backing_file").rstrip("\n")
    return identity_of(path) if path else None


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
