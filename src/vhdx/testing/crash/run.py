"""Tries every crash that a record allows, and counts what it tried."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vhdx.testing.crash.history import History, InitialContent
from vhdx.testing.crash.limits import CrashLimits, Points
from vhdx.testing.crash.medium import MediaFault, Medium
from vhdx.testing.crash.operations import DiskShape, Driver, Operation
from vhdx.testing.crash.oracle import Examined, Oracle, Violation
from vhdx.testing.crash.pages import Content
from vhdx.testing.crash.recording_store import Change, RecordingStore, Step, StepKind
from vhdx.testing.crash.states import CrashEnumerator, CrashState
from vhdx.testing.crash.subject import CrashSubject, ReplayEffect, fixed_entropy
from vhdx.testing.crash.tally import CrashFinding, CrashTally, Moment, Side

MomentNames = Callable[[Content, Sequence[Step]], list[Moment]]
"""Names what a writer had issued last after each number of steps of a record, from the file it began with."""

_NESTED: Final = CrashLimits(
    all_subsets=4, random_subsets=4, random_tears=1, per_point=2, faults_at_rest=False
)


_NO_LIMITS: Final = CrashLimits()


def _one_name(_: Content, steps: Sequence[Step]) -> list[Moment]:
    return [Moment("any", None)] * (len(steps) + 1)


@dataclass(frozen=True, slots=True)
class CrashPlan:
    """How to try the crashes of records, and when to stop."""

    limits: CrashLimits = _NO_LIMITS
    nested_limit: int = 4
    """How many second crashes are tried after a state that needs a replay: in the replay, and in what follows it.

    After every fourth of the other states one is tried. After every second state of which the medium has lost a
    piece, one is tried while the writer changes what it keeps twice. 0: none at all.
    """
    max_states: int | None = None
    """The run is done after so many distinct states; None: no limit."""
    max_findings: int = 1
    """The run is done after so many violations."""
    moment_names: MomentNames = _one_name


_THOROUGH: Final = CrashPlan()
_EVERYWHERE: Final = Points()


class CrashRun:
    """Tries the crashes of one record after the other."""

    def __init__(
        self,
        subject: CrashSubject,
        shape: DiskShape,
        plan: CrashPlan = _THOROUGH,
        *,
        tally: CrashTally | None = None,
        seed: int | str = 0,
    ) -> None:
        """`tally`: where to count, if several runs are to be counted together."""
        self.subject = subject
        self.plan = plan
        self.oracle = Oracle(subject, shape)
        self.tally = tally or CrashTally()
        self._faults = subject.media_faults() if plan.limits.media_faults else ()
        self._random = random.Random(seed)

    @property
    def is_done(self) -> bool:
        """Whether there is no point in going on."""
        tally, plan = self.tally, self.plan
        enough = plan.max_states is not None and tally.distinct >= plan.max_states
        return enough or len(tally.findings) >= plan.max_findings

    def run(
        self,
        start: Content | Medium,
        steps: Sequence[Step],
        history: History,
        *,
        workload: str = "",
        points: Points = _EVERYWHERE,
    ) -> None:
        """Try the crashes of one record.

        `start`: the file at its beginning; `history`: what the disk may hold then; `workload`: what findings call it.
        """
        epoch = 0
        moments = self.plan.moment_names(start if isinstance(start, Content) else start.content, steps)

        def observe(label: object) -> bool:
            nonlocal epoch
            shrunk = history.observe(label)
            epoch += shrunk
            return shrunk

        enumerator = CrashEnumerator(
            start,
            steps,
            limits=self.plan.limits,
            media_faults=self._faults,
            points=points,
            seed=self._random.getrandbits(32),
        )
        judged: set[tuple[int, int]] = set()
        for state in enumerator.states(observe):
            if (state.digest, epoch) not in judged:
                judged.add((state.digest, epoch))
                violation = self._judge(state, history, enumerator.medium)
                if violation is not None:
                    self.tally.findings.append(CrashFinding(violation, workload, str(state)))
            self._meet(state, moments[state.point])
            if self.is_done:
                return

    def judge_closed(self, content: Content, workload: str) -> None:
        """Judge what a writer left that came to its end: no fault of any kind, and an empty log."""
        faults = self.subject.faults(content)
        if faults:
            violation = Violation("after a close: check finds faults", "; ".join(faults))
            self.tally.findings.append(CrashFinding(violation, workload, "no crash"))

    def _judge(self, state: CrashState, history: History, medium: Medium) -> Violation | None:
        tally = self.tally
        content = state.content()
        is_new = state.digest not in tally.seen
        with fixed_entropy(f"after {state.digest}"):
            examined = self.oracle.examine(content, history, fault=state.fault, check=is_new)
            tally.revisited += not is_new
            if isinstance(examined, Violation):
                return examined
            if not is_new:
                return None
            effect = self._count(state, content, examined)
            if isinstance(effect, Violation):
                return effect
            violation = self.oracle.go_on(examined, state.digest, state.fault)
        if violation is None and self.plan.nested_limit:
            return self._interrupt(state, content, examined, medium, is_dirty=effect.is_dirty)
        return violation

    def _count(self, state: CrashState, content: Content, examined: Examined) -> ReplayEffect | Violation:
        """Count a new state, and what its replay does, unless something is wrong with that."""
        effect = self.oracle.replay(content, examined)
        if isinstance(effect, ReplayEffect):
            changes = effect.replayed is not content
            self.tally.count(state.digest, is_dirty=effect.is_dirty, changes_bytes=changes)
        return effect

    def _meet(self, state: CrashState, moment: Moment) -> None:
        self.tally.meet(Side(moment.arrow, state.keeps(moment.change)), state.digest)

    def _interrupt(
        self, state: CrashState, content: Content, examined: Examined, medium: Medium, *, is_dirty: bool
    ) -> Violation | None:
        """Crash the replay itself, and what was written after it: at some moments.

        The medium may lose what is being written then; what was at rest it has lost the first time, or never.
        """
        steps = examined.store.steps
        points, seed = self._second_points(state, steps, is_dirty=is_dirty), self._random.getrandbits(32)
        if not points:
            return None
        history = History(examined.windows)
        moments = self.plan.moment_names(content, steps)
        enumerator = CrashEnumerator(
            medium.branch(state.delta),
            steps,
            limits=_NESTED,
            media_faults=self._faults,
            points=Points.at(points),
            seed=seed,
        )
        for nested in enumerator.states(history.observe):
            violation = self._judge_second(nested, history, state.fault or nested.fault)
            if violation is not None:
                return Violation(violation.kind, f"{violation.detail}; second {nested}")
            self._meet(nested, moments[nested.point])
        return None

    def _second_points(self, state: CrashState, steps: Sequence[Step], *, is_dirty: bool) -> frozenset[int]:
        """Moments of what followed a crash; after every fourth, that when the further flush had completed, too."""
        points = [point for point, step in enumerate(steps, 1) if step.kind is StepKind.FLUSHED]
        ended = max(point for point, step in enumerate(steps) if step.kind is StepKind.MARK)
        chosen = [point for point in points if point <= ended][-1:] if state.digest % 4 == 1 else []
        issued = [point for point, step in enumerate(steps, 1) if step.kind is StepKind.ISSUED]
        if state.faults:
            twice = [point for point in issued if self._is_kept_twice(steps[point - 1].change)]
            return frozenset(chosen + self._random.sample(twice, min(len(twice), state.digest % 2)))
        count = self.plan.nested_limit if is_dirty else int(state.digest % 4 == 2)
        return frozenset(chosen + self._random.sample(points + issued, min(len(points + issued), count)))

    def _is_kept_twice(self, change: Change | None) -> bool:
        return change is not None and any(fault.is_hit_by(change) for fault in self._faults)

    def _judge_second(
        self, nested: CrashState, history: History, fault: MediaFault | None
    ) -> Violation | None:
        is_new = nested.digest not in self.tally.seen
        content = nested.content()
        with fixed_entropy(f"after {nested.digest}"):
            examined = self.oracle.examine(content, history, label="again: ", fault=fault, check=is_new)
            if isinstance(examined, Violation):
                return examined
            effect = self._count(nested, content, examined) if is_new else None
        if isinstance(effect, Violation):
            return effect
        self.tally.nested += is_new
        return None


def try_crashes(
    subject: CrashSubject,
    shape: DiskShape,
    start: Content,
    operations: Iterable[Operation],
    *,
    initial: InitialContent,
    plan: CrashPlan = _THOROUGH,
) -> CrashTally:
    """Do operations on a file that begins as `start`, close it, and try every crash of that.

    `initial`: what the disk holds before the first operation. Raises: what an operation does.
    """
    store = RecordingStore(start)
    driver = Driver(subject, store, shape)
    driver.perform_all(operations)
    driver.close()
    run = CrashRun(subject, shape, plan)
    run.judge_closed(store.content, "the operations")
    run.run(store.start, store.steps, History(initial), workload="the operations")
    return run.tally
