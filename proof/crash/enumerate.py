"""Crash the write engine in a million ways and more.

    python -m proof.crash.enumerate --states 1000000 --jobs 2
    python -m proof.crash.enumerate --base child --exhaustive

Distinct states are counted by file contents. The figures so far are printed at regular intervals; SIGINT and
SIGTERM end the run with the report of what was done. Exit status 1 if there was a violation: it names the
workload, the moment, and what the crash kept.
"""

import argparse
import signal
import sys
import time
import traceback
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing import Process, Queue
from queue import Empty
from types import FrameType

from proof.crash.bases import BASES
from proof.crash.campaign import base_campaign, program_campaign
from proof.crash.threads import all_programs
from vhdx.testing.crash import CrashTally

WEIGHTS = {"dynamic": 4, "child": 4, "dynamic-32m": 1, "child-32m": 1}
"""Shares of the states; 2 where none is named."""
TOLD_EVERY = 100
"""States after which a job tells its figures."""


class StoppedError(Exception):
    """Somebody asked for the end."""


@dataclass(slots=True)
class News:
    """What a job tells."""

    job: str
    tally: CrashTally = field(default_factory=CrashTally)
    """Its figures so far."""
    digests: bytes = b""
    """States that it had not told before, 8 bytes each."""
    is_last: bool = False
    failure: str = ""


class Reporter:
    """Tells the figures of one job as they grow."""

    def __init__(self, job: str, tell: Callable[[News], None]) -> None:
        self.job = job
        self._tell = tell
        self._tally = CrashTally()
        self._told = 0

    def watch(self, tally: CrashTally | None) -> None:
        """Tell, if there is enough to tell; None: the job has ended."""
        self._tally = self._tally if tally is None else tally
        seen = self._tally.seen
        if tally is None or len(seen) >= self._told + TOLD_EVERY or self._tally.findings:
            digests = array("Q", islice(seen, self._told, None)).tobytes()
            self._told = len(seen)
            self._tell(News(self.job, replace(self._tally, seen={}, met=set()), digests, tally is None))


class Total:
    """The figures of all jobs."""

    def __init__(self, jobs: list[str]) -> None:
        self.started = time.monotonic()
        self.waiting = set(jobs)
        self.tallies: dict[str, CrashTally] = {}
        self.digests: set[int] = set()
        self.failures: list[str] = []

    def take(self, news: News) -> None:
        """Take in what a job tells, and print what is worth it."""
        known = len(self.tallies[news.job].findings) if news.job in self.tallies else 0
        self.tallies[news.job] = news.tally
        self.digests.update(array("Q", news.digests))
        for finding in news.tally.findings[known:]:
            print(f"VIOLATION {finding}", flush=True)
        if news.failure:
            self.failures.append(news.job)
            print(f"FAILED {news.job}: {news.failure}", flush=True)
        if news.is_last:
            self.waiting.discard(news.job)
            print(f"{self.line()}; done: {news.job} ({news.tally.distinct})", flush=True)

    def line(self) -> str:
        """The figures in short."""
        seconds = time.monotonic() - self.started
        found = sum(len(tally.findings) for tally in self.tallies.values())
        rate = len(self.digests) / max(seconds, 0.001)
        return f"{seconds:7.0f} s {len(self.digests):9} states, {found} violations, {rate:.0f}/s"

    def report(self) -> str:
        """The figures in full. A content that two jobs have met is one state."""
        total = CrashTally()
        for tally in self.tallies.values():
            total.add(tally)
        total.distinct = len(self.digests)
        return total.report()

    @property
    def is_bad(self) -> bool:
        """Whether anything was wrong, with the engine or with a job."""
        return bool(self.failures) or any(tally.findings for tally in self.tallies.values())


def job_names(options: argparse.Namespace) -> list[str]:
    """What is to be done."""
    bases = options.base or list(BASES)
    return bases if options.base else [*bases, *(f"threads: {program.name}" for program in all_programs())]


def campaign(name: str, options: argparse.Namespace) -> Iterator[CrashTally]:
    """Try one image, or one program of several threads."""
    if name in BASES:
        names = options.base or list(BASES)
        weight = WEIGHTS.get(name, 2)
        states = options.states * weight // sum(WEIGHTS.get(other, 2) for other in names)
        if options.exhaustive:
            return base_campaign(name, sys.maxsize, seed=options.seed, mode="exhaustive")
        return base_campaign(name, states, seed=options.seed)
    program = next(program for program in all_programs() if name == f"threads: {program.name}")
    return program_campaign(program, options.schedules, points=8, seed=options.seed)


def work(names: list[str], news: "Queue[News]", options: argparse.Namespace) -> None:
    """Do jobs, a little of each in turn: the whole life of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    jobs = deque((Reporter(name, news.put), campaign(name, options)) for name in names)
    while jobs:
        reporter, running = jobs.popleft()
        try:
            tally = next(running, None)
            reporter.watch(tally)
            if tally is not None:
                jobs.append((reporter, running))
        except Exception:
            news.put(News(reporter.job, is_last=True, failure=traceback.format_exc()))


def all_news(processes: list[Process], news: "Queue[News]") -> Iterator[News | None]:
    """What is told, None now and then; ends when nobody is there to tell anything."""
    while True:
        alive = any(process.is_alive() for process in processes)
        try:
            yield news.get(timeout=2.0)
        except Empty:
            if not alive:
                return
            yield None


def run(total: Total, options: argparse.Namespace) -> None:
    """Do all jobs in so many processes as asked for. Raises: StoppedError."""
    names, count = job_names(options), options.jobs
    news: Queue[News] = Queue()
    processes = [
        Process(target=work, args=(names[part::count], news, options), daemon=True) for part in range(count)
    ]
    for process in processes:
        process.start()
    lines = 0
    try:
        for told in all_news(processes, news):
            if told is not None:
                total.take(told)
            if time.monotonic() - total.started >= (lines + 1) * options.every:
                lines = int((time.monotonic() - total.started) / options.every)
                print(total.report() if lines % 20 == 0 else total.line(), flush=True)
    finally:
        for process in processes:
            process.terminate()


def _stop(number: int, _: FrameType | None) -> None:
    raise StoppedError(signal.Signals(number).name)


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--states", type=int, default=100_000, help="distinct states, shared by the images")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--base", action="append", choices=list(BASES), help="only this image (repeatable)")
    parser.add_argument("--exhaustive", action="store_true", help="every sequence of up to three operations")
    parser.add_argument("--schedules", type=int, default=200, help="of each program of several threads")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two lines of figures")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    total, is_stopped = Total(job_names(options)), False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        run(total, options)
    except StoppedError as stopped:
        is_stopped = True
        print(f"stopped by {stopped}; this is what was done until then", flush=True)
    if total.waiting:
        print(f"not finished: {', '.join(sorted(total.waiting))}")
    print(total.report(), flush=True)
    return 1 if total.is_bad or (total.waiting and not is_stopped) else 0


if __name__ == "__main__":
    sys.exit(main())
