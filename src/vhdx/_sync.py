"""Where the engine gets its locks from, so that a test can hand in a scheduler of its own."""

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

_PAUSE_SECONDS: Final = 0.001


class Mutex(Protocol):
    """What the engine uses of `threading.Lock`."""

    def __enter__(self) -> bool:
        """Acquire."""
        ...

    def __exit__(self, kind: Any, error: Any, traceback: Any, /) -> object:
        """Release."""
        ...


class Sync(Protocol):
    """Makes mutexes, and waits."""

    def lock(self) -> Mutex:
        """A new mutex."""
        ...

    def wait_until(self, is_so: Callable[[], bool], /) -> None:
        """Let other threads go on until something is so."""
        ...


class _Threads:
    def lock(self) -> Mutex:
        return threading.Lock()

    def wait_until(self, is_so: Callable[[], bool], /) -> None:
        # Looked at again and again: nobody who ends an operation has to tell, so that no word of it can be lost.
        while not is_so():
            time.sleep(_PAUSE_SECONDS)


THREADS: Sync = _Threads()
"""The threading module's."""
