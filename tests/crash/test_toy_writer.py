"""The kit finds nothing wrong with a right writer, and each flaw of a wrong one."""

import pytest

from support.toy_writer import BLOCK, DATA_AT, FLAWS, ToySubject
from vhdx.testing.crash import Content, CrashTally, DiskShape, Operation, Verb, garbage, try_crashes

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


def crashed(flaw: str = "") -> CrashTally:
    return try_crashes(ToySubject(flaw=flaw), SHAPE, start(), PROGRAM, initial=Content())


def test_a_right_writer_survives_every_crash() -> None:
    tally = crashed()
    assert not tally.findings, str(tally.findings[0])
    assert tally.distinct > 200
    assert tally.nested


@pytest.mark.parametrize("flaw", FLAWS)
def test_every_flaw_of_a_wrong_writer_is_found(flaw: str) -> None:
    assert crashed(flaw).findings
