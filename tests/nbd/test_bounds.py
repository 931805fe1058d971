"""Memory and threads of a server: bounded, and given back."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from vhdx.nbd.budget import Budget, Share
from vhdx.nbd.workers import MAX_THREADS, MAX_WAITING, Workers

GUARD_SECONDS = 20


def no_way() -> None:
    raise AssertionError("nobody has to give way here")


def test_who_wants_more_than_is_left_waits_until_it_is_given_back() -> None:
    budget = Budget(100)
    share, other = budget.share(no_way), budget.share(no_way)
    share.acquire(80)
    assert not other.try_acquire(30)
    done = threading.Event()

    def want() -> None:
        with other.taken(30):
            done.set()

    thread = threading.Thread(target=want)
    thread.start()
    while not budget.is_contended:
        pass
    assert not done.is_set()
    share.release(80)
    assert done.wait(GUARD_SECONDS)
    thread.join(GUARD_SECONDS)
    assert budget.used == 0
    assert not budget.is_contended


def test_who_came_first_is_served_first() -> None:
    budget = Budget(100)
    share, large, small = (budget.share(no_way) for _ in range(3))
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
    share = Budget(100).share(no_way)
    assert share.try_acquire(1000)
    assert not share.try_acquire(1)
    share.release(1000)
    assert share.try_acquire(1)


def test_a_buffer_is_given_back_when_its_use_fails() -> None:
    budget = Budget(100)
    try:
        with budget.share(no_way).taken(60):
            raise ValueError
    except ValueError:
        pass
    assert budget.used == 0


def test_who_waits_for_its_client_longest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for the device, and one whose client comes to an end, stay."""
    monkeypatch.setattr("vhdx.nbd.budget.PATIENCE_SECONDS", 0.1)
    budget = Budget(100)
    busy, wanting = budget.share(no_way), budget.share(no_way)

    def give_way() -> None:
        threading.Thread(target=slow.release, args=(60,)).start()

    slow = budget.share(give_way)
    busy.acquire(30)
    slow.acquire(60)
    with slow.waiting_for_client():
        wanting.acquire(50)
    assert (busy.held, slow.held, wanting.held) == (30, 0, 50)


def test_nobody_gives_way_while_nobody_else_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vhdx.nbd.budget.PATIENCE_SECONDS", 0.0)
    budget = Budget(100)
    share, other = budget.share(no_way), budget.share(no_way)
    share.acquire(60)
    with share.waiting_for_client():
        other.acquire(40)
        other.release(40)
        assert not other.try_acquire(50)


def test_workers_do_everything_that_was_submitted_before_they_end() -> None:
    workers = Workers("test")
    done: set[int] = set()
    for number in range(100):
        workers.submit(partial(done.add, number))
    workers.close()
    assert done == set(range(100))


def test_submitting_waits_when_too_much_is_unfinished() -> None:
    workers = Workers("test")
    go_on = threading.Event()
    running: list[str] = []

    def work() -> None:
        running.append(threading.current_thread().name)
        go_on.wait(GUARD_SECONDS)

    for _ in range(MAX_WAITING):
        workers.submit(work)
    assert workers.are_busy
    submitted = threading.Event()

    def submit_more() -> None:
        workers.submit(lambda: None)
        submitted.set()

    thread = threading.Thread(target=submit_more)
    thread.start()
    assert not submitted.wait(0.2)
    assert len(running) <= MAX_THREADS
    go_on.set()
    assert submitted.wait(GUARD_SECONDS)
    thread.join(GUARD_SECONDS)
    workers.close()


def test_a_task_that_fails_does_not_stop_the_others() -> None:
    workers = Workers("test")
    seen: list[object] = []
    hook, threading.excepthook = threading.excepthook, lambda info: seen.append(info.exc_type)
    try:
        workers.submit(lambda: 1 / 0)
        workers.close()
    finally:
        threading.excepthook = hook
    assert seen == [ZeroDivisionError]
