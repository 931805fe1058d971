"""Threads that share work and stop together."""

import threading
import time
from collections.abc import Iterator

import pytest

from vhdx.ops.copying.unit_workers import Stopped, Turns, Workers


def no_tick() -> None:
    """Nothing is told."""


def test_every_job_is_done_once() -> None:
    done: list[tuple[int, str]] = []
    Workers(iter("abcdefgh"), 3, Turns()).run(lambda: lambda number, job: done.append((number, job)), no_tick)
    assert sorted(done) == list(enumerate("abcdefgh"))


def test_failure_of_one_stops_the_others_that_wait() -> None:
    turns = Turns()
    workers: Workers[int] = Workers(iter(range(2)), 2, turns)

    def work(number: int, job: int) -> None:
        if number == 0:
            time.sleep(0.05)
            raise ZeroDivisionError
        turns.wait(1)
        raise AssertionError("its turn never came")

    with pytest.raises(ZeroDivisionError):
        workers.run(lambda: work, no_tick)
    assert workers.is_stopping


def test_failure_of_the_iterator_reaches_the_caller() -> None:
    def jobs() -> Iterator[int]:
        yield 1
        raise LookupError

    with pytest.raises(LookupError):
        Workers(jobs(), 2, Turns()).run(lambda: lambda number, job: None, no_tick)


def test_jobs_after_a_failure_are_not_begun() -> None:
    begun: list[int] = []

    def work(number: int, job: int) -> None:
        begun.append(number)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Workers(iter(range(100)), 1, Turns()).run(lambda: work, no_tick)
    assert begun == [0]


def test_interrupt_of_the_caller_waits_for_the_workers() -> None:
    alive = threading.Event()
    ended: list[bool] = []
    workers: Workers[int] = Workers(iter(range(100)), 1, Turns())

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
    turns, taken = Turns(), []

    def work(number: int, job: int) -> None:
        if job % 3:  # some take nothing
            time.sleep(0.001 * (job % 5))
            turns.wait(number)
            taken.append(number)
        turns.give_up(number)

    Workers(iter(range(60)), 4, turns).run(lambda: work, no_tick)
    assert taken == [number for number in range(60) if number % 3]
