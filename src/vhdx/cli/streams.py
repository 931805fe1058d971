"""The process's standard streams, which belong to the command, not to the library.

A descriptor that is closed would be given to the next file that is opened: an image would become standard input,
and whatever is printed would be written into it. So each of the three is opened before anything else is.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def open_closed_streams() -> None:
    """Open what is closed of descriptors 0 to 2. Input is then empty, output fails (EBADF), complaints are lost."""
    # In ascending order: each call takes the lowest descriptor that is free.
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)
            if descriptor:
                name = "stdout" if descriptor == 1 else "stderr"
                setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8", closefd=False))


def forget_output() -> None:
    """Let the interpreter's last flush of standard output succeed: the error that it would meet has been reported."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@contextmanager
def collected_stderr() -> Iterator[Callable[[], str]]:
    """Collect what any code of this process, and its children, write to descriptor 2 until the block ends.

    The function that the block is given returns it, once the block has ended.
    """
    import tempfile

    collected = bytearray()
    with tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: collected.decode(errors="replace")
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            collected += file.read()
