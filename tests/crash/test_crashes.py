"""Whatever a crash leaves of a VHDX file opens, passes the check and holds what had been flushed.

The images, the workloads and the states are those of `vhdx.testing`; crash/enumerate.py tries more of them.
Together these tests try 20,000 distinct states and more of single threads, and others of several.
"""

from collections.abc import Callable

import pytest

from vhdx.testing.crash_bases import BASES
from vhdx.testing.crash_campaign import run_base, run_program
from vhdx.testing.crash_run import INTERRUPTED
from vhdx.testing.roles import ENTRY, GUIDS, IN_PLACE, LOG_OFF, LOG_ON, PAYLOAD
from vhdx.testing.thread_programs import ThreadProgram, all_programs

STATES = 20_000 // len(BASES) + 1
SCHEDULES = 40


@pytest.mark.parametrize("name", BASES)
def test_no_crash_loses_what_was_flushed(name: str, record_property: Callable[[str, object], None]) -> None:
    tally = run_base(name, STATES)
    print(tally.report())
    record_property("crash states", tally.report())
    assert not tally.findings, str(tally.findings[0])
    assert tally.distinct >= STATES


def test_crashes_are_tried_at_every_arrow_of_the_commit() -> None:
    tally = run_base("dynamic", 1500, seed=1)
    for role in (GUIDS, LOG_ON, PAYLOAD, ENTRY, IN_PLACE, LOG_OFF):
        for when in ("pending", "durable"):
            assert tally.by_role[f"{role}, {when}"], f"no crash was tried with {role}, {when}"
    assert tally.by_role[INTERRUPTED]
    assert tally.replay_changes > tally.distinct // 20


@pytest.mark.parametrize("program", list(all_programs()), ids=lambda program: program.name.replace(" ", "_"))
def test_threads_do_not_spoil_each_other(program: ThreadProgram) -> None:
    tally = run_program(program, SCHEDULES)
    assert not tally.findings, str(tally.findings[0])
    assert tally.distinct
