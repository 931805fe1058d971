"""Judges, from the marks of one record, the reads that ran beside writes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vhdx.testing.crash.history import Action, ActionPhase, InitialContent, Mark
from vhdx.testing.crash.pages import SECTOR_SIZE
from vhdx.testing.crash.recording_store import Step
from vhdx.testing.crash.stamps import describe_sector


class ReadMark(NamedTuple):
    """The mark at the end of a read: what it returned."""

    begun: int
    """Steps of the record when it began."""
    offset: int
    data: bytes


class _Lifetime(NamedTuple):
    action: Action | None
    begun: int
    over: int
    """When it ended or failed."""
    succeeded: bool


def wrong_reads(initial: InitialContent, steps: Sequence[Step]) -> Iterator[str]:
    """Name every sector that a read returned and that the disk did not hold at any moment of the read.

    A sector may hold what any action left that had begun before the read ended, unless another one that
    began after it was over had succeeded before the read began. The process must not have been killed.
    """
    begun: dict[int, int] = {}
    over: dict[int, int] = {}
    succeeded: set[int] = set()
    actions: list[Action] = []
    for point, step in enumerate(steps):
        if isinstance(step.label, Mark):
            number = step.label.action.number
            if step.label.phase is ActionPhase.BEGUN:
                begun[number] = point
                actions.append(step.label.action)
                continue
            over[number] = point
            if step.label.phase is ActionPhase.ENDED:
                succeeded.add(number)
    spans = [
        _Lifetime(
            action,
            begun[action.number],
            over.get(action.number, len(steps)),
            action.number in succeeded,
        )
        for action in actions
    ]
    for point, step in enumerate(steps):
        if isinstance(step.label, ReadMark):
            yield from _judge(step.label, point, spans, initial)


def _judge(read: ReadMark, point: int, spans: Sequence[_Lifetime], initial: InitialContent) -> Iterator[str]:
    for at in range(0, len(read.data), SECTOR_SIZE):
        sector = (read.offset + at) // SECTOR_SIZE
        found = read.data[at : at + SECTOR_SIZE]
        touching = [_Lifetime(None, -1, -1, succeeded=True)]
        touching += [
            span for span in spans if span.action and sector in span.action.sectors and span.begun < point
        ]
        done = [span for span in touching if span.succeeded and span.over < read.begun]
        settled = max((span.begun for span in done), default=-1)
        allowed = [span for span in touching if span.over >= settled]
        values = [
            initial.read(SECTOR_SIZE, sector * SECTOR_SIZE)
            if span.action is None
            else span.action.sectors[sector]
            for span in allowed
        ]
        if found not in values:
            names = ", or ".join(describe_sector(value, sector) for value in values)
            yield f"a read of sector {sector} returned {describe_sector(found, sector)}; allowed: {names}"
