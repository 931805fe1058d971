"""Every state in which a crash may leave a file, from the record of what was done to it.

What a crash may keep: of the changes since the last completed flush any subset, in the order in which they
were issued where they overlap; of each write any subset of its 512-byte sectors; the new length of a file
without the data that went with it, or the data without the length. Up to a number of pending changes all
subsets are tried, above it all prefixes, single drops, single keeps, pairs and random ones. Each change is torn,
the newest one together with each other one, and any number of them at random. A crash is tried after every step
of the record. Of the pieces that a file keeps twice, the medium may lose one at any time, and with the power all
those that were being written, whatever was kept of the changes.

The digest of a state is known before a byte of the file is put together; `content` puts it together.
"""

import random
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from enum import Enum
from itertools import combinations, product
from typing import Final, NamedTuple

from vhdx._units import div_ceil
from vhdx.testing.crash.limits import CrashLimits, Points
from vhdx.testing.crash.medium import Choice, Delta, MediaFault, Medium, Sector, sectors_of
from vhdx.testing.crash.pages import SECTOR_SIZE, Content
from vhdx.testing.crash.recording_store import Change, ChangeKind, Step, StepKind

Plan = tuple[Choice, ...]
"""What a crash keeps of the pending changes."""

_EVERYWHERE: Final = Points()
_TORN: Final = 16
"""Changes that are torn together with the newest one, and ways to tear any, at one point."""


class CrashState(NamedTuple):
    """One state of a file. It costs little until `content` is called."""

    point: int
    """Steps of the record before the crash."""
    digest: int
    choices: tuple[Choice, ...]
    faults: tuple[MediaFault, ...]
    """What the medium lost."""
    delta: Delta
    pending: tuple[Change, ...]
    """Of what was not durable at that moment, `choices` are what was kept."""

    @property
    def fault(self) -> MediaFault | None:
        """What the medium lost; of several pieces, the first."""
        return next(iter(self.faults), None)

    def keeps(self, change: Change | None) -> bool:
        """Whether all of a change that had been issued is there, as far as the crash and the medium decide."""
        if change is not None and any(fault.is_hit_by(change) for fault in self.faults):
            return False
        if change not in self.pending:
            return True
        return any(
            choice.change is change and choice.sectors is None and choice.keeps_size
            for choice in self.choices
        )

    def content(self) -> Content:
        """Put the file together."""
        return self.delta.content()

    def __str__(self) -> str:
        kept = "; ".join(map(str, self.choices)) or "nothing"
        lost = " and ".join(fault.name for fault in self.faults)
        fault = f"; {lost} lost by the medium" if lost else ""
        return f"crash after step {self.point}, of what was pending kept: {kept}{fault}"


Observer = Callable[[object], bool]
"""Is shown a mark of the record; true: from now on less is allowed than before."""


class _New(Enum):
    """Which states after a step can show something that no state before it could."""

    NOTHING = "none"
    NEWEST = "those that keep something of the newest change"
    ALL = "all"


class CrashEnumerator:
    """Iterate over it once. States that are equal to earlier ones may come again."""

    def __init__(
        self,
        start: Content | Medium,
        steps: Sequence[Step],
        *,
        limits: CrashLimits | None = None,
        media_faults: Sequence[MediaFault] = (),
        points: Points = _EVERYWHERE,
        seed: int = 0,
    ) -> None:
        self.medium = start if isinstance(start, Medium) else Medium(start)
        self.pending: list[Change] = []
        self.point = 0
        self._steps = steps
        self._limits = limits or CrashLimits()
        self._faults = media_faults if self._limits.media_faults else ()
        self._first_point = points.first
        self._chosen = points.drawn(seed)
        self._random = random.Random(seed)
        self._written: dict[int, dict[int, Sector]] = {}
        self._dropped: set[int] = set()
        """Changes that a failed flush should have made durable, and no later one will."""

    def __iter__(self) -> Iterator[CrashState]:
        return self.states(lambda _: False)

    def states(self, observe: Observer) -> Iterator[CrashState]:
        """The states, one moment after the other; `observe` is shown every mark as the enumeration passes it."""
        if self._first_point == 0 and self._chosen is None:
            yield from self._states(newest_only=False)
        for point, step in enumerate(self._steps, 1):
            self.point = point
            new = self._pass(step, observe)
            if self._chosen is not None:
                if point in self._chosen:
                    yield from self._states(newest_only=False)
            elif point == self._first_point:
                yield from self._states(newest_only=False)
            elif point > self._first_point and new is not _New.NOTHING:
                yield from self._states(newest_only=new is _New.NEWEST)

    def _pass(self, step: Step, observe: Observer) -> _New:
        """Go over a step; tell what a crash just after it can show that a crash just before it cannot."""
        match step.kind:
            case StepKind.ISSUED:
                assert step.change is not None
                written = self._written
                before = [written[change.number] for change in self.pending]
                written[step.change.number] = self.medium.written_by(step.change, before)
                self.pending.append(step.change)
                return _New.NEWEST
            case StepKind.FLUSHED:
                self._make_durable({change.number for change in step.covered})
                return _New.ALL
            case StepKind.FLUSH_FAILED:
                self._dropped.update(change.number for change in step.covered)
                return _New.NOTHING
            case StepKind.MARK:
                return _New.ALL if observe(step.label) else _New.NOTHING
            case StepKind.RETURNED | StepKind.FLUSH_BEGUN:
                return _New.NOTHING

    def _make_durable(self, covered: Set[int]) -> None:
        """A flush has completed. Of what an earlier one failed to make durable, only the length of the file is."""
        kept, pending = [], []
        for change in self.pending:
            is_dropped = change.number in self._dropped
            if is_dropped and change.kind is not ChangeKind.TRUNCATE:
                kept.append(Choice(change, frozenset()))
                pending.append(replace(change, size_before=change.size_after))
            elif is_dropped or change.number in covered:
                kept.append(Choice(change))
            else:
                pending.append(change)
        self.medium.keep(self.medium.compose(kept, self._written))
        self.pending = pending
        self._supersede([choice.change for choice in kept if choice.sectors is None])

    def _supersede(self, durable: Sequence[Change]) -> None:
        """What is durable is not overwritten by what was issued before it and is pending still."""
        for change in self.pending:
            newer = [other for other in durable if other.number > change.number]
            if newer:
                over = set().union(*(self._written[other.number] for other in newer))
                cuts = [other.length for other in newer if other.kind is ChangeKind.TRUNCATE]
                end = div_ceil(min([change.size_after, *cuts]), SECTOR_SIZE)
                self._written[change.number] = {
                    number: sector
                    for number, sector in self._written[change.number].items()
                    if number not in over and number < end
                }

    def _plans(self, *, newest_only: bool) -> Iterator[Plan]:
        """Which changes to keep, the plainest ways first."""
        count = len(self.pending)
        newest = 1 << count - 1 if newest_only and count else 0
        for mask in _subsets(count, self._limits, self._random):
            if mask & newest == newest:
                yield self._whole(mask)
        yield from self._torn_alone()
        yield from self._torn_together()

    def _whole(self, mask: int) -> Plan:
        """Keep changes as a whole: those whose bits are set."""
        return tuple(Choice(change) for index, change in enumerate(self.pending) if mask >> index & 1)

    def _with(self, mask: int, *torn: Choice) -> Plan:
        """Keep parts of some changes, and others as a whole."""
        parts = {choice.change: choice for choice in torn}
        return tuple(
            parts.get(change) or Choice(change)
            for at, change in enumerate(self.pending)
            if change in parts or mask >> at & 1
        )

    def _torn_alone(self) -> Iterator[Plan]:
        count = len(self.pending)
        everything = (1 << count) - 1
        for index in reversed(range(count)):
            contexts = [everything]
            if index == count - 1:
                contexts += [0, self._random.getrandbits(count)]
            for torn in self._tears(self.pending[index], every=index == count - 1):
                yield from dict.fromkeys(self._with(context, torn) for context in contexts)

    def _torn_together(self) -> Iterator[Plan]:
        """The newest change and another one; then any of them."""
        if len(self.pending) < 2:
            return
        *others, newest = self.pending
        bound, rng = min(self._limits.per_point or _TORN, _TORN), self._random
        tears = self._tears(newest, every=True)
        for other in rng.sample(others, min(len(others), bound)) if tears else ():
            pairs = list(product(tears, self._tears(other, every=True)))
            for pair in rng.sample(pairs, min(len(pairs), 4)):
                yield self._with(rng.choice((0, -1)), *pair)
        for _ in range(bound):
            yield tuple(choice for choice in map(self._any_part, self.pending) if choice is not None)

    def _any_part(self, change: Change) -> Choice | None:
        """All of a change, nothing, or a part."""
        lot = self._random.randrange(3)
        tears = self._tears(change, every=False) if lot == 2 else []
        return self._random.choice(tears) if tears else Choice(change) if lot else None

    def _tears(self, change: Change, *, every: bool) -> list[Choice]:
        """Ways in which a change may be kept in part."""
        if change.kind is ChangeKind.TRUNCATE:
            return []
        limits, numbers = self._limits, sorted(self._written[change.number])
        count = len(numbers)
        if every and count <= limits.every_tear:
            cuts, holes = list(range(1, count)), list(range(count))
        elif every:
            cuts, holes = [1, count // 2, count - 1], [0, count // 2, count - 1]
        else:
            cuts, holes = [], []
        kept = [frozenset(numbers[:cut]) for cut in cuts]
        if count > 1:
            kept += [frozenset(numbers[:hole] + numbers[hole + 1 :]) for hole in holes]
            for _ in range(limits.random_tears if every else 1):
                bits = self._random.getrandbits(count)
                kept.append(frozenset(number for at, number in enumerate(numbers) if bits >> at & 1))
        torn = [Choice(change, sectors) for sectors in dict.fromkeys(kept)]
        if change.size_after > change.size_before:
            torn += [Choice(change, None, False), Choice(change, frozenset(), True)]
        return torn

    def _states(self, *, newest_only: bool) -> Iterator[CrashState]:
        chosen = list(self._plans(newest_only=newest_only))
        limit = self._limits.per_point
        if limit is not None and len(chosen) > limit:
            plain = chosen[: (limit + 1) // 2]
            chosen = plain + self._random.sample(chosen[len(plain) :], limit - len(plain))
        yield from map(self._state, chosen)
        wrecked = [fault for fault in self._faults if any(map(fault.is_hit_by, self.pending))]
        alone = self._faults if self._limits.faults_at_rest else wrecked
        for faults in [*([fault] for fault in alone), *([wrecked] if len(wrecked) > 1 else [])]:
            for choices in self._plans_beside_a_fault():
                yield self._state(choices, faults)

    def _plans_beside_a_fault(self) -> Iterator[Plan]:
        """All changes, none, and some of the most telling other ways; always others, if there is a limit."""
        count, limit = len(self.pending), self._limits.per_point
        everything = (1 << count) - 1
        singles = [1 << index for index in range(count)]
        prefixes = [(1 << length) - 1 for length in range(1, count)]
        others = dict.fromkeys([*singles, *(everything & ~single for single in singles), *prefixes])
        telling = [mask for mask in others if mask not in (0, everything)]
        if limit is not None:
            telling = self._random.sample(telling, min(len(telling), (limit + 2) // 8))
        yield from map(self._whole, dict.fromkeys([everything, 0, *telling]))

    def _state(self, choices: Plan, faults: Sequence[MediaFault] = ()) -> CrashState:
        delta = self.medium.compose(choices, self._written)
        for fault in faults:
            delta.sectors.update(sectors_of(fault.garbage, fault.file_offset))
        digest = self.medium.digest_with(delta)
        return CrashState(self.point, digest, choices, tuple(faults), delta, tuple(self.pending))


def _subsets(count: int, limits: CrashLimits, rng: random.Random) -> Iterator[int]:
    """Bit masks of subsets to keep, the most telling first: all, the newest alone, none, all but one ..."""
    everything = (1 << count) - 1
    singles = [1 << index for index in range(count)]
    found = [everything, *singles[-1:], 0]
    found += [everything & ~single for single in singles] + singles
    if count <= limits.all_subsets:
        found += rng.sample(range(1 << count), 1 << count)
    else:
        found += [(1 << length) - 1 for length in range(1, count)]
        pairs = [first | second for first, second in combinations(singles, 2)]
        found += [everything & ~pair for pair in pairs] + pairs
        found += [rng.getrandbits(count) for _ in range(limits.random_subsets)]
    yield from dict.fromkeys(found)


def durable_content(start: Content, steps: Sequence[Step]) -> Content:
    """What is certainly there after a crash at the end of a record: what completed flushes covered."""
    content = start.copy()
    for step in steps:
        for change in step.covered if step.kind is StepKind.FLUSHED else ():
            change.apply(content)
    return content
