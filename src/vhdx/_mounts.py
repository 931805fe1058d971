"""What is mounted where, as Linux tells this process. Other systems tell nothing: every answer is then empty."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOUNTINFO: Final = "/proc/self/mountinfo"
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


class MountPoint(NamedTuple):
    """One line of proc_pid_mountinfo(5)."""

    place: str
    """The directory or the file that is mounted over."""
    kind: str
    """Of file system: `ext4`, `fuse.vhdx`."""
    source: str
    """The device's path, mostly; for some file systems any text."""


def mount_points() -> Iterator[MountPoint]:
    """Everything that is mounted; of several mounts at one place the topmost comes last."""
    try:
        with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        before, _, after = (part.split(" ") for part in line.partition(" - "))
        if len(before) > 4 and len(after) > 1:
            yield MountPoint(_unescape(before[4]), after[0], _unescape(after[1]))


def is_mount_point(path: str) -> bool:
    """Whether something is mounted at a path: a directory, or a file that another file is mounted over."""
    real = os.path.realpath(path)
    return any(mount.place == real for mount in mount_points())


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
