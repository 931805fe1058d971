"""Distinct states are counted once, and at each arrow of the commit order, on the side on which they are."""

from proof.crash.arrows import END, ENTRY, GUIDS, IN_PLACE, LOG_ON, PAYLOAD, RESTART, arrow_names
from proof.crash.bases import dynamic
from proof.crash.workloads import record, short_log_workload
from vhdx.testing.crash import CrashTally, Side


def test_a_state_that_is_met_at_two_arrows_is_one_state() -> None:
    tally = CrashTally()
    tally.count(7, is_dirty=True, changes_bytes=True)
    for side in (Side("a", True), Side("b", False), Side("a", True)):
        tally.meet(side, 7)
    assert tally.distinct == 1
    assert tally.by_side == {Side("a", True): 1, Side("b", False): 1}
    assert tally.changed_by_side == tally.by_side


def test_a_state_that_was_not_judged_right_is_not_met() -> None:
    tally = CrashTally()
    tally.meet(Side("a", True), 7)
    assert not tally.by_side


def test_an_arrow_without_states_on_one_side_is_named() -> None:
    tally = CrashTally()
    tally.count(7, is_dirty=False, changes_bytes=False)
    tally.meet(Side("a", True), 7)
    assert tally.empty_sides(["a", "b"]) == [Side("a", False), Side("b", False), Side("b", True)]


def test_figures_of_two_runs_add_up() -> None:
    one, other = CrashTally(), CrashTally()
    for tally in (one, other):
        tally.count(7, is_dirty=True, changes_bytes=True)
        tally.meet(Side("a", True), 7)
    one.add(other)
    assert (one.distinct, one.dirty, one.changed, one.by_side[Side("a", True)]) == (2, 2, 2, 2)
    assert "distinct states 2" in one.report()


def test_arrows_come_in_the_order_of_the_commit() -> None:
    workload = short_log_workload(dynamic())
    store, _ = record(workload)
    arrows: list[str] = []
    for moment in arrow_names(store.start, store.steps):
        if not arrows or arrows[-1] != moment.arrow:
            arrows.append(moment.arrow)
    assert arrows.index(GUIDS) < arrows.index(PAYLOAD) < arrows.index(LOG_ON) < arrows.index(ENTRY)
    assert arrows.index(ENTRY) < arrows.index(IN_PLACE) < arrows.index(RESTART) < arrows.index(END)
    assert arrows.count(END) == 1
