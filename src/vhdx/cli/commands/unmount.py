"""Unmount a directory that 'vhdx mount' has mounted, and return when the image has been closed.

If the directory is in use, it stays mounted, and the users are named.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from vhdx.cli.options import UsageError, add_image
from vhdx.fuse.holders import find_mount, listed, servers_of_mount, users_of_mount
from vhdx.fuse.mount import SUBTYPE
from vhdx.fuse.unmounting import is_dead, is_mounted, unmount

if TYPE_CHECKING:
    import argparse

    from vhdx.cli.options import Parser

_KINDS: Final = (f"fuse.{SUBTYPE}",)


def add_options(parser: Parser) -> None:
    """Take the directory."""
    add_image(parser, "DIR", "the directory that was mounted at")


def run(options: argparse.Namespace) -> int:
    """Unmount, and wait."""
    directory = os.path.realpath(options.dir)
    source = _source(directory)
    servers = servers_of_mount(source) if source and not is_dead(directory) else []
    try:
        unmount(directory)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        users = listed(users_of_mount(directory)) or "users that cannot be told (root may see more)"
        raise UsageError(f"{directory}: busy: {users}; nothing was unmounted") from None
    _wait_for_any(servers)
    return 0


def _source(directory: str) -> str | None:
    """The image behind a mount of ours, where the system tells. Raises: UsageError if it is none."""
    if not is_mounted(directory):
        raise UsageError(f"{directory}: nothing is mounted there")
    if sys.platform != "linux":
        return None
    found = find_mount(directory)
    if found is None or found[0] not in _KINDS:
        kind = found[0] if found else "not known"
        raise UsageError(f"{directory}: what is mounted there ({kind}) is none of vhdx's; use umount")
    return found[1]


def _wait_for_any(processes: list[int]) -> None:
    """Wait until a process has ended: then its image is closed. Others may have the same image mounted elsewhere."""
    if not processes:
        return
    waiting = select.poll()
    with ExitStack() as opened:
        for process in processes:
            try:
                fd = os.pidfd_open(process)
            except (OSError, AttributeError):
                return
            opened.callback(os.close, fd)
            waiting.register(fd, select.POLLIN)
        waiting.poll()
