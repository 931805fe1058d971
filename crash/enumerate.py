"""Crash the write engine in a million ways and more.

    python crash/enumerate.py --states 1000000 --jobs 2
    python crash/enumerate.py --base child --exhaustive

Distinct states are counted by file contents. Exit status 1 at the first violation, which names the workload,
the moment, and what the crash kept.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial

from vhdx.testing.crash_bases import BASES
from vhdx.testing.crash_campaign import run_base, run_program
from vhdx.testing.crash_run import CrashTally
from vhdx.testing.thread_programs import all_programs

Job = tuple[str, Callable[[], CrashTally]]


def threads(name: str, schedules: int, seed: int) -> CrashTally:
    """Try the program of several threads that has this name."""
    program = next(program for program in all_programs() if program.name == name)
    return run_program(program, schedules, points=8, seed=seed)


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """What is to be done, the longest first."""
    names = options.base or list(BASES)
    mode = "exhaustive" if options.exhaustive else "thorough"
    share = sys.maxsize if options.exhaustive else options.states // len(names)
    for name in names:
        yield name, partial(run_base, name, share, seed=options.seed, mode=mode)
    if not options.base:
        for program in all_programs():
            yield program.name, partial(threads, program.name, options.schedules, options.seed)


def without_seen(work: Callable[[], CrashTally]) -> CrashTally:
    """Do a job; its states themselves stay in the process."""
    tally = work()
    tally.seen.clear()
    return tally


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
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    total, started = CrashTally(), time.monotonic()
    with ProcessPoolExecutor(options.jobs) as pool:
        waiting = {pool.submit(without_seen, work): name for name, work in jobs(options)}
        for future in as_completed(waiting):
            tally = future.result()
            total.add(tally)
            rate = total.distinct / (time.monotonic() - started)
            print(f"{tally.distinct:9} states  {waiting[future]}  ({rate:.0f}/s in all)", flush=True)
            for finding in tally.findings:
                print(f"VIOLATION {finding}", flush=True)
    print(total.report())
    return 1 if total.findings else 0


if __name__ == "__main__":
    sys.exit(main())
