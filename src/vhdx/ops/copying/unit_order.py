"""Letting several workers take something one after the other, in the order of their units."""

import threading

from vhdx.ops.copying.unit_workers import Stopped


class UnitOrder:
    """A queue by number: whoever has a number waits until every lower one is done with, whoever is ready first."""

    def __init__(self) -> None:
        self._next = 0
        self._passed: set[int] = set()
        """Numbers above `_next` that are done with."""
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
        """Pass a number: with `wait` before it, or without. Passing it once more does nothing."""
        with self._condition:
            if number >= self._next:
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
