"""Examine many mutants: python -m proof.fuzz.run --mutants 20000 [--seed S] [--jobs 2] [--image PATH]

Prints what became of them, the rules that none of them broke, and one line for each failure that makes it
again. Exit code 0 if every invariant held, 1 if not.
"""

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from proof.fuzz.invariants import InvariantError, examine
from vhdx.rules import RuleCode
from vhdx.storage.file import FileStore
from vhdx.testing.hostile import BaseImage, Mutant, copy_store

BATCH = 200
HANG_SECONDS = 60
MEMORY_EVERY = 32
"""Measuring memory is slow: only one mutant in so many is measured."""


class HangError(BaseException):
    """A mutant took so long that it must be a loop without end."""


class Result(NamedTuple):
    """What became of some mutants."""

    kinds: Counter[str]
    refusals: Counter[str]
    references: Counter[str]
    codes: Counter[str]
    failures: list[str]
    slowest: tuple[float, int]


def _on_alarm(_signum: int, _frame: FrameType | None) -> None:
    raise HangError


def run_batch(first: int, count: int, image: str | None) -> Result:
    """Examine the mutants of some neighbouring seeds."""
    base = None if image is None else _base_of(image)
    result = Result(Counter(), Counter(), Counter(), Counter(), [], (0.0, 0))
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, _on_alarm)
    for seed in range(first, first + count):
        began = time.perf_counter()
        mutant = Mutant(seed, base)
        if hasattr(signal, "alarm"):
            signal.alarm(HANG_SECONDS)
        try:
            outcome = examine(
                mutant.stores, depth=mutant.depth, seed=seed, measure_memory=seed % MEMORY_EVERY == 0
            )
        except (InvariantError, HangError) as error:
            image_option = f" --image {image}" if image else ""
            line = f"python -m proof.fuzz.run --mutants 1 --seed {seed}{image_option}"
            result.failures.append(f"{line}\n    {mutant}\n    {type(error).__name__}: {error}")
            result.kinds["FAILED"] += 1
        else:
            result.kinds[outcome.kind] += 1
            result.references[outcome.reference] += 1
            result.codes.update(outcome.codes)
            if outcome.refusal:
                result.refusals[outcome.refusal] += 1
        finally:
            if hasattr(signal, "alarm"):
                signal.alarm(0)
        took = time.perf_counter() - began
        result = result._replace(slowest=max(result.slowest, (took, seed)))
    return result


def _base_of(image: str) -> BaseImage:
    store = FileStore.open(image, lock=False)
    try:
        return BaseImage(Path(image).name, (copy_store(store),))
    finally:
        store.close()


def run(first: int, count: int, jobs: int, image: str | None) -> Iterator[Result]:
    """Examine mutants in batches, in several processes if there are several jobs."""
    batches = [(at, min(BATCH, first + count - at), image) for at in range(first, first + count, BATCH)]
    if jobs == 1:
        yield from (run_batch(*batch) for batch in batches)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run_batch, *zip(*batches, strict=True))


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Examine mutated images.")
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first mutant; the others follow")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--image", help="mutate this file instead of the built images")
    options = parser.parse_args()
    began = time.perf_counter()
    total = Result(Counter(), Counter(), Counter(), Counter(), [], (0.0, 0))
    for result in run(options.seed, options.mutants, options.jobs, options.image):
        for mine, theirs in zip(total[:4], result[:4], strict=True):
            mine.update(theirs)
        total.failures.extend(result.failures)
        total = total._replace(slowest=max(total.slowest, result.slowest))
        for failure in result.failures:
            print(f"FAILED {failure}", flush=True)
    _print(total, options.mutants, time.perf_counter() - began)
    return 1 if total.failures else 0


def _print(total: Result, count: int, took: float) -> None:
    seconds, seed = total.slowest
    print(
        f"{count} mutants in {took:.0f} s, {count / took:.0f} each second; slowest: seed {seed}, {seconds:.1f} s"
    )
    for title, counter in (
        ("outcomes", total.kinds),
        ("reference reader", total.references),
        ("refused by", total.refusals),
    ):
        print(f"{title}: " + ", ".join(f"{name} {number}" for name, number in counter.most_common()))
    unmet = [code.value for code in RuleCode if code.value not in total.codes]
    print(f"rules broken: {len(total.codes)} of {len(RuleCode)}; never met: {', '.join(unmet) or 'none'}")
    print(f"failures: {len(total.failures)}")


if __name__ == "__main__":
    sys.exit(main())
