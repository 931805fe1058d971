"""A few threads that share one iterator of work, and stop together."""

import threading
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_TICK_SECONDS: Final = 0.1


class Stopped(Exception):  # noqa: N818 - not an error: it unwinds a worker whose fellow has failed
    """Another worker has failed, or the caller wants no more."""


class UnitWorkers(Generic[T]):
    """Does the units of a job on several threads, each unit on one of them."""

    def __init__(self, units: Iterator[T], threads: int, on_stop: Callable[[], None] = lambda: None) -> None:
        """`on_stop` is called after a failure, and has to wake workers that wait for one another."""
        self._units = enumerate(units)
        self._thread_count = max(1, threads)
        self._on_stop = on_stop
        self._lock = threading.Lock()
        self._ended = threading.Condition()
        self._running = 0
        self._failure: BaseException | None = None
        self._must_stop = False

    @property
    def is_stopping(self) -> bool:
        """Whether work that takes long should end by raising Stopped."""
        return self._must_stop

    def run(self, make_work: Callable[[], Callable[[int, T], None]], on_tick: Callable[[], None]) -> None:
        """Do every unit, as `work(number, unit)`, and call `on_tick` on this thread from time to time.

        `make_work` is called once on each thread, so that it can have buffers of its own. When this returns
        or raises, no worker is alive. Raises: what a worker or `on_tick` raised first, KeyboardInterrupt.
        """
        threads = [
            threading.Thread(target=self._work, args=(make_work,), name=f"vhdx-{number}", daemon=True)
            for number in range(self._thread_count)
        ]
        started: list[threading.Thread] = []
        try:
            for thread in threads:
                self._running += 1
                started.append(thread)
                thread.start()
            while self._wait_a_little():
                on_tick()
        except BaseException as error:
            self._stop(error)
            raise
        finally:
            for thread in started:
                _join(thread)
        if self._failure is not None:
            raise self._failure

    def _wait_a_little(self) -> bool:
        """Wait for the next tick; false once no worker is left."""
        with self._ended:
            if self._running:
                self._ended.wait(_TICK_SECONDS)
            return self._running > 0

    def _work(self, make_work: Callable[[], Callable[[int, T], None]]) -> None:
        try:
            work = make_work()
            while not self._must_stop:
                with self._lock:
                    numbered = next(self._units, None)
                if numbered is None:
                    break
                work(*numbered)
        except Stopped:
            pass
        except BaseException as error:  # handed to the caller's thread
            self._stop(error)
        finally:
            with self._ended:
                self._running -= 1
                self._ended.notify_all()

    def _stop(self, error: BaseException) -> None:
        with self._lock:
            if self._failure is None:
                self._failure = error
        self._must_stop = True
        self._on_stop()


def _join(thread: threading.Thread) -> None:
    """Wait for a thread that has been told to stop, even if the user presses Ctrl-C once more.

    The caller closes the files next: the thread must not use their descriptors after that.
    """
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt:
            continue
