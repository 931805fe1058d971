"""Threads of one connection for requests that take long, so that the requests behind them do not wait.

Each connection has its own threads: a client that takes no replies holds up itself alone.

Flushes that wait for a worker become one task: one flush of the device, begun after all of them have arrived,
answers them all.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Final

from vhdx.nbd.channel import ChannelError
from vhdx.nbd.protocol.constants import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from vhdx.nbd.ending import Ending
    from vhdx.nbd.protocol.transmission import Request

MAX_THREADS: Final = 4
MAX_WAITING: Final = 16
"""Tasks that were submitted and are not finished; with so many `submit` waits, and the connection with it."""
MAX_FLUSHES: Final = 64
"""Flushes in one task."""
_FLUSH: Final = int(Command.FLUSH)


class Task:
    """Requests that are done in one go: a single one, or several flushes."""

    __slots__ = ("payload", "requests", "started")

    def __init__(self, request: Request, payload: bytearray | None, started: float) -> None:
        """`payload`: what a write writes. `started`: when the request was taken up, as `Answers.clock` told."""
        self.requests = [request]
        self.payload = payload
        self.started = started


class RequestWorkers:
    """Does tasks, at most MAX_THREADS at a time. A thread is started when it is needed."""

    def __init__(self, name: str, serve: Callable[[Task], object], ending: Ending) -> None:
        """`serve` does one task. If it raises, the connection ends: part of a reply may have been sent."""
        self._name = name
        self._serve = serve
        self._ending = ending
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._unfinished = 0
        self._open_flush: Task | None = None
        """The newest task of flushes, while no worker has begun it: more flushes can join it."""

    @property
    def are_busy(self) -> bool:
        """Whether `submit` may wait."""
        return self._unfinished >= MAX_WAITING

    def submit(self, task: Task) -> None:
        """Have a task done. Waits while too many are unfinished. For one thread only."""
        is_flush = task.requests[0].command == _FLUSH
        with self._changed:
            if is_flush and self._open_flush is not None and len(self._open_flush.requests) < MAX_FLUSHES:
                self._open_flush.requests += task.requests
                return
            while self._unfinished >= MAX_WAITING:
                self._changed.wait()
            self._unfinished += 1
            needs_thread = len(self._threads) < min(self._unfinished, MAX_THREADS)
            if is_flush:
                self._open_flush = task
        if needs_thread:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._tasks.put(task)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            if task is self._open_flush:
                with self._changed:
                    self._open_flush = None
            try:
                self._serve(task)
            except ChannelError as error:
                self._ending.break_off(error)
            except BaseException:
                self._ending.break_off()
                raise
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
