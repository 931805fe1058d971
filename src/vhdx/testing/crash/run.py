"""Tries every crash that a record allows, and counts what it tried."""

import random
from collections.abc import Callable, Container, Sequence
from typing import Final

from vhdx.testing.crash.history import History
from vhdx.testing.crash.medium import Medium
from vhdx.testing.crash.operations import DiskShape
from vhdx.testing.crash.oracle import Examined, Oracle, Violation
from vhdx.testing.crash.pages import Content
from vhdx.testing.crash.recording_store import Change, Step, StepKind
from vhdx.testing.crash.states import CrashEnumerator, CrashLimits, CrashState, MediaFault, Points
from vhdx.testing.crash.subject import CrashSubject, ReplayEffect, fixed_entropy
from vhdx.testing.crash.tally import CrashFinding, CrashTally, Moment, Side

Roles = Callable[[Content, Sequence[Step]], list[Moment]]
"""Names what a writer had issued last after each number of steps of a record, from the file it began with."""

_NESTED: Final = CrashLimits(
    all_subsets=4, random_subsets=4, random_tears=1, per_point=2, faults_at_rest=False
)


def _no_roles(_: Content, steps: Sequence[Step]) -> list[Moment]:
    return [Moment("any", None)] * (len(steps) + 1)


class CrashRun:
    """Tries the crashes of one record after the other."""

    def __init__(
        self,
        subject: CrashSubject,
        shape: DiskShape,
        *,
        limits: CrashLimits | None = None,
        nested_limit: int = 4,
        roles: Roles = _no_roles,
        tally: CrashTally | None = None,
        max_states: int | None = None,
        max_findings: int = 1,
        seed: int | str = 0,
    ) -> None:
        """`nested_limit`: moments of what follows a crash at which a second one is tried.

        So many for a state that needs a replay, one for every fourth of the others; and for every second one of
        which the medium has lost a piece, one while the writer changes what it keeps twice.
        It stops after `max_states` distinct states, or after `max_findings` violations.
        """
        self.subject = subject
        self.oracle = Oracle(subject, shape)
        self.tally = tally or CrashTally()
        self.limits = limits or CrashLimits()
        self.nested_limit = nested_limit
        self.max_states = max_states
        self.max_findings = max_findings
        self._roles = roles
        self._faults = subject.media_faults() if self.limits.media_faults else ()
        self._random = random.Random(seed)

    @property
    def is_done(self) -> bool:
        """Whether there is no point in going on."""
        tally = self.tally
        enough = self.max_states is not None and tally.distinct >= self.max_states
        return enough or len(tally.findings) >= self.max_findings

    def run(
        self,
        start: Content | Medium,
        steps: Sequence[Step],
        history: History,
        *,
        workload: str = "",
        first_point: int = 0,
        only_points: Container[int] | Points | None = None,
    ) -> None:
        """Try the crashes of one record. `history` is what the disk may hold at its beginning.

        The points are those of `CrashEnumerator`.
        """
        epoch = 0
        moments = self._roles(start if isinstance(start, Content) else start.content, steps)

        def observe(label: object) -> bool:
            nonlocal epoch
            shrunk = history.observe(label)
            epoch += shrunk
            return shrunk

        enumerator = CrashEnumerator(
            start,
            steps,
            limits=self.limits,
            media_faults=self._faults,
            observer=observe,
            first_point=first_point,
            only_points=only_points,
            seed=self._random.getrandbits(32),
        )
        judged: set[tuple[int, int]] = set()
        for state in enumerator:
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
            if not is_new:
                tally.revisited += 1
                return examined.violation
            effect = self._count(state, content, examined)
            if not isinstance(effect, ReplayEffect):
                return effect
            violation = self.oracle.go_on(examined, state.digest, state.fault)
        if violation is None and self.nested_limit:
            return self._interrupt(state, content, examined, medium, is_dirty=effect.is_dirty)
        return violation

    def _count(self, state: CrashState, content: Content, examined: Examined) -> ReplayEffect | Violation:
        """Count a new state, and what its replay does, unless something is wrong with it."""
        effect = examined.violation or self.oracle.replay(content, examined)
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
        assert examined.windows is not None
        assert examined.store is not None
        steps = examined.store.steps
        points, seed = self._second_points(state, steps, is_dirty=is_dirty), self._random.getrandbits(32)
        if not points:
            return None
        history = History(examined.windows)
        moments = self._roles(content, steps)
        enumerator = CrashEnumerator(
            medium.branch(state.delta),
            steps,
            limits=_NESTED,
            media_faults=self._faults,
            observer=history.observe,
            only_points=points,
            seed=seed,
        )
        for nested in enumerator:
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
        count = self.nested_limit if is_dirty else int(state.digest % 4 == 2)
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
            effect = self._count(nested, content, examined) if is_new else examined.violation
        if isinstance(effect, Violation):
            return effect
        self.tally.nested += is_new
        return None
