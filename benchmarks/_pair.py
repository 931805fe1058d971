"""Comparing two or more commands fairly on a noisy machine: in turns, and by the ratios of neighbours.

Every round runs each command once, in an order that alternates (A B, B A, A B, ...), so that a slow drift of
the machine touches all alike. What is told is the median of the rounds' ratios, with their range; the seconds
are there for orientation. A command's result is removed before and after each run, outside the clock.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SKIPPED = 77
"""Exit code of a benchmark whose peer is absent."""
VHDX = (sys.executable, "-m", "vhdx")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""A library that is installed has its bytecode at hand."""


@dataclass
class Contender:
    """A command, the file that it makes (if any), and what to call it, flags included."""

    name: str
    command: Sequence[str]
    output: Path | None = None
    seconds: list[float] = field(default_factory=list)

    def run(self) -> None:
        self._clean()
        os.sync()
        start = time.perf_counter()
        done = subprocess.run(self.command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
        self.seconds.append(time.perf_counter() - start)
        if done.returncode:
            raise SystemExit(f"{self.name} failed: {done.stdout}{done.stderr}")
        self._clean()

    def _clean(self) -> None:
        if self.output is not None:
            self.output.unlink(missing_ok=True)


def run_in_turns(title: str, ours: Contender, peers: Sequence[Contender], rounds: int) -> None:
    """Run all contenders and print how many times faster than each peer ours is."""
    order = [ours, *peers]
    for contender in order:  # warm the caches
        contender.run()
        contender.seconds.clear()
    for _ in range(rounds):
        for contender in order:
            contender.run()
        order.reverse()
    print(f"\n{title}  ({rounds} rounds)")
    print(f"  {ours.name:58} {statistics.median(ours.seconds):8.3f} s")
    for peer in peers:
        ratios = [theirs / mine for theirs, mine in zip(peer.seconds, ours.seconds, strict=True)]
        print(
            f"  {peer.name:58} {statistics.median(peer.seconds):8.3f} s   "
            f"ours is {statistics.median(ratios):.2f}x as fast (from {min(ratios):.2f} to {max(ratios):.2f})"
        )


def durable(command: Sequence[str], output: Path) -> list[str]:
    """The same command with its result made durable, as ours always does."""
    words = " ".join(f"'{word}'" for word in command)
    return ["sh", "-c", f"{words} && sync '{output}'"]


def need(program: str, package: str) -> str:
    """Path of a peer; ends the benchmark, as skipped, where it is absent."""
    found = shutil.which(program)
    if found is None:
        print(f"skipped: {program} is not installed (Debian: {package})", flush=True)
        raise SystemExit(SKIPPED)
    return found


def version_of(program: str) -> str:
    """First line of what a program says of its version."""
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )[0]


def main(description: str | None, bench: Callable[[Path, int, float], None]) -> None:
    """Common command line: where to work, how often, and how large."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path, help="an existing folder with space for the files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the data, 1 = as documented")
    arguments = parser.parse_args()
    work = arguments.folder / "vhdx-benchmark"
    work.mkdir()
    try:
        bench(work, arguments.rounds, arguments.scale)
    finally:
        shutil.rmtree(work)
