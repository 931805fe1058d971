"""Threads that share work and stop together."""

import threading
import time
from collections.abc import Iterator

import pytest

from vhdx.ops.copying.unit_order import UnitOrder
from vhdx.ops.copying.unit_workers import Stopped, UnitWorkers


def no_tick() -> None:
    """Nothing is told."""


def test_every_job_is_done_once() -> None:
    done: list[tuple[int, str]] = []
    UnitWorkers(iter("abcdefgh"), 3).run(lambda: lambda number, job: done.append((number, job)), no_tick)
    assert sorted(done) == list(enumerate("abcdefgh"))


def test_failure_of_one_stops_the_others_that_wait() -> None:
    order = UnitOrder()
    workers: UnitWorkers[int] = UnitWorkers(iter(range(2)), 2, order.stop)

    def work(number: int, job: int) -> None:
        if number == 0:
            time.sleep(0.05)
            raise ZeroDivisionError
        order.wait(1)
        raise AssertionError("its turn never came")

    with pytest.raises(ZeroDivisionError):
        workers.run(lambda: work, no_tick)
    assert workers.is_stopping


def test_failure_of_the_iterator_reaches_the_caller() -> None:
    def jobs() -> Iterator[int]:
        yield 1
        raise LookupError

    with pytest.raises(LookupError):
        UnitWorkers(jobs(), 2).run(lambda: lambda number, job: None, no_tick)


def test_jobs_after_a_failure_are_not_begun() -> None:
    begun: list[int] = []

    def work(number: int, job: int) -> None:
        begun.append(number)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        UnitWorkers(iter(range(100)), 1).run(lambda: work, no_tick)
    assert begun == [0]


def test_interrupt_of_the_caller_waits_for_the_workers() -> None:
    alive = threading.Event()
    ended: list[bool] = []
    workers: UnitWorkers[int] = UnitWorkers(iter(range(100)), 1)

    def work(number: int, job: int) -> None:
        alive.set()
        while not workers.is_stopping:
            time.sleep(0.01)
        ended.append(True)
        raise Stopped

    def on_tick() -> None:
        alive.wait()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workers.run(lambda: work, on_tick)
    assert ended == [True]


def test_turns_come_in_order() -> None:
    order, taken = UnitOrder(), []

    def work(number: int, job: int) -> None:
        if job % 3:  # some take nothing
            time.sleep(0.001 * (job % 5))
            order.wait(number)
            taken.append(number)
        order.give_up(number)

    UnitWorkers(iter(range(60)), 4, order.stop).run(lambda: work, no_tick)
    assert taken == [number for number in range(60) if number % 3]


def test_a_number_may_be_given_up_twice() -> None:
    order = UnitOrder()
    for number in (0, 0, 2, 2, 1, 1):
        order.give_up(number)
    order.wait(3)  # returns: all lower numbers have been passed
