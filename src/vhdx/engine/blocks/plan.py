"""What a change does to one payload block: pure decisions. An entry and a request go in, steps come out.

The table of transitions is that of FORMAT 4.5, with write-zeroes and trim as docs/design.md has them.
"""

from typing import Final, NamedTuple, assert_never

from vhdx.format.bat import OFFSET_MASK, STATE_MASK, PayloadState, owned_file_offset

_STATES: Final = tuple(PayloadState)


class BlockFacts(NamedTuple):
    """What a decision depends on."""

    entry: int
    has_parent: bool
    keeps_space: bool
    """Fixed image: a block that has space keeps it."""

    @property
    def state(self) -> PayloadState:
        """The entry's state."""
        return _STATES[self.entry & STATE_MASK]

    @property
    def file_offset(self) -> int:
        """File space that the entry names, soft anchors included; 0 if none."""
        return owned_file_offset(self.entry)

    @property
    def full_place(self) -> int:
        """File offset of a fully present block; 0 for one that is not."""
        return self.entry & OFFSET_MASK if self.state is PayloadState.FULLY_PRESENT else 0

    @property
    def reads_zero(self) -> bool:
        """Whether a block without content of its own reads as zeroes, whatever a parent holds."""
        is_transparent = self.state is PayloadState.NOT_PRESENT and self.has_parent
        return not is_transparent and self.state < PayloadState.FULLY_PRESENT


class WritePlan(NamedTuple):
    """How to write data into a block that is not fully present."""

    needs_space: bool
    """Take a new piece of the file; else the entry's own is used."""
    must_zero: bool
    """Every byte of the block that is not written must become zero in the file."""
    uses_bitmap: bool
    """The sectors written must be marked in the sector bitmap."""
    clears_bitmap: bool
    """The block's other bits must be cleared in the same entry: they may be stale."""


_FILL_PLAN: Final = WritePlan(True, True, False, False)
_REFILL_PLAN: Final = _FILL_PLAN._replace(needs_space=False)
_COMPLETE_PLAN: Final = WritePlan(False, False, False, False)
_PARTIAL_PLAN: Final = WritePlan(False, False, True, False)
_NEW_PARTIAL_PLAN: Final = WritePlan(True, True, True, True)


def plan_write(facts: BlockFacts, *, whole: bool) -> WritePlan | None:
    """Plan a write; None if the block is fully present and is written in place. `whole`: all of the block."""
    state = facts.state
    match state:
        case PayloadState.FULLY_PRESENT:
            return None
        case PayloadState.PARTIALLY_PRESENT:
            return _COMPLETE_PLAN if whole else _PARTIAL_PLAN
        case PayloadState.NOT_PRESENT:
            return _NEW_PARTIAL_PLAN if facts.has_parent and not whole else _FILL_PLAN
        case PayloadState.UNDEFINED | PayloadState.ZERO | PayloadState.UNMAPPED | PayloadState.OLD_UNMAPPED:
            # What is not written must read as zeroes, not as the parent: never partially present.
            return plan_fill(facts)
        case PayloadState.RESERVED_4:
            raise AssertionError("a writable open refuses reserved states")
        case _:
            assert_never(state)


def plan_fill(facts: BlockFacts) -> WritePlan:
    """Plan a block that becomes fully present, with zeroes where nothing is written; space that it names is used."""
    return _REFILL_PLAN if facts.file_offset else _FILL_PLAN


def state_after_zeroes(facts: BlockFacts, *, may_unmap: bool) -> PayloadState:
    """State of a block that is zeroed as a whole."""
    if facts.keeps_space or not may_unmap:
        return PayloadState.FULLY_PRESENT
    return PayloadState.ZERO


def state_after_trim(facts: BlockFacts) -> PayloadState:
    """State of a block that is trimmed as a whole; its own state if nothing is to be done."""
    state = facts.state
    match state:
        case PayloadState.FULLY_PRESENT | PayloadState.PARTIALLY_PRESENT:
            return state if facts.keeps_space else PayloadState.UNMAPPED
        case PayloadState.NOT_PRESENT:
            # Below lies the parent: what was trimmed must not come back from it.
            return PayloadState.ZERO if facts.has_parent else state
        case PayloadState.UNDEFINED | PayloadState.ZERO | PayloadState.UNMAPPED | PayloadState.OLD_UNMAPPED:
            return state
        case PayloadState.RESERVED_4:
            raise AssertionError("a writable open refuses reserved states")
        case _:
            assert_never(state)
