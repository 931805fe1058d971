"""Whichever call of the store fails, nothing acknowledged is lost: the image goes on, or it is poisoned."""

from collections.abc import Callable

import pytest

from proof.crash.bases import BASES
from proof.crash.faults import STANDARD_PROGRAM, Aftermath, FaultLoop, standard_faults
from proof.crash.workloads import SHORT_LOG
from vhdx.testing.crash import Call

FAULTS = list(standard_faults())


@pytest.mark.parametrize("name", ["dynamic", "child-without-bitmap", "fixed", "no-log", "foreign-log"])
@pytest.mark.parametrize(
    ("call", "make_error", "sectors_done"),
    FAULTS,
    ids=[f"{call.value}-{type(make()).__name__}-{sectors}" for call, make, sectors in FAULTS],
)
def test_a_failing_call_loses_nothing_that_was_acknowledged(
    name: str, call: Call, make_error: Callable[[], BaseException], sectors_done: int
) -> None:
    loop = FaultLoop(BASES[name](), STANDARD_PROGRAM)
    with loop.base.subject.tuned(log_capacity=SHORT_LOG):
        tally = loop.run(call, make_error, sectors_done=sectors_done)
    assert not tally.findings, tally.findings[0]
    assert tally.aftermaths[Aftermath.UNTOUCHED] == 1


@pytest.mark.parametrize("call", [Call.PWRITE, Call.FLUSH])
def test_a_failure_in_a_commit_poisons(call: Call) -> None:
    tally = FaultLoop(BASES["dynamic"](), STANDARD_PROGRAM).run(call, OSError)
    assert tally.aftermaths[Aftermath.POISONED] > 5


def test_a_full_disk_during_growth_is_an_ordinary_error() -> None:
    tally = FaultLoop(BASES["child-without-bitmap"](), STANDARD_PROGRAM).run(Call.TRUNCATE, OSError)
    assert tally.aftermaths[Aftermath.WENT_ON]
    assert not tally.aftermaths[Aftermath.POISONED]
