"""What a sector may hold after a crash follows from what was acknowledged, and a wrong one is named."""

from vhdx.testing.crash import (
    Action,
    ActionPhase,
    Content,
    History,
    Mark,
    ReadMark,
    Stamp,
    Step,
    StepKind,
    describe_sector,
    stamped_sectors,
    wrong_reads,
)
from vhdx.testing.crash.stamps import FIRST, GARBAGE


def write(number: int, *sectors: int, durable: bool = False) -> Action:
    return Action(
        number,
        "write",
        {sector: Stamp(number, sector, FIRST).encode() for sector in sectors},
        durable=durable,
    )


def flush(number: int) -> Action:
    return Action(number, "flush", flushes=True)


def history(*marks: tuple[ActionPhase, Action]) -> History:
    found = History(Content())
    for phase, action in marks:
        found.observe(Mark(phase, action))
    return found


def allows(found: History, action: Action | None, sector: int = 0) -> bool:
    data = bytes(512) if action is None else action.sectors[sector]
    return not found.wrong_sectors(data, sector * 512)


def done(action: Action) -> tuple[tuple[ActionPhase, Action], tuple[ActionPhase, Action]]:
    return (ActionPhase.BEGUN, action), (ActionPhase.ENDED, action)


def test_a_write_that_was_not_flushed_may_be_lost() -> None:
    one = write(1, 0)
    found = history(*done(one))
    assert allows(found, one)
    assert allows(found, None)


def test_a_flushed_write_must_be_there() -> None:
    one = write(1, 0)
    found = history(*done(one), *done(flush(2)))
    assert allows(found, one)
    assert not allows(found, None)


def test_a_flush_covers_only_writes_that_ended_before_it_began() -> None:
    one, two = write(1, 0), flush(2)
    found = history((ActionPhase.BEGUN, two), *done(one), (ActionPhase.ENDED, two))
    assert allows(found, None)
    assert allows(found, one)


def test_a_flush_that_has_not_ended_covers_nothing() -> None:
    one, two = write(1, 0), flush(2)
    found = history(*done(one), (ActionPhase.BEGUN, two))
    assert allows(found, None)


def test_writes_since_the_last_flush_may_be_there_or_not_in_any_order_of_loss() -> None:
    one, two, three = write(1, 0), write(3, 0), write(4, 0)
    found = history(*done(one), *done(flush(2)), *done(two), *done(three))
    assert all(allows(found, action) for action in (one, two, three))
    assert not allows(found, None)


def test_two_writes_at_the_same_time_may_end_either_way_even_when_flushed() -> None:
    one, two = write(1, 0), write(2, 0)
    found = history(
        (ActionPhase.BEGUN, one),
        (ActionPhase.BEGUN, two),
        (ActionPhase.ENDED, one),
        (ActionPhase.ENDED, two),
        *done(flush(3)),
    )
    assert allows(found, one)
    assert allows(found, two)
    assert not allows(found, None)


def test_force_unit_access_covers_its_own_sectors_alone() -> None:
    one, two = write(1, 0, 1), write(2, 0, durable=True)
    found = history(*done(one), *done(two))
    assert not allows(found, one, 0)
    assert allows(found, None, 1)


def test_a_failed_write_may_be_there_or_not_for_ever() -> None:
    one = write(1, 0)
    found = history((ActionPhase.BEGUN, one), (ActionPhase.FAILED, one), *done(flush(2)))
    assert allows(found, one)
    assert allows(found, None)


def test_a_failed_write_does_not_come_back_over_a_later_one_that_was_flushed() -> None:
    one, two = write(1, 0), write(2, 0)
    found = history((ActionPhase.BEGUN, one), (ActionPhase.FAILED, one), *done(two), *done(flush(3)))
    assert allows(found, two)
    assert not allows(found, one)
    assert not allows(found, None)


KILL = Action(9, "kill")


def test_what_a_killed_process_did_may_be_there_or_not_whatever_is_flushed_later() -> None:
    one = write(1, 0)
    found = history(*done(one), (ActionPhase.KILLED, KILL), *done(flush(2)))
    assert allows(found, one)
    assert allows(found, None)


def test_what_was_flushed_before_a_kill_is_there_after_it() -> None:
    one = write(1, 0)
    found = history(*done(one), *done(flush(2)), (ActionPhase.KILLED, KILL))
    assert not allows(found, None)


def test_what_was_at_work_in_a_killed_process_is_over() -> None:
    one, two = write(1, 0), write(2, 0)
    found = history((ActionPhase.BEGUN, one), (ActionPhase.KILLED, KILL), *done(two))
    assert all(allows(found, action) for action in (None, one, two))
    found.observe(Mark(ActionPhase.BEGUN, flush(3)))
    found.observe(Mark(ActionPhase.ENDED, flush(3)))
    assert allows(found, two)
    assert not allows(found, one)
    assert not allows(found, None)


def test_a_wrong_sector_is_named_with_what_was_allowed() -> None:
    one = write(1, 0)
    found = history(*done(one), *done(flush(2)))
    (wrong,) = found.wrong_sectors(stamped_sectors(7, 9 * 512, 512, FIRST + 1), 0)
    assert "sector 9 of write 7, misplaced" in str(wrong)
    assert "sector 0 of the image's first content (write (action 1))" in str(wrong)


def test_stamps_say_whose_sector_it_is() -> None:
    data = Stamp(3, 5, FIRST + 1).encode()
    assert Stamp.decode(data) == Stamp(3, 5, FIRST + 1)
    assert describe_sector(data, 5) == "sector 5 of write 3"
    assert describe_sector(bytes(512), 5) == "zeroes"
    assert "garbage" in describe_sector(Stamp(0, 5, GARBAGE).encode(), 1)
    assert "torn" in describe_sector(data[:256] + bytes(256), 5)
    assert "unknown" in describe_sector(b"?" * 512, 5)


def steps(*labels: object) -> list[Step]:
    return [Step(StepKind.MARK, label=label) for label in labels]


def test_a_read_may_not_return_what_was_over_before_it_began() -> None:
    one = write(1, 0)
    marks = [Mark(phase, action) for phase, action in done(one)]
    stale = ReadMark(2, 0, bytes(512))
    assert "returned zeroes" in next(wrong_reads(Content(), steps(*marks, stale)))
    assert not list(wrong_reads(Content(), steps(*marks, ReadMark(2, 0, one.sectors[0]))))


def test_a_read_beside_a_write_may_return_either() -> None:
    one = write(1, 0)
    begun = Mark(ActionPhase.BEGUN, one)
    for data in (bytes(512), one.sectors[0]):
        assert not list(wrong_reads(Content(), steps(begun, ReadMark(1, 0, data))))


def test_a_read_may_not_return_what_a_failed_write_left_under_a_later_one() -> None:
    one, two = write(1, 0), write(2, 0)
    marks = [(ActionPhase.BEGUN, one), (ActionPhase.FAILED, one), *done(two)]
    labels = [Mark(phase, action) for phase, action in marks]
    assert list(wrong_reads(Content(), steps(*labels, ReadMark(4, 0, one.sectors[0]))))
    assert not list(wrong_reads(Content(), steps(*labels, ReadMark(4, 0, two.sectors[0]))))
