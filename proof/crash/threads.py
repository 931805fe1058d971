"""Programs of two and three threads on one disk, and how to try schedules and crashes of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from proof.crash.bases import TAIL, CrashBase, child, child_without_bitmap, dirty, dynamic, long_table
from vhdx._units import MIB
from vhdx.engine.tuning import DEFAULT_PAGE_CAPACITY
from vhdx.testing.crash import (
    CrashFinding,
    CrashRun,
    Driver,
    History,
    Medium,
    Operation,
    RecordingStore,
    Scheduler,
    Step,
    Verb,
    Violation,
    explore,
    fixed_entropy,
    seeded,
    some_points,
    wrong_reads,
)

_READ = partial(Operation, Verb.READ)
_WRITE = partial(Operation, Verb.WRITE)
_FUA = partial(Operation, Verb.FUA)
_ZERO = partial(Operation, Verb.ZERO)
_TRIM = partial(Operation, Verb.TRIM)
_FLUSH = Operation(Verb.FLUSH)
_FULL = (_WRITE(MIB, 512), _WRITE(3 * MIB, 512))
"""Uses up the free space inside the file of `dynamic`."""
_LOGGED = (_WRITE(MIB, 4096), _FLUSH, _WRITE(2 * MIB, 1024), _FLUSH)
"""Leaves something in the log, if the power fails."""
THREADS_END = "the threads have ended"
"""Mark in the record, before the disk is closed."""


@dataclass(frozen=True, slots=True)
class ThreadProgram:
    """What each of several threads does, after what was done before them."""

    name: str
    base: CrashBase
    threads: tuple[tuple[Operation, ...], ...]
    before: tuple[Operation, ...] = ()
    cache_pages: int = DEFAULT_PAGE_CAPACITY
    """Clean pages that the library keeps in memory; None: as many as it likes."""


def all_programs() -> Iterator[ThreadProgram]:
    """Everything that may go wrong between two threads, or three."""
    yield from _writers()
    yield from _reusers()
    yield from _children()


def _writers() -> Iterator[ThreadProgram]:
    plain, tables = dynamic(), long_table()
    new = (_WRITE(MIB, 4096),), (_WRITE(MIB + 8192, 4096), _FLUSH)
    yield ThreadProgram("two writes into one new block", plain, new)
    beside = (_FLUSH, _FLUSH), (_WRITE(MIB, 1024), _WRITE(2 * MIB, 512))
    yield ThreadProgram("write beside flush", plain, beside, before=(_WRITE(3 * MIB, 512),))
    # The space that the block gets holds garbage.
    look = (_FLUSH, _READ(MIB, 8192), _READ(2 * MIB - 4096, 4096))
    for name, length in (("part", 512), ("whole", MIB)):
        write = (_WRITE(MIB + (MIB - length) // 1024 * 512, length),)
        yield ThreadProgram(
            f"{name} of a new block beside flush", plain, (write, look), before=(_WRITE(0, 512),)
        )
    fill = (Operation(Verb.FILL, MIB, MIB),)
    yield ThreadProgram("fill of a new block beside flush", plain, (fill, look), before=(_WRITE(0, 512),))
    flushes = (_WRITE(MIB, 512), _FLUSH), (_WRITE(2 * MIB, 512), _FLUSH)
    yield ThreadProgram("two flushes", plain, flushes)
    yield ThreadProgram(
        "growth beside a commit", plain, ((_FLUSH,), (_WRITE(4 * MIB, 512), _FLUSH)), before=_FULL
    )
    units = (_FUA(MIB, 512), _FUA(MIB, 512)), (_WRITE(2 * MIB, 512), _TRIM(2 * MIB, MIB), _FLUSH)
    yield ThreadProgram("force unit access beside writes", plain, units)
    pages = (_FLUSH,), (_WRITE(510 * MIB, 512), _WRITE(512 * MIB, 512), _FLUSH)
    yield ThreadProgram("two pages of a table", tables, pages, before=(_WRITE(1023 * MIB, 512),))
    before = (_WRITE(510 * MIB, 512), _WRITE(512 * MIB, 512), _WRITE(1023 * MIB, 512))
    cache = (_FLUSH,), (_READ(510 * MIB, 512), _READ(1023 * MIB, 512), _READ(512 * MIB, 512))
    yield ThreadProgram("a page cache of one page", tables, cache, before=before, cache_pages=1)
    replay = (_WRITE(MIB + 512, 512), _FLUSH), (_READ(0, 8192), _READ(MIB, 8192)), (_TRIM(0, MIB), _FLUSH)
    yield ThreadProgram("replay beside everything", dirty(plain, _LOGGED), replay)


def _reusers() -> Iterator[ThreadProgram]:
    """No free space is left in the file, so that what is freed is what is used next."""
    plain = dynamic()
    trim, reuse = (_TRIM(0, MIB), _FLUSH), (_WRITE(2 * MIB, 8192), _FLUSH)
    yield ThreadProgram("write beside trim", plain, ((_WRITE(0, 1024), _FLUSH), trim))
    yield ThreadProgram("zero beside trim", plain, ((_ZERO(0, MIB), _FLUSH), trim))
    yield ThreadProgram("trim in a commit, reuse", plain, ((_FLUSH,), trim[:1], reuse[:1]), before=_FULL)
    yield ThreadProgram(
        "trim in a commit, reuse after it", plain, ((_FLUSH, reuse[0]), trim[:1]), before=_FULL
    )
    yield ThreadProgram("trim, reuse in its commit", plain, (trim, reuse), before=_FULL)
    both = (*trim, *reuse)
    yield ThreadProgram("read beside trim and reuse", plain, ((_READ(0, 8192),), both), before=_FULL)
    yield ThreadProgram("overwrite beside trim and reuse", plain, ((_WRITE(0, 8192),), both), before=_FULL)
    reads = (_READ(0, 8192), _READ(0, 8192))
    yield ThreadProgram("read, trim, reuse", plain, (reads, trim, reuse), before=_FULL)
    yield ThreadProgram("write, trim, reuse", plain, ((_WRITE(0, 8192),), trim, reuse), before=_FULL)


def _children() -> Iterator[ThreadProgram]:
    diff, bare = child(), child_without_bitmap()
    look = (_FLUSH, _READ(MIB, 8192))
    for base, before in ((diff, (_WRITE(0, 512),)), (bare, (_ZERO(0, MIB),))):
        name = f"first write beside flush, {base.name}"
        yield ThreadProgram(name, base, ((_WRITE(MIB + 1024, 1024),), look), before=before)
    bits = (_WRITE(3 * MIB + 4096, 512),), (_WRITE(3 * MIB + 4608, 512), _FLUSH)
    yield ThreadProgram("two bits of one bitmap", diff, bits)
    bitmap = (_WRITE(0, 512), _FLUSH), (_WRITE(MIB, 512), _FLUSH)
    yield ThreadProgram("two blocks, no bitmap yet", bare, bitmap)
    whole = (_WRITE(MIB + 512, 512), _FLUSH), (_WRITE(4 * MIB, TAIL), _WRITE(4 * MIB + 512, 512), _FLUSH)
    yield ThreadProgram("partial and whole write", diff, whole)
    first = (_READ(MIB, 8192), _READ(MIB, 8192)), (_WRITE(MIB + 1024, 1024), _FLUSH)
    yield ThreadProgram("read beside a first write", diff, first)
    replay = (_WRITE(MIB + 1024, 512), _FLUSH), (_READ(MIB, 4096),), (_WRITE(3 * MIB + 512, 512), _FLUSH)
    yield ThreadProgram("replay in a child", dirty(diff, _LOGGED), replay)


def run_threads(program: ThreadProgram, scheduler: Scheduler) -> RecordingStore:
    """Run a program under a schedule; return the record. Raises: what an operation does; DeadlockError."""
    store = RecordingStore(program.base.content, checkpoint=scheduler.checkpoint)
    with fixed_entropy(program.name), program.base.subject.tuned(page_capacity=program.cache_pages):
        driver = Driver(program.base.subject, store, program.base.shape, sync=scheduler)
        driver.perform_all(program.before)
        scheduler.run(*(partial(driver.perform_all, operations) for operations in program.threads))
        store.mark(THREADS_END)
        driver.close()
    return store


def thread_records(program: ThreadProgram, count: int, seed: int = 0) -> Iterator[RecordingStore]:
    """Different records of a program under `count` schedules of few interruptions, and some random ones."""
    stores: list[RecordingStore] = []
    seen: set[int] = set()

    def run(scheduler: Scheduler) -> None:
        stores.append(run_threads(program, scheduler))

    def schedules() -> Iterator[None]:
        for _ in explore(run, interruptions=2, limit=count, seed=seed):
            yield
        for number in range(count // 4):
            run(Scheduler(seeded(seed + number)))
            yield

    for _ in schedules():
        store = stores.pop()
        signature = hash(tuple(_gist(step) for step in store.steps))
        if signature not in seen:
            seen.add(signature)
            yield store


def _gist(step: Step) -> object:
    """What distinguishes a step from others, as far as crashes and reads go."""
    change = step.change
    if change is not None:
        return step.kind, change.number, change.kind, change.file_offset, change.length, change.data
    return step.kind, tuple(other.number for other in step.covered), str(step.label)


def judge_threads(
    run: CrashRun,
    program: ThreadProgram,
    store: RecordingStore,
    medium: Medium,
    *,
    point_count: int | None = None,
) -> None:
    """Judge the reads of one record, and try its crashes: at some moments of it, or at all."""
    for wrong in wrong_reads(program.base.disk, store.steps):
        run.tally.findings.append(CrashFinding(Violation("wrong read", wrong), program.name, "no crash"))
    run.judge_closed(store.content, program.name)
    end = next(point for point, step in enumerate(store.steps, 1) if step.label == THREADS_END)
    if not run.is_done:
        run.run(
            medium.copy(),
            store.steps,
            History(program.base.disk),
            workload=program.name,
            points=some_points(store.steps, point_count, always=(end,)),
        )
