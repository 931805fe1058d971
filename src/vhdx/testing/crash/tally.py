"""The figures of crash runs: how many states were tried, and between which steps of the writer."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from vhdx.testing.crash.oracle import Violation
from vhdx.testing.crash.recording_store import Change


class Moment(NamedTuple):
    """What a writer had issued last when it crashed."""

    arrow: str
    """Name of the step of its commit order."""
    change: Change | None


class Side(NamedTuple):
    """One side of an arrow of the commit order: the step is not, or not wholly, on the medium, or it is."""

    arrow: str
    is_kept: bool


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
    """Of these, those in which a second crash followed the first, in its replay or in the write after it."""
    dirty: int = 0
    changed: int = 0
    """Those whose replay changes bytes of the file."""
    revisited: int = 0
    """Known contents that were compared with what was allowed at another moment."""
    by_side: Counter[Side] = field(default_factory=Counter)
    """Distinct states on each side of an arrow; one content may be met at several arrows."""
    changed_by_side: Counter[Side] = field(default_factory=Counter)
    workloads: Counter[int] = field(default_factory=Counter)
    """Sequences of operations that were crashed, by their length."""
    schedules: int = 0
    """Different records of several threads that were crashed."""
    findings: list[CrashFinding] = field(default_factory=list)
    seen: dict[int, bool] = field(default_factory=dict)
    """Digests of the states, and whether replay changes bytes of them."""
    met: set[tuple[Side, int]] = field(default_factory=set)

    def count(self, digest: int, *, is_dirty: bool, changes_bytes: bool) -> None:
        """Count a new state in which nothing is wrong."""
        self.seen[digest] = changes_bytes
        self.distinct += 1
        self.dirty += is_dirty
        self.changed += changes_bytes

    def meet(self, side: Side, digest: int) -> None:
        """Count a state that has been judged, new or known, at an arrow."""
        if digest in self.seen and (side, digest) not in self.met:
            self.met.add((side, digest))
            self.by_side[side] += 1
            self.changed_by_side[side] += self.seen[digest]

    def add(self, other: "CrashTally") -> None:
        """Add the figures of a run on other images: none of its states is one of these.

        Every figure is summed, what was seen is not. So of two runs on one image a content that both met counts
        twice, in all figures; a caller who wants distinct states keeps the digests of both.
        """
        self.distinct += other.distinct
        self.nested += other.nested
        self.dirty += other.dirty
        self.changed += other.changed
        self.revisited += other.revisited
        self.by_side.update(other.by_side)
        self.changed_by_side.update(other.changed_by_side)
        self.workloads.update(other.workloads)
        self.schedules += other.schedules
        self.findings += other.findings

    def empty_sides(self, arrows: Collection[str]) -> list[Side]:
        """Sides of arrows at which no crash was tried."""
        sides = (Side(arrow, is_kept) for arrow in arrows for is_kept in (False, True))
        return [side for side in sides if not self.by_side[side]]

    def report(self) -> str:
        """The figures: a line each, and one for each arrow, before and after it.

        Within one run states are distinct, at each side of an arrow, too; a content that is met at several arrows
        counts at each, so that the lines of the arrows add up to more than there are states. What `add` has
        put together is sums.
        """
        lines = [
            f"distinct states {self.distinct}, of which {self.nested} crash again in a replay or after it",
            f"dirty {self.dirty}; replay changes bytes in {_share(self.changed, self.distinct)}",
            f"looked at again later {self.revisited}; violations {len(self.findings)}",
            f"sequences crashed, by length: {_listed(self.workloads)}; schedules of threads {self.schedules}",
            "",
            f"{'arrow: what was issued last':32} {'not kept':>9} {'replay':>7} {'kept':>9} {'replay':>7}",
        ]
        for arrow in sorted({side.arrow for side in self.by_side}):
            sides = (Side(arrow, False), Side(arrow, True))
            figures = " ".join(f"{self.by_side[side]:9} {self._share_of(side):>7}" for side in sides)
            lines.append(f"{arrow:32} {figures}")
        return "\n".join(lines)

    def _share_of(self, side: Side) -> str:
        return _share(self.changed_by_side[side], self.by_side[side]) if self.by_side[side] else "-"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.1f} %"


def _listed(counts: Counter[int]) -> str:
    return ", ".join(f"{length}: {count}" for length, count in sorted(counts.items())) or "none"
