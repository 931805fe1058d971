"""A set of integers kept as sorted, disjoint, non-adjacent half-open intervals."""

from bisect import bisect_left, bisect_right


class IntervalSet:
    """Intervals [starts[i], ends[i]), ascending; touching ones are joined."""

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Add [start, end), joining what it overlaps or touches."""
        first = bisect_left(self.ends, start)
        last = bisect_right(self.starts, end)
        if first < last:
            start = min(start, self.starts[first])
            end = max(end, self.ends[last - 1])
        self.starts[first:last] = [start]
        self.ends[first:last] = [end]

    def covers(self, point: int) -> bool:
        """Whether `point` lies in an interval."""
        index = bisect_right(self.starts, point)
        return index > 0 and point < self.ends[index - 1]

    def take(self, length: int) -> int | None:
        """Remove `length` integers that are neighbours, the first that fit; return the lowest of them."""
        for index, start in enumerate(self.starts):
            end = self.ends[index]
            if end - start < length:
                continue
            if end - start == length:
                del self.starts[index]
                del self.ends[index]
            else:
                self.starts[index] = start + length
            return start
        return None
