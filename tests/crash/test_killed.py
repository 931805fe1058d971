"""A process is killed, another one goes on with its file, then the power fails: nothing that was flushed is lost."""

import pytest

from proof.crash.bases import BASES
from proof.crash.campaign import BRIEF
from proof.crash.record_rules import record_faults
from proof.crash.workloads import Workload, crash_run, killed_workloads, record, try_record
from proof.mutants.steps import discover
from vhdx.testing.crash import (
    ActionPhase,
    CrashTally,
    Driver,
    Mark,
    Medium,
    Operation,
    RecordingStore,
    StepKind,
    Verb,
    random_sequence,
)

KILL = Operation(Verb.KILL)


def crashed(name: str) -> tuple[CrashTally, list[str]]:
    """Try the workloads with a kill on an image; return the figures, and the breaches of rules."""
    base, tally, faults = BASES[name](), CrashTally(), list[str]()
    medium = Medium(base.content)
    run = crash_run(base, tally, limits=BRIEF)
    for workload in killed_workloads(base, point_count=20):
        store, first = record(workload)
        faults += record_faults(store.start, store.steps)
        try_record(run, workload, store, first, medium)
    return tally, faults


@pytest.mark.parametrize("name", ["dynamic", "child", "foreign-log"])
def test_a_power_failure_after_a_kill_loses_nothing_that_was_flushed(name: str) -> None:
    tally, faults = crashed(name)
    assert not tally.findings, str(tally.findings[0])
    assert not faults
    assert tally.distinct > 200


def test_the_kit_finds_a_session_that_relies_on_what_another_one_had_not_flushed() -> None:
    name = "session.py _begin_once: no `self.store.flush()`"
    mutant = next(mutant for mutant in discover() if mutant.name == name)
    with mutant.made():
        tally, faults = crashed("dynamic")
    assert any(finding.violation.kind == "does not open" for finding in tally.findings)
    assert any("the other header is not durable yet" in fault for fault in faults)


def test_a_kill_calls_nothing_and_keeps_what_is_pending() -> None:
    base = BASES["dynamic"]()
    store = RecordingStore(base.content)
    driver = Driver(base.subject, store, base.shape)
    driver.perform(Operation(Verb.WRITE, 0, 512))
    dead, count = driver.device, len(store.steps)
    driver.perform(KILL)
    assert driver.device is not dead
    assert {step.kind for step in store.steps[count:]} == {StepKind.MARK}
    store.flush()
    assert store.steps[-1].covered


@pytest.mark.parametrize(("number", "changes"), [(1, 0), (3, 1), (5, 2)])
def test_a_process_is_killed_before_a_call_of_the_store(number: int, changes: int) -> None:
    base = BASES["dynamic"]()
    store = RecordingStore(base.content)
    driver = Driver(base.subject, store, base.shape)
    driver.perform(Operation(Verb.WRITE, 0, 512, killed_at=number))
    assert len(store.changes) == changes
    assert [step.label.phase for step in store.steps if isinstance(step.label, Mark)] == [
        ActionPhase.BEGUN,
        ActionPhase.KILLED,
    ]
    driver.perform(Operation(Verb.WRITE, 0, 512))


def test_a_close_that_follows_a_kill_alone_is_not_judged() -> None:
    base = BASES["dynamic"]()
    operations = (Operation(Verb.WRITE, 0, 512), Operation(Verb.FLUSH), KILL)
    workload = Workload(base, operations, closes=True, point_count=1)
    store, first = record(workload)
    run = crash_run(base, CrashTally(), limits=BRIEF)
    try_record(run, workload, store, first, Medium(base.content))
    assert not run.tally.findings


def test_long_random_sequences_have_kills_between_and_in_operations() -> None:
    shape = BASES["dynamic"]().shape
    operations = [operation for seed in range(10) for operation in random_sequence(shape, 50, seed)]
    assert KILL in operations
    assert any(operation.killed_at and operation.verb is not Verb.KILL for operation in operations)
