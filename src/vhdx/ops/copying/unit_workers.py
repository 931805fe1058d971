"""A few threads that share one iterator of work, and stop together."""

import threading
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_TICK_SECONDS: Final = 0.1


class Stopped(Exception):  # noqa: N818 - not an error: it unwinds a worker whose fellow has failed
    """Another worker has failed, or the caller wants no more."""


class Turns:
    """Lets workers take something in the order of their work's numbers, whoever is ready first.

    Each number is passed exactly once, by `wait` followed by `give_up`, or by `give_up` alone.
    """

    def __init__(self) -> None:
        self._next = 0
        self._passed: set[int] = set()
        self._is_stopped = False
        self._condition = threading.Condition()

    def wait(self, number: int) -> None:
        """Return when every lower number has been passed. Raises: Stopped."""
        with self._condition:
            while self._next < number and not self._is_stopped:
                self._condition.wait()
            if self._is_stopped:
                raise Stopped

    def give_up(self, number: int) -> None:
        """Pass a number; not before the holder has taken what it waited for."""
        with self._condition:
            self._passed.add(number)
            while self._next in self._passed:
                self._passed.remove(self._next)
                self._next += 1
            self._condition.notify_all()

    def stop(self) -> None:
        """Make every `wait`, now and later, raise Stopped."""
        with self._condition:
            self._is_stopped = True
            self._condition.notify_all()


class Workers(Generic[T]):
    """Runs one job after the other on several threads; `is_stopping` is for long jobs to look at."""

    def __init__(self, jobs: Iterator[T], threads: int, turns: Turns) -> None:
        self.turns = turns
        self._jobs = enumerate(jobs)
        self._thread_count = max(1, threads)
        self._lock = threading.Lock()
        self._ended = threading.Condition()
        self._running = 0
        self._failure: BaseException | None = None
        self._must_stop = False

    @property
    def is_stopping(self) -> bool:
        """Whether a job that takes long should end by raising Stopped."""
        return self._must_stop

    def run(self, make_work: Callable[[], Callable[[int, T], None]], on_tick: Callable[[], None]) -> None:
        """Do all jobs, each as `work(number, job)`, and call `on_tick` on this thread from time to time.

        `make_work` is called once on each thread, so that it can have buffers of its own. When this returns
        or raises, no worker is alive. Raises: what a job or `on_tick` raised first, KeyboardInterrupt.
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
                    numbered = next(self._jobs, None)
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
        self.turns.stop()


def _join(thread: threading.Thread) -> None:
    """Wait for a thread that has been told to stop, also if the user presses Ctrl-C once more.

    Its file descriptors are about to be closed: it must not outlive them.
    """
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt:
            continue
