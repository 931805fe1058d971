"""Memory and threads of a server: bounded, and given back."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterable

import pytest

from vhdx.nbd.budget import Budget, Share
from vhdx.nbd.channel import ChannelError, SocketChannel
from vhdx.nbd.ending import Ending
from vhdx.nbd.protocol.constants import Command
from vhdx.nbd.protocol.transmission import Request
from vhdx.nbd.workers import MAX_FLUSHES, MAX_THREADS, MAX_WAITING, RequestWorkers, Task

GUARD_SECONDS = 20


class Kept(Ending):
    """The end of a connection that nobody has a reason to break off."""

    def __init__(self) -> None:
        """Without a channel, which is needed to break off alone."""

    def break_off(self, failure: ChannelError | None = None) -> None:
        raise AssertionError(f"nobody has to give way here, but {failure}")


def task(cookie: int, command: int = Command.TRIM) -> Task:
    return Task(Request(command, 0, cookie, 0, 0, 0), None, 0.0)


def cookies(done: Iterable[Task]) -> list[int]:
    return [request.cookie for each in done for request in each.requests]


def test_who_wants_more_than_is_left_waits_until_it_is_given_back() -> None:
    budget = Budget(100)
    share, other = budget.share(Kept()), budget.share(Kept())
    share.acquire(80)
    assert not other.try_acquire(30)
    done = threading.Event()

    def want() -> None:
        with other.taken(30):
            done.set()

    thread = threading.Thread(target=want)
    thread.start()
    while not budget._line:
        pass
    assert not done.is_set()
    share.release(80)
    assert done.wait(GUARD_SECONDS)
    thread.join(GUARD_SECONDS)
    assert budget.used == 0
    assert not budget._line


def test_who_came_first_is_served_first() -> None:
    budget = Budget(100)
    share, large, small = (budget.share(Kept()) for _ in range(3))
    share.acquire(60)
    served: list[int] = []

    def want(share: Share, size: int) -> None:
        share.acquire(size)
        served.append(size)

    threads = []
    for waiting, (who, size) in enumerate(((large, 90), (small, 10))):
        threads.append(threading.Thread(target=want, args=(who, size)))
        threads[-1].start()
        while len(budget._line) <= waiting:
            pass
    assert not small.try_acquire(1)  # it would fit, and the large one would wait for ever
    share.release(60)
    for thread in threads:
        thread.join(GUARD_SECONDS)
    assert sorted(served) == [10, 90]
    assert budget.used == 100


def test_one_request_for_more_than_there_is_gets_it_alone() -> None:
    share = Budget(100).share(Kept())
    assert share.try_acquire(1000)
    assert not share.try_acquire(1)
    share.release(1000)
    assert share.try_acquire(1)


def test_a_buffer_is_given_back_when_its_use_fails() -> None:
    budget = Budget(100)
    try:
        with budget.share(Kept()).taken(60):
            raise ValueError
    except ValueError:
        pass
    assert budget.used == 0


def test_who_waits_for_its_client_longest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for the device, and one whose client comes to an end, stay."""
    monkeypatch.setattr("vhdx.nbd.budget.PATIENCE_SECONDS", 0.1)
    budget = Budget(100)
    busy, wanting = budget.share(Kept()), budget.share(Kept())

    class BrokenOff(Kept):
        def break_off(self, failure: ChannelError | None = None) -> None:
            assert "held up others" in str(failure)
            threading.Thread(target=slow.release, args=(60,)).start()

    slow = budget.share(BrokenOff())
    busy.acquire(30)
    slow.acquire(60)
    with slow.waiting_for_client():
        wanting.acquire(50)
    assert (busy.held, slow.held, wanting.held) == (30, 0, 50)


def test_nobody_gives_way_while_nobody_else_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vhdx.nbd.budget.PATIENCE_SECONDS", 0.0)
    budget = Budget(100)
    share, other = budget.share(Kept()), budget.share(Kept())
    share.acquire(60)
    with share.waiting_for_client():
        other.acquire(40)
        other.release(40)
        assert not other.try_acquire(50)


# Workers


def test_workers_do_everything_that_was_submitted_before_they_end() -> None:
    done: list[Task] = []
    workers = RequestWorkers("test", done.append, Kept())
    for cookie in range(100):
        workers.submit(task(cookie))
    workers.close()
    assert sorted(cookies(done)) == list(range(100))


def test_submitting_waits_when_too_much_is_unfinished() -> None:
    go_on = threading.Event()
    running: list[str] = []

    def work(_: Task) -> None:
        running.append(threading.current_thread().name)
        go_on.wait(GUARD_SECONDS)

    workers = RequestWorkers("test", work, Kept())
    for cookie in range(MAX_WAITING):
        workers.submit(task(cookie))
    assert workers.are_busy
    submitted = threading.Event()

    def submit_more() -> None:
        workers.submit(task(MAX_WAITING))
        submitted.set()

    thread = threading.Thread(target=submit_more)
    thread.start()
    assert not submitted.wait(0.2)
    assert len(running) <= MAX_THREADS
    go_on.set()
    assert submitted.wait(GUARD_SECONDS)
    thread.join(GUARD_SECONDS)
    workers.close()


def test_a_task_that_fails_ends_the_connection_and_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda info: seen.append(info.exc_type))
    ours, theirs = socket.socketpair()
    ending = Ending(SocketChannel(theirs, "client"))
    done: list[int] = []

    def work(given: Task) -> None:
        done.append(given.requests[0].cookie)
        1 / 0  # noqa: B018 - it is there to fail

    workers = RequestWorkers("test", work, ending)
    workers.submit(task(1))
    workers.submit(task(2))
    workers.close()
    assert (seen, sorted(done)) == ([ZeroDivisionError] * 2, [1, 2])
    ours.settimeout(GUARD_SECONDS)
    assert ours.recv(1) == b""
    ours.close()
    theirs.close()


class HeldWorkers:
    """Workers that begin nothing until they are let go."""

    def __init__(self) -> None:
        self._go_on = threading.Event()
        self.done: list[Task] = []
        self.workers = RequestWorkers("test", self._serve, Kept())
        for _ in range(MAX_THREADS):
            self.workers.submit(task(-1))

    def _serve(self, given: Task) -> None:
        if given.requests[0].command == Command.FLUSH:
            self.done.append(given)
        else:
            assert self._go_on.wait(GUARD_SECONDS)

    def finish(self) -> None:
        self._go_on.set()
        self.workers.close()


def test_flushes_that_wait_for_a_worker_are_done_together_up_to_a_number() -> None:
    held = HeldWorkers()
    for cookie in range(MAX_FLUSHES + 3):
        held.workers.submit(task(cookie, Command.FLUSH))
    assert not held.done
    held.finish()
    together = sorted((cookies([each]) for each in held.done), key=len)
    assert together == [list(range(MAX_FLUSHES, MAX_FLUSHES + 3)), list(range(MAX_FLUSHES))]


def test_flush_that_comes_after_another_one_has_begun_is_begun_after_it() -> None:
    began, go_on = threading.Event(), threading.Event()
    done: list[Task] = []

    def flush(given: Task) -> None:
        taken = cookies([given])
        began.set()
        assert go_on.wait(GUARD_SECONDS)
        assert cookies([given]) == taken
        done.append(given)

    workers = RequestWorkers("test", flush, Kept())
    workers.submit(task(1, Command.FLUSH))
    assert began.wait(GUARD_SECONDS)
    workers.submit(task(2, Command.FLUSH))
    go_on.set()
    workers.close()
    assert sorted(cookies([each]) for each in done) == [[1], [2]]


@pytest.mark.parametrize("seed", range(20))
def test_every_flush_is_done_once_whatever_comes_between(seed: int) -> None:
    rng = random.Random(seed)
    done: list[Task] = []
    workers = RequestWorkers("test", done.append, Kept())
    for cookie in range(1000):
        workers.submit(task(cookie, rng.choice((Command.FLUSH, Command.FLUSH, Command.TRIM))))
    workers.close()
    assert sorted(cookies(done)) == list(range(1000))
    assert max(len(each.requests) for each in done) <= MAX_FLUSHES
