"""Whatever a crash leaves of a VHDX file opens, passes the check and holds what had been flushed.

The images, the workloads and the states are those of `vhdx.testing`; proof/crash/enumerate.py tries more of them.
Together these tests try 20,000 distinct states and more of single threads, and others of several.
"""

from collections.abc import Callable

import pytest

from proof.crash.arrows import (
    ARROWS,
    EMPTY_ENTRY,
    END,
    ENTRY,
    GROWTH,
    GUIDS,
    IN_PLACE,
    LOG_ON,
    LOG_PLACE,
    LOG_SPACE,
    PAYLOAD,
    REPLAY,
    REPLAYED,
    RESTART,
    SHRINK,
)
from proof.crash.bases import BASES
from proof.crash.campaign import run_base, run_program
from proof.crash.threads import ThreadProgram, all_programs
from vhdx.testing.crash import Side

LARGE = ("dynamic-32m", "child-32m")
"""Images whose states take several times as long as others'."""
STATES = {name: 800 if name in LARGE else 1850 for name in BASES}
SCHEDULES = 40

USUAL = frozenset((GUIDS, REPLAY, REPLAYED, EMPTY_ENTRY, LOG_ON, PAYLOAD, ENTRY, IN_PLACE, RESTART, END))
"""Arrows of the commit order that every image comes by, but for those that nothing is logged of."""
FEWER = {"fixed": frozenset((GUIDS, PAYLOAD))}
MORE = {
    "no-log": frozenset((LOG_SPACE, LOG_PLACE)),
    "dynamic-4096": frozenset((GROWTH, SHRINK)),
    "child": frozenset((GROWTH, SHRINK)),
}
ALWAYS_CHANGED = (Side(ENTRY, True), Side(REPLAY, False))
NEVER_CHANGED = (Side(EMPTY_ENTRY, True), Side(REPLAYED, True), Side(RESTART, True), Side(END, True))


def arrows_of(name: str) -> frozenset[str]:
    """What the crashes of one image must be tried at, before and after."""
    return FEWER.get(name, USUAL) | MORE.get(name, frozenset())


def test_all_images_together_give_enough_states_and_meet_every_arrow() -> None:
    assert sum(STATES.values()) >= 20_000
    assert frozenset().union(*map(arrows_of, BASES)) == frozenset(ARROWS)


@pytest.mark.parametrize("name", BASES)
def test_no_crash_loses_what_was_flushed(name: str, record_property: Callable[[str, object], None]) -> None:
    tally = run_base(name, STATES[name])
    print(tally.report())
    record_property("crash states", tally.report())
    assert not tally.findings, str(tally.findings[0])
    assert tally.distinct >= STATES[name]
    assert not tally.empty_sides(arrows_of(name))


@pytest.mark.parametrize("program", list(all_programs()), ids=lambda program: program.name.replace(" ", "_"))
def test_threads_do_not_spoil_each_other(program: ThreadProgram) -> None:
    tally = run_program(program, SCHEDULES)
    assert not tally.findings, str(tally.findings[0])
    assert tally.distinct
