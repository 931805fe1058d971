"""Threads run one at a time, in an order that can be repeated and explored, and never hang."""

import pytest

from vhdx._sync import Mutex
from vhdx.testing.crash import DeadlockError, Scheduler, explore, scripted, seeded


class Counter:
    """Adds without holding anything between reading and writing."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.value = 0

    def add(self) -> None:
        seen = self.value
        self.scheduler.checkpoint("between")
        self.value = seen + 1


def test_without_interruptions_threads_run_one_after_the_other() -> None:
    scheduler = Scheduler(scripted({}))
    counter = Counter(scheduler)
    scheduler.run(counter.add, counter.add, counter.add)
    assert counter.value == 3


def test_exploring_finds_a_lost_update_with_one_interruption() -> None:
    results = set()

    def run(scheduler: Scheduler) -> None:
        counter = Counter(scheduler)
        scheduler.run(counter.add, counter.add)
        results.add(counter.value)

    assert all(True for _ in explore(run, interruptions=0, limit=100))
    assert results == {2}
    assert all(True for _ in explore(run, interruptions=1, limit=100))
    assert results == {1, 2}


def test_a_lock_excludes_under_every_schedule() -> None:
    runs = 0

    def run(scheduler: Scheduler) -> None:
        counter, lock = Counter(scheduler), scheduler.lock()

        def add() -> None:
            with lock:
                counter.add()

        scheduler.run(add, add, add)
        assert counter.value == 3

    for _ in explore(run, interruptions=2, limit=500):
        runs += 1
    assert runs > 20


def test_locks_taken_in_opposite_orders_deadlock_under_some_schedule() -> None:
    def run(scheduler: Scheduler) -> None:
        first, second = scheduler.lock(), scheduler.lock()

        def take(outer: Mutex, inner: Mutex) -> None:
            with outer, inner:
                pass

        scheduler.run(lambda: take(first, second), lambda: take(second, first))

    with pytest.raises(DeadlockError):
        for _ in explore(run, interruptions=1, limit=100):
            pass


def test_who_waits_for_something_goes_on_once_it_is_so() -> None:
    def run(scheduler: Scheduler) -> None:
        lock = scheduler.lock()
        items: list[int] = []
        taken: list[int] = []

        def give() -> None:
            with lock:
                items.append(1)

        def take() -> None:
            scheduler.wait_until(lambda: bool(items))
            taken.append(items.pop())

        scheduler.run(take, give)
        assert taken == [1]

    assert sum(1 for _ in explore(run, interruptions=2, limit=200)) > 2


def test_waiting_for_nobody_is_a_deadlock_and_not_a_hang() -> None:
    scheduler = Scheduler(scripted({}))
    with pytest.raises(DeadlockError):
        scheduler.run(lambda: scheduler.wait_until(lambda: False))


def test_the_same_seed_gives_the_same_run() -> None:
    def decisions(seed: int) -> list[int]:
        scheduler = Scheduler(seeded(seed))
        counter = Counter(scheduler)
        scheduler.run(*([counter.add] * 3))
        return [decision.chosen for decision in scheduler.decisions]

    assert decisions(5) == decisions(5)
    assert len({tuple(decisions(seed)) for seed in range(20)}) > 1


def test_what_a_thread_raises_comes_out_and_the_others_end() -> None:
    scheduler = Scheduler(scripted({}))
    counter = Counter(scheduler)

    def fail() -> None:
        raise KeyError("here")

    with pytest.raises(KeyError):
        scheduler.run(fail, counter.add)
    assert counter.value == 1


def test_locks_work_outside_of_a_run() -> None:
    scheduler = Scheduler(scripted({}))
    lock = scheduler.lock()
    with lock:
        pass
    with lock, pytest.raises(DeadlockError), lock:
        pass
