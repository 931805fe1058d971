"""Campaigns: as many crash states of an image, or of a program of several threads, as are asked for."""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from proof.crash.bases import BASES, CrashBase
from proof.crash.record_rules import record_faults
from proof.crash.threads import ThreadProgram, judge_threads, thread_records
from proof.crash.workloads import (
    SHORT_LOG,
    Workload,
    classic_workloads,
    crash_run,
    full_log_workload,
    random_workload,
    record,
    short_log_workload,
    short_workloads,
    try_record,
)
from vhdx.testing.crash import (
    CrashFinding,
    CrashLimits,
    CrashTally,
    Medium,
    Operation,
    Verb,
    Violation,
    short_sequences,
)

BRIEF: Final = CrashLimits(per_point=8)
"""Few states at each moment, so that a small run sees many moments."""
THOROUGH: Final = CrashLimits(per_point=24)
EXHAUSTIVE: Final = CrashLimits()
"""No limit: every subset of up to ten pending changes, and all the rest of what is enumerated."""

THOROUGH_POINTS: Final = 8
"""Moments of each record of several threads that a thorough run tries."""


def brief_workloads(base: CrashBase, seed: int) -> Iterator[Workload]:
    """For ever: one to three operations and a close, crashed at some moments; now and then a long sequence."""
    rng = random.Random(f"{base.name} {seed}")
    single = [operation for (operation,) in short_sequences(base.shape, base.blocks, 1)]
    yield replace(short_log_workload(base), point_count=48)
    yield full_log_workload(base, point_count=12)
    size = base.shape.block_size
    everywhere = tuple(
        Operation(Verb.WRITE, block * size, 512) for block in range(min(5, base.shape.block_count))
    )
    yield Workload(base, everywhere, closes=True, point_count=40)  # the file grows
    while True:
        for length in (1, 2, 3, 2, 3):
            operations = tuple(rng.choices(single, k=length))
            capacity = rng.choice((None, SHORT_LOG))
            yield Workload(base, operations, closes=True, log_capacity=capacity, point_count=20)
        yield random_workload(base, rng.getrandbits(32), point_count=24)


def thorough_workloads(base: CrashBase, seed: int) -> Iterator[Workload]:
    """Every sequence of one operation, of two, of three on the first three blocks; then random ones for ever.

    Sequences of fifty operations come in between.
    """
    rng = random.Random(f"{base.name} {seed}")
    yield short_log_workload(base)
    yield from short_workloads(base, 1)
    yield from classic_workloads(base, point_count=16)
    yield full_log_workload(base, point_count=60)
    for length, count, blocks in ((2, 8, base.blocks), (3, 3, base.blocks[:3])):
        workloads = list(short_workloads(base, length, blocks=blocks, point_count=count))
        rng.shuffle(workloads)
        for index, workload in enumerate(workloads):
            yield replace(workload, log_capacity=rng.choice((None, SHORT_LOG)))
            if index % 32 == 0:
                yield random_workload(base, rng.getrandbits(32), point_count=60)
    while True:
        yield random_workload(base, rng.getrandbits(32), point_count=150)


def exhaustive_workloads(base: CrashBase) -> Iterator[Workload]:
    """Every sequence of up to three operations, with a long log and with a short one."""
    for capacity in (None, SHORT_LOG):
        for length in (1, 2, 3):
            yield from short_workloads(base, length, log_capacity=capacity)


def run_base(name: str, states: int, *, seed: int = 0, mode: str = "brief") -> CrashTally:
    """Try so many distinct states of one image; stop at the first violation."""
    return _last(base_campaign(name, states, seed=seed, mode=mode))


def base_campaign(name: str, states: int, *, seed: int = 0, mode: str = "thorough") -> Iterator[CrashTally]:
    """As `run_base`; the figures, always the same object, are yielded after each workload."""
    base = BASES[name]()
    limits, workloads = {
        "brief": (BRIEF, brief_workloads(base, seed)),
        "thorough": (THOROUGH, thorough_workloads(base, seed)),
        "exhaustive": (EXHAUSTIVE, exhaustive_workloads(base)),
    }[mode]
    tally, medium = CrashTally(), Medium(base.content)
    run = crash_run(base, tally, limits=limits, max_states=states, seed=seed)
    for workload in workloads:
        store, first = record(workload)
        for fault in record_faults(store.start, store.steps):
            tally.findings.append(CrashFinding(Violation("rule", fault), str(workload), "no crash"))
        try_record(run, workload, store, first, medium)
        tally.workloads[len(workload.operations)] += 1
        yield tally
        if run.is_done:
            return


def run_program(
    program: ThreadProgram, schedules: int, *, points: int = 2, seed: int = 0, rules: bool = True
) -> CrashTally:
    """Try a program of several threads under so many schedules; stop at the first violation."""
    return _last(program_campaign(program, schedules, points=points, seed=seed, rules=rules))


def program_campaign(
    program: ThreadProgram, schedules: int, *, points: int = 2, seed: int = 0, rules: bool = True
) -> Iterator[CrashTally]:
    """As `run_program`; the figures, always the same object, are yielded after each schedule.

    From THOROUGH_POINTS on, what follows a crash is crashed, too, in every third schedule.
    """
    tally, medium = CrashTally(), Medium(program.base.content)
    for store in thread_records(program, schedules, seed):
        for fault in record_faults(store.start, store.steps) if rules else ():
            tally.findings.append(CrashFinding(Violation("rule", fault), program.name, "no crash"))
        nested_limit = int(points >= THOROUGH_POINTS and tally.schedules % 3 == 0)
        run = crash_run(
            program.base,
            tally,
            limits=CrashLimits(per_point=3),
            nested_limit=nested_limit,
            seed=f"{seed} {tally.schedules}",
        )
        judge_threads(run, program, store, medium, point_count=points)
        tally.schedules += 1
        yield tally
        if tally.findings:
            return


def _last(campaign: Iterator[CrashTally]) -> CrashTally:
    return deque(campaign, 1).pop()
