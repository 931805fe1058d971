"""Looks for anything wrong with the library's writer, quickest ways first, within a budget."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, zip_longest
from typing import Final, NamedTuple

from proof.crash.bases import BASES, CrashBase
from proof.crash.campaign import run_program
from proof.crash.faults import ANCHORED_PROGRAM, STANDARD_PROGRAM, FaultLoop, standard_faults
from proof.crash.record_rules import record_faults
from proof.crash.threads import ThreadProgram, all_programs, thread_records
from proof.crash.workloads import (
    SHORT_LOG,
    Workload,
    classic_workloads,
    crash_run,
    full_log_workload,
    mixed_workloads,
    record,
    short_log_workload,
    try_record,
)
from vhdx.testing.crash import Call, CrashLimits, CrashTally, Medium, RecordingStore

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


class Clue(NamedTuple):
    """Where something was found: a stage of the hunt, and the number of a check in it."""

    stage: str
    number: int


class Found(NamedTuple):
    """Something wrong."""

    what: str
    clue: Clue


Check = Callable[[HuntBudget, CrashTally], Iterator[str]]
"""One thing to look at: it yields what is wrong."""


def hunt(budget: HuntBudget, tally: CrashTally) -> Found | None:
    """Return the first thing that is wrong, or None. Crashes of operations come before what only a rule says."""
    for stage, checks in STAGES.items():
        if (stage == RULES and not budget.rules) or (stage in TAKE_LONG and budget.is_brief):
            continue
        number = 0
        try:
            for number, check in enumerate(checks(budget)):
                for what in check(budget, tally):
                    return Found(what, Clue(stage, number))
                if stage == WORKLOADS and tally.distinct >= budget.states:
                    break
        except Exception as error:
            return Found(_failure(error), Clue(stage, number))
    return None


def follow(clue: Clue, budget: HuntBudget, tally: CrashTally) -> Found | None:
    """Make one check of a hunt; None, too, if there is no such check (any more) or the budget leaves it out."""
    if clue.stage not in STAGES or (clue.stage == RULES and not budget.rules):
        return None
    try:
        for check in islice(STAGES[clue.stage](budget), clue.number, clue.number + 1):
            for what in check(budget, tally):
                return Found(what, clue)
    except Exception as error:
        return Found(_failure(error), clue)
    return None


def _failure(error: Exception) -> str:
    """A workload that fails without any crash is wrong, too."""
    return f"a workload fails: {type(error).__name__}: {error}"


def _workloads(budget: HuntBudget) -> Iterator[Check]:
    """For ever: the classic workloads, then mixed ones."""
    bases = [BASES[name]() for name in MIXED]
    media = {base.name: Medium(base.content) for base in bases}
    workloads = chain(
        _classics(bases, budget), mixed_workloads(bases, budget.seed, point_count=budget.points)
    )
    for number, workload in enumerate(workloads):
        yield partial(_judge, workload, media[workload.base.name], number)


def _judge(
    workload: Workload, medium: Medium, number: int, budget: HuntBudget, tally: CrashTally
) -> Iterator[str]:
    """`number`: of the record; what is drawn at random differs from one to the next."""
    store, first = record(workload)
    limits = CrashLimits(per_point=budget.per_point)
    run = crash_run(workload.base, tally, limits=limits, seed=f"{budget.seed} {number}")
    try_record(run, workload, store, first, medium)
    yield from map(str, tally.findings)


def _classics(bases: Sequence[CrashBase], budget: HuntBudget) -> Iterator[Workload]:
    """The classic workloads, of every image in turn, and a log that is soon full."""
    rounds = zip_longest(
        (replace(short_log_workload(base), point_count=3 * budget.points) for base in bases[:2]),
        *(classic_workloads(base, point_count=budget.points) for base in bases),
    )
    yield from filter(None, chain.from_iterable(rounds))


def _programs(_: HuntBudget) -> Iterator[Check]:
    for program in all_programs():
        yield partial(_judge_program, program)


def _judge_program(program: ThreadProgram, budget: HuntBudget, tally: CrashTally) -> Iterator[str]:
    found = run_program(program, budget.schedules, seed=budget.seed, rules=False)
    tally.add(found)
    yield from map(str, found.findings)


def _records(budget: HuntBudget) -> Iterator[Check]:
    """What the records themselves say, whatever a crash shows."""
    for workload in _classics([BASES[name]() for name in MIXED], budget):
        yield partial(_judge_record, workload)
    for program in all_programs():
        yield partial(_judge_program_records, program)


def _judge_record(workload: Workload, _: HuntBudget, __: CrashTally) -> Iterator[str]:
    store, _first = record(workload)
    yield from _broken_rules(store, str(workload))


def _judge_program_records(program: ThreadProgram, budget: HuntBudget, _: CrashTally) -> Iterator[str]:
    for store in thread_records(program, budget.schedules, budget.seed):
        yield from _broken_rules(store, program.name)


def _broken_rules(store: RecordingStore, workload: str) -> Iterator[str]:
    for fault in record_faults(store.start, store.steps):
        yield f"{RULE}: {fault}\n  workload: {workload}"


def _failing_calls(_: HuntBudget) -> Iterator[Check]:
    programs = {
        "dynamic": STANDARD_PROGRAM,
        "child-without-bitmap": STANDARD_PROGRAM,
        "odd-length": ANCHORED_PROGRAM,
    }
    for name, program in programs.items():
        loop = FaultLoop(BASES[name](), program, power_failures=8)
        for fault in standard_faults():
            yield partial(_judge_failures, loop, *fault)


def _judge_failures(
    loop: FaultLoop,
    call: Call,
    make_error: Callable[[], BaseException],
    sectors_done: int,
    _: HuntBudget,
    __: CrashTally,
) -> Iterator[str]:
    with loop.base.subject.tuned(log_capacity=SHORT_LOG):
        yield from loop.run(call, make_error, sectors_done=sectors_done).findings


def _full_log(_: HuntBudget) -> Iterator[Check]:
    base = BASES["dynamic"]()
    yield partial(_judge, full_log_workload(base, point_count=24), Medium(base.content), 0)


WORKLOADS: Final = "workloads"
RULES: Final = "rules"
STAGES: Final[dict[str, Callable[[HuntBudget], Iterator[Check]]]] = {
    WORKLOADS: _workloads,
    "threads": _programs,
    RULES: _records,
    "failing calls": _failing_calls,
    "full log": _full_log,
}
"""What to look at, in this order."""
TAKE_LONG: Final = frozenset(("failing calls", "full log"))
