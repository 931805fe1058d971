"""The process's standard streams, whatever the caller has closed.

A descriptor that is closed would be given to the next file that is opened: an image would become standard input,
and whatever is printed would be written into it. So each of the three is opened before anything else is.
"""

from __future__ import annotations

import os
import sys


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
