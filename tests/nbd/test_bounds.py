"""Memory and threads of a server: bounded, and given back."""

from __future__ import annotations

import threading
from functools import partial

from vhdx.nbd.budget import Budget
from vhdx.nbd.workers import MAX_THREADS, MAX_WAITING, Workers

GUARD_SECONDS = 20


def test_who_wants_more_than_is_left_waits_until_it_is_given_back() -> None:
    budget = Budget(100)
    budget.acquire(80)
    assert not budget.try_acquire(30)
    done = threading.Event()

    def want() -> None:
        with budget.taken(30):
            done.set()

    thread = threading.Thread(target=want)
    thread.start()
    while not budget.is_contended:
        pass
    assert not done.is_set()
    budget.release(80)
    assert done.wait(GUARD_SECONDS)
    thread.join(GUARD_SECONDS)
    assert budget.used == 0
    assert not budget.is_contended


def test_one_request_for_more_than_there_is_gets_it_alone() -> None:
    budget = Budget(100)
    assert budget.try_acquire(1000)
    assert not budget.try_acquire(1)
    budget.release(1000)
    assert budget.try_acquire(1)


def test_a_buffer_is_given_back_when_its_use_fails() -> None:
    budget = Budget(100)
    try:
        with budget.taken(60):
            raise ValueError
    except ValueError:
        pass
    assert budget.used == 0


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
