"""Where the engine gets its locks from, so that a test can hand in a scheduler of its own."""

import threading
from typing import Any, Protocol, cast


class Mutex(Protocol):
    """What the engine uses of `threading.Lock`."""

    def __enter__(self) -> bool:
        """Acquire."""
        ...

    def __exit__(self, kind: Any, error: Any, traceback: Any, /) -> object:
        """Release."""
        ...


class Condition(Protocol):
    """What the engine uses of `threading.Condition`; its mutex is held around every call."""

    def wait(self) -> object:
        """Give up the mutex until notified; may return without."""
        ...

    def notify_all(self) -> None:
        """Wake everybody who waits."""
        ...


class Sync(Protocol):
    """Makes mutexes and conditions."""

    def lock(self) -> Mutex:
        """A new mutex."""
        ...

    def condition(self, lock: Mutex) -> Condition:
        """A new condition of a mutex that `lock` made."""
        ...


class _Threads:
    def lock(self) -> Mutex:
        return threading.Lock()

    def condition(self, lock: Mutex) -> Condition:
        return threading.Condition(cast("threading.Lock", lock))


THREADS: Sync = _Threads()
"""The threading module's."""
