"""Open files and disks as things of one process: not copied, not used by a child process, not forgotten at the end.

A copy would share the descriptor: closing it would close the original's, and the next file that is opened would take
its place. A child process that goes on with a disk of its parent would write from an older state of its tables.
"""

import atexit
import os
import sys
from typing import NoReturn, Protocol
from weakref import WeakSet


class Handle:
    """What stands for something open. Python's ways to copy an object are refused."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse `copy`, `deepcopy`, `pickle` and what is built on them. Raises: TypeError."""
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled, because it stands for an open file; pass its path"
            " instead and open it a second time"
        )


class Inherited(Protocol):
    """What is open when a process splits."""

    def disown(self) -> None:
        """Be closed from now on, with nothing written and no lock released. Called in the child process."""


class Closable(Protocol):
    """What is closed when a program ends."""

    @property
    def name(self) -> str:
        """What to call it in a message."""

    def close(self) -> None:
        """Make everything durable and close the files."""


_inherited: "WeakSet[Inherited]" = WeakSet()
_to_close: "WeakSet[Closable]" = WeakSet()


def disown_in_children(handle: Inherited) -> None:
    """Close a handle in every child process that this one forks."""
    _inherited.add(handle)


def close_at_exit(disk: Closable) -> None:
    """Close a disk when the program ends, as Python does with its own files, unless that has been done."""
    _to_close.add(disk)


def _disown_all() -> None:
    for handle in list(_inherited):
        handle.disown()
    _inherited.clear()
    _to_close.clear()


def _close_all() -> None:
    for disk in list(_to_close):
        try:
            disk.close()
        except Exception as error:
            print(f"vhdx: {disk.name}: closing it at the end of the program failed: {error}", file=sys.stderr)


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
