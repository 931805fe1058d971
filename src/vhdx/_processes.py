"""Which processes have a file open, as Linux tells in /proc. Other systems tell nothing: every answer is then empty.

What belongs to other users can be looked at by root only, so that an empty answer does not mean nobody.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from vhdx._holder import Holder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Identity = tuple[int, int]
"""Device and inode of a file; a block device's number and 0."""

_PROC: Final = "/proc"
_MAX_LISTED: Final = 8


def listed(users: Sequence[object]) -> str:
    """Users as one text for a message, the first few of them."""
    rest = len(users) - _MAX_LISTED
    return "; ".join(map(str, users[:_MAX_LISTED])) + (f"; and {rest} more" if rest > 0 else "")


def processes() -> Iterator[int]:
    """Every process, in no order. To be called in a process that may look at itself: it is one of them."""
    try:
        names = os.listdir(_PROC)
    except OSError:
        return
    yield from (int(name) for name in names if name.isdigit())


def holder(pid: int) -> Holder:
    """A process with its name."""
    return Holder(pid, read_text(f"{_PROC}/{pid}/comm").strip())


def open_files(pid: int) -> dict[int, Identity]:
    """Every open descriptor of a process, and the file that it leads to."""
    found = {}
    folder = f"{_PROC}/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    for name in names:
        identity = identity_of(f"{folder}/{name}")
        if identity is not None:
            found[int(name)] = identity
    return found


def lockers_of_file(identity: Identity, *, except_for: int | None = None) -> list[Holder]:
    """Processes that hold a lock on a file; if no lock can be seen, all that have the file open.

    In this process, a descriptor `except_for` is not counted.
    """
    lockers, users = [], []
    for pid in processes():
        descriptors = _descriptors(pid, identity, except_for)
        if descriptors:
            users.append(pid)
        if any("lock:" in read_text(f"{_PROC}/{pid}/fdinfo/{fd}") for fd in descriptors):
            lockers.append(pid)
    return [holder(pid) for pid in lockers or users]


def writers_of_file(identity: Identity) -> list[Holder]:
    """Other processes that have a file open for writing, whether they lock it or not."""
    own = os.getpid()
    return [
        holder(pid)
        for pid in processes()
        if pid != own and any(_may_write(pid, fd) for fd in _descriptors(pid, identity, None))
    ]


def _may_write(pid: int, fd: int) -> bool:
    for line in read_text(f"{_PROC}/{pid}/fdinfo/{fd}").splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False


def _descriptors(pid: int, identity: Identity, except_for: int | None) -> list[int]:
    """The descriptors by which a process has a file open."""
    ignored = except_for if pid == os.getpid() else None
    return [fd for fd, file in open_files(pid).items() if file == identity and fd != ignored]


def identity_of(path: str) -> Identity | None:
    """What a path leads to; None if it cannot be asked."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return (status.st_rdev, 0) if stat.S_ISBLK(status.st_mode) else (status.st_dev, status.st_ino)


def read_text(path: str) -> str:
    """Content of a small file of the system; empty if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return ""
