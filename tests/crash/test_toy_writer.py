"""The kit finds nothing wrong with a right writer, and each flaw of a wrong one."""

import pytest

from support.toy_writer import BLOCK, DATA_AT, FLAWS, ToySubject
from vhdx.testing.crash.history import History
from vhdx.testing.crash.operations import DiskShape, Driver, Operation, Verb
from vhdx.testing.crash.pages import Content
from vhdx.testing.crash.recording_store import RecordingStore
from vhdx.testing.crash.run import CrashRun
from vhdx.testing.crash.stamps import garbage
from vhdx.testing.crash.states import CrashLimits

SHAPE = DiskShape(6 * BLOCK, BLOCK)
PROGRAM = (
    Operation(Verb.WRITE, 512, 1024),
    Operation(Verb.FLUSH),
    Operation(Verb.WRITE, BLOCK, BLOCK),
    Operation(Verb.WRITE, 2 * BLOCK - 1024, 2048),
    Operation(Verb.FLUSH),
    Operation(Verb.WRITE, 0, 512),
    Operation(Verb.TRIM, 0, BLOCK),
    Operation(Verb.WRITE, 4 * BLOCK, 1024),
    Operation(Verb.FUA, 4 * BLOCK + 2048, 512),
    Operation(Verb.REOPEN),
    Operation(Verb.TRIM, BLOCK, 2 * BLOCK),
    Operation(Verb.FLUSH),
    Operation(Verb.WRITE, 5 * BLOCK + 512, 512),
    Operation(Verb.FLUSH),
)


def start() -> Content:
    """A toy file with a block of garbage that nothing owns."""
    content = Content(size=DATA_AT)
    content.write(garbage(BLOCK), DATA_AT)
    return content


def crashed(flaw: str = "", limits: CrashLimits | None = None) -> CrashRun:
    subject = ToySubject(flaw=flaw)
    store = RecordingStore(start())
    driver = Driver(subject, store, SHAPE)
    driver.perform_all(PROGRAM)
    driver.close()
    run = CrashRun(subject, SHAPE, limits=limits)
    run.run(store.start, store.steps, History(Content()), workload=flaw)
    return run


def test_a_right_writer_survives_every_crash() -> None:
    run = crashed()
    assert not run.tally.findings, str(run.tally.findings[0])
    assert run.tally.distinct > 200
    assert run.tally.nested


@pytest.mark.parametrize("flaw", FLAWS)
def test_every_flaw_of_a_wrong_writer_is_found(flaw: str) -> None:
    assert crashed(flaw).tally.findings
