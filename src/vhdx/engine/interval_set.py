"""A set of integers kept as sorted, disjoint, non-adjacent half-open intervals."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final

_start = itemgetter(0)
_end = itemgetter(1)
_MANY: Final = 1024
"""Adding one interval moves those above it; for so many it is cheaper to go through all of them once."""


class IntervalSet:
    """Intervals [start, end), ascending; touching ones are joined.

    Every change is one assignment to one list, so that an interrupt leaves the set as it was before or after.
    """

    __slots__ = ("_spans",)

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        self._spans: list[tuple[int, int]] = []
        for start, end in spans:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def last(self) -> tuple[int, int] | None:
        """The highest interval."""
        return self._spans[-1] if self._spans else None

    def add(self, start: int, end: int) -> None:
        """Add [start, end), joining what it overlaps or touches."""
        spans = self._spans
        first = bisect_left(spans, start, key=_end)
        last = bisect_right(spans, end, key=_start)
        if first < last:
            start = min(start, spans[first][0])
            end = max(end, spans[last - 1][1])
        spans[first:last] = [(start, end)]

    def update(self, spans: Sequence[tuple[int, int]]) -> None:
        """Add all of `spans`."""
        if len(spans) >= _MANY:
            self._spans = _union([*self._spans, *spans])
            return
        for start, end in spans:
            self.add(start, end)

    def covers(self, point: int) -> bool:
        """Whether `point` lies in an interval."""
        index = bisect_right(self._spans, point, key=_start)
        return index > 0 and point < self._spans[index - 1][1]

    def take(self, length: int) -> int | None:
        """Remove `length` integers that are neighbours, the first that fit; return the lowest of them."""
        for index, (start, end) in enumerate(self._spans):
            if end - start >= length:
                self._spans[index : index + 1] = [(start + length, end)] if end - start > length else []
                return start
        return None

    def clip(self, limit: int) -> None:
        """Remove every integer from `limit` on."""
        index = bisect_left(self._spans, limit, key=_end)
        if index < len(self._spans):
            start = self._spans[index][0]
            self._spans[index:] = [(start, limit)] if start < limit else []


def _union(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            start, last_end = joined.pop()
            end = max(end, last_end)
        joined.append((start, end))
    return joined
