"""Threads of one connection for what takes long, so that the requests behind it do not wait.

Each connection has its own: a client that takes no replies blocks nobody else's.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_THREADS: Final = 4
MAX_WAITING: Final = 16
"""Tasks given out and not finished; then `submit` waits, and with it the connection."""


class Workers:
    """Runs tasks, at most MAX_THREADS at a time. Threads are started when they are needed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._unfinished = 0

    @property
    def are_busy(self) -> bool:
        """Whether `submit` would wait."""
        return self._unfinished >= MAX_WAITING

    def submit(self, task: Callable[[], object]) -> None:
        """Have a task run; it must not raise. Waits while too many are unfinished. For one thread only."""
        with self._changed:
            while self._unfinished >= MAX_WAITING:
                self._changed.wait()
            self._unfinished += 1
            wanted = self._unfinished > len(self._threads)
        if wanted and len(self._threads) < MAX_THREADS:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._tasks.put(task)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            finally:
                with self._changed:
                    self._unfinished -= 1
                    self._changed.notify_all()

    def close(self) -> None:
        """Wait for everything that was submitted, and end the threads."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
