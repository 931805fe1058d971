"""Makes the first, the second, the third ... call of a store fail, until an operation succeeds untouched.

After each failure the image either goes on, as if the failed operation alone had not been asked for, or it is
poisoned: then every call is refused, closing writes nothing, and another process opens the image again, asks for
what failed once more and goes on. In both cases nothing that had been acknowledged may be lost, whether only the
process ends or the power fails as well, before the next process or while it is at work. What a failed flush should
have made durable may be missing then, however many flushes of the next process succeed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from proof.crash.bases import CrashBase
from vhdx._units import MIB
from vhdx.testing.crash import (
    Call,
    CrashLimits,
    CrashPlan,
    CrashRun,
    Driver,
    Fault,
    History,
    Medium,
    Operation,
    Oracle,
    Points,
    RecordingStore,
    Verb,
    Violation,
    fixed_entropy,
)

STANDARD_PROGRAM: Final = (
    Operation(Verb.WRITE, MIB, 4096),
    Operation(Verb.FLUSH),
    Operation(Verb.WRITE, 512, 1024),
    Operation(Verb.TRIM, 0, MIB),
    Operation(Verb.FLUSH),
    Operation(Verb.READ, MIB - 4096, 8192),
    Operation(Verb.FUA, MIB + 8192, 512),
    Operation(Verb.REOPEN),
    Operation(Verb.WRITE, MIB - 512, 1024),
    Operation(Verb.ZERO, MIB, MIB),
    Operation(Verb.FLUSH),
)
"""Comes by every kind of call, on any image of blocks of 1 MiB."""

ANCHORED_PROGRAM: Final = (
    Operation(Verb.WRITE, 2 * MIB + 8192, 512),
    Operation(Verb.WRITE, MIB + 4096, 1024),
    Operation(Verb.FLUSH),
)
"""On the image of an odd length: into space that a block without content keeps, and then into new space."""


class Aftermath(Enum):
    """What became of an image after a call of its store failed."""

    UNTOUCHED = "the call was not reached"
    WENT_ON = "went on"
    POISONED = "poisoned"
    CLOSE_FAILED = "the close failed"


@dataclass(slots=True)
class FaultTally:
    """What was tried and what was wrong."""

    aftermaths: Counter[Aftermath] = field(default_factory=Counter)
    states: int = 0
    findings: list[str] = field(default_factory=list)


class FaultLoop:
    """Tries one sequence of operations with every single failure of one kind."""

    def __init__(
        self,
        base: CrashBase,
        operations: Sequence[Operation],
        *,
        limits: CrashLimits | None = None,
        power_failures: int = 2,
    ) -> None:
        """`power_failures`: moments at which the power fails as well, of the session that fails and of the next."""
        self.base = base
        self.operations = operations
        self.tally = FaultTally()
        self._limits = limits or CrashLimits(per_point=4, media_faults=False)
        self._power_failures = power_failures
        self._medium = Medium(base.content)

    def run(
        self, call: Call, make_error: Callable[[], BaseException], *, sectors_done: int = 0, limit: int = 400
    ) -> FaultTally:
        """Fail the first call of a kind, then the second, ...; each time on a fresh image."""
        for nth in range(1, limit + 1):
            fault = Fault(call, nth, make_error(), sectors_done)
            trial = _Trial(self.base, fault)
            aftermath = trial.run(self.operations)
            self.tally.aftermaths[aftermath] += 1
            if trial.wrong is None:
                trial.wrong = self._look(trial)
            if trial.wrong is not None:
                error = fault.error
                where = f"{call.value} number {nth} raises {error!r} after {sectors_done} sectors"
                self.tally.findings.append(f"{where}: {trial.wrong}")
            if aftermath is Aftermath.UNTOUCHED:
                return self.tally
        raise AssertionError(f"more than {limit} calls of {call.value}")

    def _look(self, trial: "_Trial") -> str | None:
        """Reopen what a process that ended has left; then what a power failure has left."""
        history = History(self.base.disk)
        for step in trial.store.steps:
            history.observe(step.label)
        with fixed_entropy("after a fault"):
            oracle = Oracle(self.base.subject, self.base.shape)
            examined = oracle.examine(trial.store.content, history, label="reopened: ")
            violation = (
                examined
                if isinstance(examined, Violation)
                else oracle.go_on(examined, len(trial.store.steps), None)
            )
        if violation is not None:
            return f"{violation.kind}: {violation.detail}"
        run = CrashRun(self.base.subject, self.base.shape, CrashPlan(self._limits, nested_limit=0))
        points = Points.at(
            {*self._points(0, trial.first_end), *self._points(trial.first_end, len(trial.store.steps))}
        )
        run.run(self._medium.copy(), trial.store.steps, History(self.base.disk), points=points)
        self.tally.states += run.tally.distinct
        return next(map(str, run.tally.findings), None)

    def _points(self, start: int, end: int) -> list[int]:
        """Moments of a part of the record, spread evenly, its end among them."""
        return list(range(end, start, -max(1, (end - start) // self._power_failures)))


class _Trial:
    """One image, one failure."""

    def __init__(self, base: CrashBase, fault: Fault) -> None:
        self.base = base
        self.fault = fault
        self.store = RecordingStore(base.content)
        self.wrong: str | None = None
        """The first thing that should not have been."""
        self.first_end = 0
        """How many steps there were when the process that met the failure had ended."""

    def run(self, operations: Sequence[Operation]) -> Aftermath:
        """Do the operations, the failing one once, those after it all the same; by another process if need be."""
        with fixed_entropy("fault"):
            self.store.fault = self.fault
            driver = self._open()
            if driver is None:
                return Aftermath.WENT_ON
            aftermath, undone = self._perform_all(driver, operations)
            self.first_end = len(self.store.steps)
            if undone and self.wrong is None:
                self._go_on(driver, undone)
        return aftermath

    def _perform_all(
        self, driver: Driver, operations: Sequence[Operation]
    ) -> tuple[Aftermath, Sequence[Operation]]:
        """Do the operations and close; tell what became of the image, and what to ask another process for."""
        for number, operation in enumerate(operations):
            poisoned = self._perform(driver, operation)
            if poisoned:
                self._refuses(driver)
                return Aftermath.POISONED, operations[number:]
            if self.wrong is not None:
                break
        if self.wrong is None and self._close_fails(driver):
            return Aftermath.CLOSE_FAILED, operations
        return Aftermath.WENT_ON if self.fault.hit else Aftermath.UNTOUCHED, ()

    def _go_on(self, driver: Driver, undone: Sequence[Operation]) -> None:
        """Another process: what the first one had not made durable may never be, whatever flush succeeds now."""
        self.store.fault = None
        try:
            driver.perform_all((Operation(Verb.KILL), *undone, Operation(Verb.FLUSH)))
        except BaseException as error:
            self.wrong = f"another process could not go on: {error!r}"

    def _open(self) -> Driver | None:
        try:
            return Driver(self.base.subject, self.store, self.base.shape)
        except BaseException as error:
            if error is not self.fault.error:
                self.wrong = f"opening raised {error!r}"
            if self.store.changes:
                self.wrong = "a failed open has written"
            return None

    def _perform(self, driver: Driver, operation: Operation) -> bool:
        """Do an operation; tell whether the image is poisoned since."""
        try:
            driver.perform(operation)
        except BaseException as error:
            if not self._is_expected(driver, error, str(operation)):
                return False
            if operation.verb is Verb.REOPEN:
                # A close that fails is the end of the session, half done or not.
                driver.device.close()
                self.store.fault = None
                driver.device = self.base.subject.open(self.store)
                return False
            return self._is_poisoned(driver)
        return False

    def _is_expected(self, driver: Driver, error: BaseException, operation: str) -> bool:
        expected = error is self.fault.error or (self.fault.hit and driver.subject.is_poisoned(error))
        if not expected:
            self.wrong = f"{operation} raised {error!r}"
        return expected

    def _is_poisoned(self, driver: Driver) -> bool:
        try:
            driver.device.flush()
        except BaseException as error:
            if not driver.subject.is_poisoned(error):
                self.wrong = f"a flush after the failure raised {error!r}"
            return True
        return False

    def _refuses(self, driver: Driver) -> None:
        """A poisoned image refuses everything, and closing it writes nothing."""
        device, before = driver.device, len(self.store.changes)
        calls: dict[str, Callable[[], object]] = {
            "pread": lambda: device.pread(512, 0),
            "pwrite": lambda: device.pwrite(bytes(512), 0),
            "write_zeroes": lambda: device.write_zeroes(512, 0),
            "trim": lambda: device.trim(512, 0),
            "flush": device.flush,
        }
        for name, call in calls.items():
            try:
                call()
            except Exception as error:
                if not driver.subject.is_poisoned(error):
                    self.wrong = f"{name} of a poisoned image raised {error!r}"
            else:
                self.wrong = f"{name} of a poisoned image succeeded"
        try:
            device.close()
        except Exception as error:
            self.wrong = f"closing a poisoned image raised {error!r}"
        if len(self.store.changes) > before:
            self.wrong = "closing a poisoned image has written"

    def _close_fails(self, driver: Driver) -> bool:
        try:
            driver.close()
        except BaseException as error:
            return self._is_expected(driver, error, "close")
        return False


def standard_faults() -> Iterator[tuple[Call, Callable[[], BaseException], int]]:
    """Kinds of failure: (call, what it raises, sectors that are transferred before it does)."""
    import errno

    def full() -> BaseException:
        return OSError(errno.ENOSPC, "no space left")

    def broken() -> BaseException:
        return OSError(errno.EIO, "input/output error")

    yield Call.PREAD, broken, 0
    yield Call.PREAD, KeyboardInterrupt, 1
    for call in (Call.PWRITE, Call.WRITE_ZEROES):
        yield call, broken, 0
        yield call, full, 1
        yield call, KeyboardInterrupt, 0
        yield call, KeyboardInterrupt, 1 << 40
    yield Call.PUNCH_HOLE, broken, 1
    yield Call.RESERVE, full, 0
    yield Call.TRUNCATE, full, 0
    yield Call.TRUNCATE, KeyboardInterrupt, 0
    yield Call.FLUSH, broken, 0
    yield Call.FLUSH, KeyboardInterrupt, 0
