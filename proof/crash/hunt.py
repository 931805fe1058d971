"""Looks for anything wrong with the library's writer, quickest ways first, within a budget."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Final

from proof.crash.bases import BASES, CrashBase
from proof.crash.campaign import run_program
from proof.crash.faults import ANCHORED_PROGRAM, STANDARD_PROGRAM, FaultLoop, standard_faults
from proof.crash.record_rules import record_faults
from proof.crash.threads import all_programs, thread_records
from proof.crash.workloads import (
    SHORT_LOG,
    Workload,
    classic_workloads,
    crash_run,
    full_log_workload,
    log_capacity,
    mixed_workloads,
    record,
    short_log_workload,
    try_record,
)
from vhdx.testing.crash import CrashLimits, CrashTally, Medium

RULE: Final = "only a rule says so"
MIXED: tuple[str, ...] = (
    "dynamic",
    "child",
    "child-without-bitmap",
    "odd-length",
    "fixed",
    "long-table",
    "no-log",
    "foreign-log",
    "dirty-long-table",
    "child-4096",
)
"""Images that mixed workloads are tried on."""


@dataclass(frozen=True, slots=True)
class HuntBudget:
    """How much to look at."""

    states: int = 6000
    """Distinct crash states of single threads."""
    schedules: int = 120
    """Of each program of several threads."""
    points: int = 16
    """Moments of each record at which a crash is tried."""
    per_point: int = 6
    """States at each moment."""
    rules: bool = True
    """Whether the records themselves are judged, too, if no crash shows anything."""
    is_brief: bool = False
    """Whether what takes long is left out: a log that is full, and calls that fail."""
    seed: int = 0


Stage = Callable[[HuntBudget, CrashTally], Iterator[str]]


def hunt(budget: HuntBudget, tally: CrashTally) -> str | None:
    """Return the first thing that is wrong, or None. Crashes of operations come before what only a rule says."""
    stages: list[Stage] = [_single, _threads, *([_rules] if budget.rules else [])]
    if not budget.is_brief:
        stages += [_faults, _full_log]
    for stage in stages:
        try:
            found = next(stage(budget, tally), None)
        except Exception as error:  # a workload that fails without any crash is wrong, too
            found = f"a workload fails: {type(error).__name__}: {error}"
        if found is not None:
            return found
    return None


def _judged(
    workload: Workload, medium: Medium, budget: HuntBudget, tally: CrashTally, number: int = 0
) -> Iterator[str]:
    """`number`: of the record; what is drawn at random differs from one to the next."""
    store, first = record(workload)
    limits = CrashLimits(per_point=budget.per_point)
    run = crash_run(workload.base, tally, limits=limits, seed=f"{budget.seed} {number}")
    try_record(run, workload, store, first, medium)
    yield from map(str, tally.findings)


def _single(budget: HuntBudget, tally: CrashTally) -> Iterator[str]:
    bases = [BASES[name]() for name in MIXED]
    media = {base.name: Medium(base.content) for base in bases}
    workloads = chain(
        _classics(bases, budget), mixed_workloads(bases, budget.seed, point_count=budget.points)
    )
    for number, workload in enumerate(workloads):
        yield from _judged(workload, media[workload.base.name], budget, tally, number)
        if tally.distinct >= budget.states:
            return


def _classics(bases: Sequence[CrashBase], budget: HuntBudget) -> Iterator[Workload]:
    """The classic workloads, of every image in turn, and a log that is soon full."""
    rounds = zip_longest(
        (replace(short_log_workload(base), point_count=3 * budget.points) for base in bases[:2]),
        *(classic_workloads(base, point_count=budget.points) for base in bases),
    )
    yield from filter(None, chain.from_iterable(rounds))


def _rules(budget: HuntBudget, _: CrashTally) -> Iterator[str]:
    for workload in _classics([BASES[name]() for name in MIXED], budget):
        store, _first = record(workload)
        faults = record_faults(store.start, store.steps)
        yield from (f"{RULE}: {fault}\n  workload: {workload}" for fault in faults)
    for program in all_programs():
        for store in thread_records(program, budget.schedules, budget.seed):
            faults = record_faults(store.start, store.steps)
            yield from (f"{RULE}: {fault}\n  workload: {program.name}" for fault in faults)


def _full_log(budget: HuntBudget, tally: CrashTally) -> Iterator[str]:
    base = BASES["dynamic"]()
    yield from _judged(full_log_workload(base, point_count=24), Medium(base.content), budget, tally)


def _faults(_: HuntBudget, __: CrashTally) -> Iterator[str]:
    programs = {
        "dynamic": STANDARD_PROGRAM,
        "child-without-bitmap": STANDARD_PROGRAM,
        "odd-length": ANCHORED_PROGRAM,
    }
    for name, program in programs.items():
        loop = FaultLoop(BASES[name](), program, power_failures=8)
        with log_capacity(SHORT_LOG):
            for call, make_error, sectors_done in standard_faults():
                yield from loop.run(call, make_error, sectors_done=sectors_done).findings


def _threads(budget: HuntBudget, tally: CrashTally) -> Iterator[str]:
    for program in all_programs():
        found = run_program(program, budget.schedules, seed=budget.seed, rules=False)
        tally.add(found)
        yield from map(str, found.findings)
