"""How thoroughly to look for crash states of a record, and at which of its moments."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from vhdx.testing.crash.recording_store import Step, StepKind


@dataclass(frozen=True, slots=True)
class CrashLimits:
    """How thoroughly to look at each moment."""

    all_subsets: int = 10
    """Pending changes up to which every subset is tried."""
    random_subsets: int = 32
    """Random subsets that are tried where more changes are pending than that."""
    every_tear: int = 16
    """Sectors of a change up to which every prefix and every single loss is tried."""
    random_tears: int = 2
    """Random parts of a change that are tried as well."""
    per_point: int | None = None
    """States tried at one point; None: no limit. The plainest ones are never left out.

    Losses of the medium come on top: each is tried with all that is pending, with nothing, and with an eighth
    as many other subsets; without a limit, with every prefix, single drop and single keep.
    """
    media_faults: bool = True
    """Whether the medium may lose pieces at all: those that the subject names."""
    faults_at_rest: bool = True
    """Whether the medium may lose pieces that nobody is writing."""


@dataclass(frozen=True, slots=True)
class Points:
    """Moments of a record at which a crash is tried, each named by the number of steps before it."""

    first: int = 0
    """Moments before this one are not tried, because they have been."""
    candidates: tuple[int, ...] | None = None
    """The moments to choose from; None: all of them are tried, as far as a crash can show something new."""
    wanted: int | None = None
    """How many of the candidates are drawn; None: every one."""
    always: tuple[int, ...] = ()
    """Those that are tried whatever is drawn."""

    @classmethod
    def at(cls, points: Iterable[int]) -> Self:
        """These moments and no others."""
        return cls(candidates=tuple(points))

    def drawn(self, seed: int) -> frozenset[int] | None:
        """The moments that a seed decides on; None: all."""
        if self.candidates is None:
            return None
        count = len(self.candidates) if self.wanted is None else self.wanted
        return frozenset([*self.always, *random.Random(seed).sample(self.candidates, count)])


def some_points(
    steps: Sequence[Step], count: int | None, *, first: int = 0, always: Sequence[int] = ()
) -> Points:
    """So many moments of a record, drawn by the seed of the run that is given them; `count` None: all.

    They are just after a change, a completed flush or a mark; those of `always` are among them.
    """
    kinds = (StepKind.ISSUED, StepKind.FLUSHED, StepKind.MARK)
    points = [point for point, step in enumerate(steps, 1) if point >= first and step.kind in kinds]
    if count is None or count >= len(points):
        return Points(first)
    return Points(first, tuple(points), count, tuple(always))
