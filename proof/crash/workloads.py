"""Workloads: what is done to the images of `bases`, and how every crash of it is tried."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from proof.crash.arrows import arrow_names
from proof.crash.bases import CrashBase
from vhdx.testing.crash import (
    ActionPhase,
    CrashLimits,
    CrashPlan,
    CrashRun,
    CrashTally,
    Driver,
    History,
    Mark,
    Medium,
    Operation,
    RecordingStore,
    Step,
    StepKind,
    Verb,
    fixed_entropy,
    random_sequence,
    short_sequences,
    some_points,
)
from vhdx.testing.crash.operations import MAX_WHOLE_WRITE

SHORT_LOG: Final = 5 * 4096
"""A log that has room for the empty entry and two more of one page each."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A sequence of operations on an image."""

    base: CrashBase
    operations: tuple[Operation, ...]
    closes: bool = False
    """Whether the disk is closed after the last one."""
    last_only: bool = False
    """Only crashes during the last operation are new; those before are another workload's."""
    log_capacity: int | None = None
    point_count: int | None = None
    """Crashes are tried at so many points, chosen at random; None: at all."""

    def __str__(self) -> str:
        log = f", log of {self.log_capacity} bytes" if self.log_capacity else ""
        steps = [*map(str, self.operations), *(["close"] if self.closes else [])]
        return f"[{self.base.name}{log}] {'; '.join(steps)}"


def record(workload: Workload) -> tuple[RecordingStore, int]:
    """Do a workload; return the store and the first step at which a crash is worth trying."""
    store = RecordingStore(workload.base.content)
    first = 0
    with workload.base.subject.tuned(log_capacity=workload.log_capacity), fixed_entropy("workload"):
        driver = Driver(workload.base.subject, store, workload.base.shape)
        for index, operation in enumerate(workload.operations):
            if index == len(workload.operations) - 1 and workload.last_only:
                first = len(store.steps) + 1
            driver.perform(operation)
        if workload.closes:
            driver.close()
    return store, first


def crash_run(
    base: CrashBase,
    tally: CrashTally,
    *,
    limits: CrashLimits,
    nested_limit: int = 2,
    max_states: int | None = None,
    seed: int | str = 0,
) -> CrashRun:
    """A run on one image that counts in `tally`, by the arrows of the commit order."""
    plan = CrashPlan(limits, nested_limit, max_states, moment_names=arrow_names)
    return CrashRun(base.subject, base.shape, plan, tally=tally, seed=seed)


def try_workload(run: CrashRun, workload: Workload, medium: Medium) -> None:
    """Do a workload and try every crash of it. `medium` is that of the base, computed once."""
    store, first = record(workload)
    try_record(run, workload, store, first, medium)


def try_record(run: CrashRun, workload: Workload, store: RecordingStore, first: int, medium: Medium) -> None:
    """Try every crash of a workload that has been recorded, and judge what a close has left."""
    if workload.closes and _ends_what_began(store.steps):
        run.judge_closed(store.content, str(workload))
    with workload.base.subject.tuned(log_capacity=workload.log_capacity):
        run.run(
            medium.copy(),
            store.steps,
            History(workload.base.disk),
            workload=str(workload),
            points=some_points(store.steps, workload.point_count, first=first),
        )


def _ends_what_began(steps: Sequence[Step]) -> bool:
    """Whether a close has to leave an empty log: who changes nothing leaves the file as it was found."""
    for step in reversed(steps):
        if step.kind is StepKind.ISSUED:
            return True
        if isinstance(step.label, Mark) and step.label.phase is ActionPhase.KILLED:
            return False
    return False


def short_workloads(
    base: CrashBase,
    length: int,
    *,
    blocks: Sequence[int] | None = None,
    log_capacity: int | None = None,
    point_count: int | None = None,
) -> Iterator[Workload]:
    """All sequences of a length; one operation is crashed from the beginning, later ones at the last.

    `blocks`: those that are written to; None: all of note.
    """
    chosen = base.blocks if blocks is None else blocks
    for operations in short_sequences(base.shape, chosen, length):
        yield Workload(
            base, operations, last_only=length > 1, log_capacity=log_capacity, point_count=point_count
        )


def random_workload(
    base: CrashBase, seed: int, length: int = 50, *, point_count: int | None = None
) -> Workload:
    """A long sequence; every other one with a log that is soon full."""
    operations = random_sequence(base.shape, length, seed)
    capacity = SHORT_LOG if seed % 2 else None
    return Workload(base, operations, closes=True, log_capacity=capacity, point_count=point_count)


def full_log_workload(base: CrashBase, *, point_count: int | None = None) -> Workload:
    """More commits than a log of 1 MiB has room for: block 1 comes and goes."""
    start, length = base.shape.block_size, base.shape.block_size
    flush = Operation(Verb.FLUSH)
    write = Operation(Verb.WRITE, start + 4096, 512)
    operations = (write, flush, Operation(Verb.TRIM, start, length), flush) * 66
    return Workload(base, operations, closes=True, point_count=point_count)


def short_log_workload(base: CrashBase) -> Workload:
    """A log that is full after every second commit: block 1 comes, goes and comes."""
    start, length = base.shape.block_size, min(base.shape.block_size, base.shape.size - base.shape.block_size)
    flush = Operation(Verb.FLUSH)
    trim, zero = (Operation(verb, start, length) for verb in (Verb.TRIM, Verb.ZERO))
    writes = [Operation(Verb.WRITE, start + at, 512) for at in (4096, 512)]
    operations = (writes[0], flush, trim, flush, writes[1], flush, zero, writes[0], flush)
    return Workload(base, operations, closes=True, log_capacity=SHORT_LOG)


def killed_workloads(base: CrashBase, *, point_count: int | None = None) -> Iterator[Workload]:
    """Write, flush, write, and the process is killed, at once or while it flushes; another one writes and flushes.

    A process that is killed in its first write has not begun yet: it has changed a header, or is replaying a log.
    """
    first, second, last = *base.blocks[:2], base.blocks[-1]
    size = base.shape.block_size
    write, again, more = (
        Operation(Verb.WRITE, block * size + at, 1024)
        for block, at in ((first, 1024), (second, 1536), (last, 2048))
    )
    flush = Operation(Verb.FLUSH)
    yield from (
        Workload(base, (*operations, more, flush), closes=True, point_count=point_count)
        for operations in (
            (write, flush, again, Operation(Verb.KILL)),
            *((replace(write, killed_at=number),) for number in (2, 3, 4, 5, 8)),
            *((write, flush, again, replace(flush, killed_at=number)) for number in (1, 2, 3, 4, 5)),
        )
    )


def tail_workload(base: CrashBase, *, point_count: int | None = None) -> Workload:
    """Part of a sector of 4096 bytes is the last that a block leaves to its parent; zeroes go on behind it."""
    start = (base.shape.block_count - 1) * base.shape.block_size
    write = Operation(Verb.WRITE, start + 4096, min(base.shape.size - start, MAX_WHOLE_WRITE) - 4096)
    operations = (write, Operation(Verb.ZERO, start + 512, 8192 - 512), Operation(Verb.FLUSH))
    return Workload(base, operations, closes=True, point_count=point_count)


def classic_workloads(base: CrashBase, *, point_count: int | None = None) -> Iterator[Workload]:
    """Parts of the last sectors that a block leaves to its parent; then, for every block: write to it, flush, give it
    up, use the space for another one; half of that; zeroes. At last with a process that is killed.
    """
    yield tail_workload(base, point_count=point_count)
    flush = Operation(Verb.FLUSH)
    size = base.shape.block_size
    for block, other in zip(base.blocks, (*base.blocks[1:], base.blocks[0]), strict=True):
        write, again, zero, fill = (
            Operation(verb, number * size + 1024, 1024)
            for verb, number in (
                (Verb.WRITE, block),
                (Verb.WRITE, other),
                (Verb.ZERO, block),
                (Verb.FILL, other),
            )
        )
        length = min(size, base.shape.size - block * size)
        trim = Operation(Verb.TRIM, block * size, length)
        whole = Operation(Verb.FILL, block * size, min(length, MAX_WHOLE_WRITE))
        for operations in (
            (write,),
            (zero,),
            (whole, flush),
            (write, flush, trim, flush, again),
            (trim, again, flush),
            (trim, flush, fill, flush, whole, flush),
            (replace(write, killed_at=2), again, flush),
        ):
            yield Workload(base, operations, closes=True, point_count=point_count)
    yield from killed_workloads(base, point_count=point_count)


def mixed_workloads(
    bases: Sequence[CrashBase], seed: int = 0, *, point_count: int | None = None
) -> Iterator[Workload]:
    """For ever: short sequences on every image in turn, each closed at its end, and now and then a long one."""
    rng = random.Random(seed)
    single = {
        base.name: [operation for (operation,) in short_sequences(base.shape, base.blocks, 1)]
        for base in bases
    }
    while True:
        for base in bases:
            for length in (1, 2, 3):
                operations = tuple(rng.choices(single[base.name], k=length))
                capacity = rng.choice((None, SHORT_LOG))
                yield Workload(base, operations, closes=True, log_capacity=capacity, point_count=point_count)
            yield random_workload(base, rng.getrandbits(32), point_count=point_count or 24)
