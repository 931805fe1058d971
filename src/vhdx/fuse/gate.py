"""Lets calls through while it is open; once shut, none is inside any more."""

from __future__ import annotations

import errno
import os
from threading import Condition


class Gate:
    """A context manager around each call; see `shut`."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._inside = 0
        self._is_shut = False

    def __enter__(self) -> None:
        """Raises: OSError (ESHUTDOWN) once shut."""
        with self._changed:
            if self._is_shut:
                raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            if self._is_shut and not self._inside:
                self._changed.notify_all()

    def shut(self) -> None:
        """Let nobody in any more, and wait for those inside."""
        with self._changed:
            self._is_shut = True
            self._changed.wait_for(lambda: not self._inside)
