"""Tries every crash that a record allows, and counts what it tried."""

import random
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

from vhdx.testing.crash_oracle import Examined, Oracle, Violation
from vhdx.testing.crash_states import CrashEnumerator, CrashLimits, CrashState
from vhdx.testing.history import History
from vhdx.testing.medium import Medium
from vhdx.testing.operations import DiskShape
from vhdx.testing.pages import Content
from vhdx.testing.recording_store import Step
from vhdx.testing.subjects import CrashSubject, fixed_entropy

Roles = Callable[[Content, Sequence[Step]], list[str]]
"""Names what a writer was doing after each number of steps of a record, from the file it began with."""

INTERRUPTED = "a replay, or the write after it, interrupted"
"""Role of states in which a second crash followed the first."""

_NESTED = CrashLimits(all_subsets=4, random_subsets=4, random_tears=1, per_point=2)


def _no_roles(_: Content, steps: Sequence[Step]) -> list[str]:
    return ["any"] * (len(steps) + 1)


@dataclass(frozen=True, slots=True)
class CrashFinding:
    """A violation, and how to come to it."""

    violation: Violation
    workload: str
    state: str

    def __str__(self) -> str:
        return f"{self.violation.kind}: {self.violation.detail}\n  workload: {self.workload}\n  {self.state}"


@dataclass(slots=True)
class CrashTally:
    """What was tried. Distinct states have distinct file contents."""

    distinct: int = 0
    nested: int = 0
    """Of these, those in which a replay was interrupted."""
    dirty: int = 0
    replay_changes: int = 0
    """Those whose replay changes bytes of the file."""
    revisited: int = 0
    """Known contents that were compared with what was allowed at another moment."""
    by_role: Counter[str] = field(default_factory=Counter)
    findings: list[CrashFinding] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def add(self, other: "CrashTally") -> None:
        """Add the figures of a run on other images: none of its states is one of these."""
        self.distinct += other.distinct
        self.nested += other.nested
        self.dirty += other.dirty
        self.replay_changes += other.replay_changes
        self.revisited += other.revisited
        self.by_role.update(other.by_role)
        self.findings += other.findings

    def report(self) -> str:
        """The figures, a line each."""
        share = 100 * self.replay_changes / max(1, self.distinct)
        lines = [
            f"distinct states {self.distinct}, of which {self.nested} interrupt a replay",
            f"dirty {self.dirty}; replay changes bytes in {self.replay_changes} ({share:.0f} %)",
            f"looked at again later {self.revisited}; violations {len(self.findings)}",
        ]
        lines += [f"{count:9} {role}" for role, count in sorted(self.by_role.items())]
        return "\n".join(lines)


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
        seed: int = 0,
    ) -> None:
        """`nested_limit`: interrupted replays tried for each state that needs a replay.

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
        only_points: Container[int] | None = None,
    ) -> None:
        """Try the crashes of one record. `history` is what the disk may hold at its beginning.

        The points are those of `CrashEnumerator`.
        """
        epoch = 0
        roles = self._roles(start if isinstance(start, Content) else start.content, steps)

        def observe(label: object) -> bool:
            nonlocal epoch
            shrunk = history.observe(label)
            epoch += shrunk
            return shrunk

        enumerator = CrashEnumerator(
            start,
            steps,
            limits=self.limits,
            media_faults=self.subject.media_faults(),
            observer=observe,
            first_point=first_point,
            only_points=only_points,
            seed=self._random.getrandbits(32),
        )
        judged: set[tuple[int, int]] = set()
        for state in enumerator:
            if (state.digest, epoch) in judged:
                continue
            judged.add((state.digest, epoch))
            violation = self._judge(state, history, roles[state.point], enumerator.medium)
            if violation is not None:
                self.tally.findings.append(CrashFinding(violation, workload, str(state)))
            if self.is_done:
                return

    def _judge(self, state: CrashState, history: History, role: str, medium: Medium) -> Violation | None:
        tally = self.tally
        content = state.content()
        is_new = state.digest not in tally.seen
        with fixed_entropy(f"after {state.digest}"):
            examined = self.oracle.examine(content, history, fault=state.fault, check=is_new)
            if not is_new:
                tally.revisited += 1
                return examined.violation
            tally.seen.add(state.digest)
            tally.distinct += 1
            tally.by_role[role] += 1
            if examined.violation is not None:
                return examined.violation
            violation = self.oracle.go_on(examined, state.digest, state.fault)
        if violation is not None:
            return violation
        effect = self.subject.replay_effect(content)
        tally.dirty += effect.is_dirty
        tally.replay_changes += effect.changes_bytes
        if effect.is_dirty and state.fault is None and self.nested_limit:
            return self._interrupt(state, examined, medium)
        return None

    def _interrupt(self, state: CrashState, examined: Examined, medium: Medium) -> Violation | None:
        """Crash the replay itself, and what was written after it."""
        assert examined.windows is not None
        assert examined.store is not None
        history = History(examined.windows)
        steps = examined.store.steps
        points = self._random.sample(range(1, len(steps) + 1), min(len(steps), self.nested_limit))
        enumerator = CrashEnumerator(
            medium.branch(state.delta),
            steps,
            limits=_NESTED,
            observer=history.observe,
            only_points=frozenset(points),
            seed=self._random.getrandbits(32),
        )
        for nested in enumerator:
            is_new = nested.digest not in self.tally.seen
            if is_new:
                self.tally.seen.add(nested.digest)
                self.tally.distinct += 1
                self.tally.nested += 1
                self.tally.by_role[INTERRUPTED] += 1
            with fixed_entropy(f"after {nested.digest}"):
                judged = self.oracle.examine(nested.content(), history, label="again: ", check=is_new)
            if judged.violation is not None:
                return Violation(judged.violation.kind, f"{judged.violation.detail}; second {nested}")
        return None
