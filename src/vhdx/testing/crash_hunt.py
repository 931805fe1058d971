"""Looks for anything wrong with the library's writer, quickest ways first, within a budget."""

from collections.abc import Iterator
from dataclasses import dataclass

from vhdx.testing.crash_bases import BASES, CrashBase
from vhdx.testing.crash_campaign import run_program
from vhdx.testing.crash_run import CrashRun
from vhdx.testing.crash_states import CrashLimits
from vhdx.testing.crash_tally import CrashTally
from vhdx.testing.crash_workloads import (
    SHORT_LOG,
    Workload,
    classic_workloads,
    full_log_workload,
    log_capacity,
    mixed_workloads,
    record,
    try_record,
)
from vhdx.testing.fault_loop import STANDARD_PROGRAM, FaultLoop, standard_faults
from vhdx.testing.medium import Medium
from vhdx.testing.record_rules import record_faults
from vhdx.testing.roles import vhdx_roles
from vhdx.testing.thread_programs import all_programs

MIXED: tuple[str, ...] = (
    "dynamic",
    "child",
    "child-without-bitmap",
    "odd-length",
    "fixed",
    "long-table",
    "no-log",
    "foreign-log",
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
    """Whether the record itself is judged, too: quicker, but no crash is shown."""
    seed: int = 0


def hunt(budget: HuntBudget, tally: CrashTally) -> str | None:
    """Return the first thing that is wrong, or None."""
    for stage in (_single, _full_log, _faults, _threads):
        try:
            found = next(stage(budget, tally), None)
        except Exception as error:  # a workload that fails without any crash is wrong, too
            found = f"a workload fails: {type(error).__name__}: {error}"
        if found is not None:
            return found
    return None


def _run(base: CrashBase, budget: HuntBudget, tally: CrashTally) -> CrashRun:
    return CrashRun(
        base.subject,
        base.shape,
        limits=CrashLimits(per_point=budget.per_point),
        nested_limit=2,
        roles=vhdx_roles,
        tally=tally,
        seed=budget.seed,
    )


def _judged(workload: Workload, medium: Medium, budget: HuntBudget, tally: CrashTally) -> Iterator[str]:
    store, first = record(workload)
    if budget.rules:
        yield from (f"{fault}\n  workload: {workload}" for fault in record_faults(store.start, store.steps))
    run = _run(workload.base, budget, tally)
    try_record(run, workload, store, first, medium)
    yield from map(str, tally.findings)


def _single(budget: HuntBudget, tally: CrashTally) -> Iterator[str]:
    bases = [BASES[name]() for name in MIXED]
    media = {base.name: Medium(base.content) for base in bases}
    for base in bases:
        for workload in classic_workloads(base):
            yield from _judged(workload, media[base.name], budget, tally)
    for workload in mixed_workloads(bases, budget.seed, point_count=budget.points):
        yield from _judged(workload, media[workload.base.name], budget, tally)
        if tally.distinct >= budget.states:
            return


def _full_log(budget: HuntBudget, tally: CrashTally) -> Iterator[str]:
    base = BASES["dynamic"]()
    yield from _judged(full_log_workload(base, point_count=24), Medium(base.content), budget, tally)


def _faults(_: HuntBudget, __: CrashTally) -> Iterator[str]:
    for name in ("dynamic", "child-without-bitmap"):
        loop = FaultLoop(BASES[name](), STANDARD_PROGRAM)
        with log_capacity(SHORT_LOG):
            for call, make_error, sectors_done in standard_faults():
                yield from loop.run(call, make_error, sectors_done=sectors_done).findings


def _threads(budget: HuntBudget, tally: CrashTally) -> Iterator[str]:
    for program in all_programs():
        found = run_program(program, budget.schedules, seed=budget.seed, rules=budget.rules)
        tally.add(found)
        yield from map(str, found.findings)
