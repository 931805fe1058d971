"""What a server tells its user: a line for each connection, one for each request if asked for, figures at the end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from vhdx.nbd.protocol.constants import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vhdx.nbd.protocol.transmission import Request

_PERCENTILES: Final = (50, 90, 99, 100)
_BUCKETS_PER_DOUBLING: Final = 8


class Latencies:
    """Times of one command, counted in buckets, eight for each doubling of the time: constant memory."""

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self._buckets: dict[int, int] = {}

    def add(self, length: int, microseconds: int) -> None:
        """Count one request."""
        self.count += 1
        self.bytes += length
        bucket = _bucket(microseconds)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def percentile(self, percent: int) -> int:
        """Microseconds within which so many percent of the requests were answered, to about 10 %."""
        wanted = self.count * percent / 100
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return _ceiling(bucket)
        return 0


def _bucket(microseconds: int) -> int:
    """Number of the bucket: exact below 16; above, what the four highest bits of the time say."""
    if microseconds < 2 * _BUCKETS_PER_DOUBLING:
        return microseconds
    shift = microseconds.bit_length() - 4
    return shift * _BUCKETS_PER_DOUBLING + (microseconds >> shift)


def _ceiling(bucket: int) -> int:
    """The longest time in a bucket, in microseconds."""
    if bucket < 2 * _BUCKETS_PER_DOUBLING:
        return bucket
    shift = bucket // _BUCKETS_PER_DOUBLING - 1
    mantissa = bucket - shift * _BUCKETS_PER_DOUBLING
    return ((mantissa + 1) << shift) - 1


class ServerLog:
    """Writes lines and counts. Thread-safe."""

    def __init__(
        self, write_line: Callable[[str], None], *, verbose: bool = False, statistics: bool = False
    ) -> None:
        self._write_line = write_line
        self._lock = threading.Lock()
        self._latencies: dict[int, Latencies] = {}
        self._verbose = verbose
        self._keeps_times = statistics
        self.keeps_requests = verbose or statistics
        """Whether `served` has to be told of every request."""

    def clock(self) -> float:
        """The time at which a request is taken up, for `served`; 0 where no times are kept."""
        return time.perf_counter() if self._keeps_times else 0.0

    def line(self, text: str) -> None:
        """Write one line."""
        with self._lock:
            self._write_line(text)

    def detail(self, text: str) -> None:
        """Write one line for those who asked for many."""
        if self._verbose:
            self.line(text)

    def failed(self, peer: str, request: Request, error: Exception) -> None:
        """Write the line about a request that failed."""
        self.line(f"{peer}: {_spell(request)}: {error}")

    def served(self, peer: str, requests: Sequence[Request], started: float) -> None:
        """Take note of requests that have been answered, and were taken up at `started` (as `clock` told)."""
        if self._verbose:
            for request in requests:
                self.line(f"{peer}: {_spell(request)}")
        if self._keeps_times:
            microseconds = int((time.perf_counter() - started) * 1e6)
            with self._lock:
                for request in requests:
                    self._latencies.setdefault(request.command, Latencies()).add(request.length, microseconds)

    def statistics(self) -> Iterator[str]:
        """A line for each command that was asked for."""
        for command, found in sorted(self._latencies.items()):
            times = ", ".join(f"p{percent} {found.percentile(percent)}" for percent in _PERCENTILES)
            yield f"{_name(command)}: {found.count} requests, {found.bytes} bytes; microseconds: {times}"


def _name(command: int) -> str:
    try:
        return Command(command).name.lower().replace("_", "-")
    except ValueError:
        return f"command {command}"


def _spell(request: Request) -> str:
    flags = f" flags {request.flags:#x}" if request.flags else ""
    return f"{_name(request.command)} {request.length} at {request.offset}{flags}"
