"""Real threads of which exactly one runs at a time, and which one is decided by a test.

    scheduler = Scheduler(seeded(7))
    store = RecordingStore(image, checkpoint=scheduler.checkpoint)
    device = subject.open(store, scheduler)
    scheduler.run(lambda: device.pwrite(b"...", 0), device.flush)

Another thread may go on at every call of the store and at every operation on a lock that the scheduler made. The
same decisions give the same run. Threads that wait for each other for ever end with DeadlockError, and the
decisions that led there are in `decisions`.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from vhdx._sync import Mutex

PATIENCE_SECONDS: Final = 120.0
"""How long a run may take in all. One that takes longer has a thread that waits for something else than its turn."""

Chooser = Callable[[int | None, Sequence[int]], int]
"""Says which thread goes on: (the one that ran, if it can go on; all that can) to one of them."""


class DeadlockError(Exception):
    """No thread can go on."""


class SchedulerStuckError(Exception):
    """A thread waits for something that the scheduler does not know."""


class _AbortedError(BaseException):
    """Unwinds the threads of a run that has been given up."""


class Decision(NamedTuple):
    """A moment at which another thread might have gone on."""

    label: str
    current: int | None
    """The thread that ran; None if it cannot go on."""
    enabled: tuple[int, ...]
    chosen: int


class _Thread:
    def __init__(self, index: int) -> None:
        self.index = index
        self.turn = threading.Semaphore(0)
        self.blocked: Callable[[], bool] | None = None
        self.ended = False

    @property
    def enabled(self) -> bool:
        return not self.ended and (self.blocked is None or not self.blocked())


class Scheduler:
    """Makes locks and waits (as `vhdx._sync.Sync`), and runs threads one at a time."""

    def __init__(self, choose: Chooser) -> None:
        self.decisions: list[Decision] = []
        self._choose = choose
        self._threads: list[_Thread] = []
        self._by_ident: dict[int, _Thread] = {}
        self._finished = threading.Event()
        self._given_up: BaseException | None = None
        self._errors: dict[int, BaseException] = {}

    def lock(self) -> Mutex:
        """A new mutex."""
        return CooperativeLock(self)

    def checkpoint(self, label: str) -> None:
        """Let another thread go on, or not. Does nothing in a thread that the scheduler does not run."""
        thread = self.current
        if thread is not None:
            self._switch(thread, label)

    @property
    def current(self) -> _Thread | None:
        """The calling thread, if it is one of those that are run."""
        return self._by_ident.get(threading.get_ident())

    def wait_until(self, is_free: Callable[[], bool], /, label: str = "wait") -> None:
        """Let others go on until something is so. Raises: DeadlockError where nobody can bring it about."""
        thread = self.current
        if thread is None:
            if not is_free():
                raise DeadlockError(f"{label} outside a run would never end")
            return
        while not is_free():
            thread.blocked = lambda: not is_free()
            self._switch(thread, label)
            thread.blocked = None

    def run(self, *programs: Callable[[], object]) -> None:
        """Run programs, a thread each, to their ends.

        Raises: what the first of them raised; DeadlockError; SchedulerStuckError.
        """
        self._threads = [_Thread(index) for index in range(len(programs))]
        self._finished.clear()
        self._errors.clear()
        workers = [
            threading.Thread(target=self._work, args=(thread, program), daemon=True)
            for thread, program in zip(self._threads, programs, strict=True)
        ]
        for worker in workers:
            worker.start()
        self._next(None, "start")
        if not self._finished.wait(PATIENCE_SECONDS):
            self._give_up(
                SchedulerStuckError("a thread waits for something that the scheduler does not know")
            )
        for worker in workers:
            worker.join(1.0)
        self._by_ident.clear()
        if self._given_up is not None:
            raise self._given_up
        for index in sorted(self._errors):
            raise self._errors[index]

    def _work(self, thread: _Thread, program: Callable[[], object]) -> None:
        self._by_ident[threading.get_ident()] = thread
        thread.turn.acquire()
        try:
            if self._given_up is None:
                program()
        except _AbortedError:
            pass
        except BaseException as error:  # it is raised again by `run`
            self._errors[thread.index] = error
        thread.ended = True
        if self._given_up is None:
            self._next(thread, "end")

    def _switch(self, thread: _Thread, label: str) -> None:
        if self._given_up is not None:
            raise _AbortedError
        chosen = self._decide(thread, label)
        if chosen is None or chosen is thread:
            return
        chosen.turn.release()
        thread.turn.acquire()
        if self._given_up is not None:
            raise _AbortedError

    def _next(self, thread: _Thread | None, label: str) -> None:
        """Let somebody go on in place of a thread that has ended."""
        if all(other.ended for other in self._threads):
            self._finished.set()
            return
        try:
            chosen = self._decide(thread, label)
        except _AbortedError:
            return
        if chosen is not None:
            chosen.turn.release()

    def _decide(self, thread: _Thread | None, label: str) -> _Thread | None:
        enabled = tuple(other.index for other in self._threads if other.enabled)
        if not enabled:
            last = "; ".join(str(decision) for decision in self.decisions[-4:])
            self._give_up(DeadlockError(f"no thread can go on after {label}; before it: {last}"))
            raise _AbortedError
        current = thread.index if thread is not None and thread.enabled else None
        chosen = enabled[0] if len(enabled) == 1 else self._choose(current, enabled)
        self.decisions.append(Decision(label, current, enabled, chosen))
        return self._threads[chosen]

    def _give_up(self, error: BaseException) -> None:
        self._given_up = error
        for thread in self._threads:
            thread.turn.release()
        self._finished.set()

    @property
    def given_up(self) -> bool:
        """Whether the run is being unwound."""
        return self._given_up is not None


class CooperativeLock:
    """A mutex of a scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held = False

    def acquire(self) -> bool:
        """Take it, when it is free."""
        self._scheduler.checkpoint("acquire")
        self._scheduler.wait_until(lambda: not self._held, "acquire")
        self._held = True
        return True

    def release(self) -> None:
        """Give it back."""
        if not self._held and not self._scheduler.given_up:
            raise RuntimeError("a mutex was released that nobody held")
        self._held = False
        self._scheduler.checkpoint("release")

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
