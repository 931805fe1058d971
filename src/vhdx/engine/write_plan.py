"""What a change does to one payload block: pure decisions, so that a test can look at one before a byte is written.

The table of transitions is that of FORMAT 4.5, with write-zeroes and trim as they are documented in
docs/design.md. A block's number, its entry and the request go in; steps come out.
"""

from dataclasses import dataclass
from typing import assert_never

from vhdx.format.bat import MAY_ANCHOR, PayloadState, entry_file_offset, entry_state


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """What a decision depends on."""

    entry: int
    has_parent: bool
    keeps_space: bool
    """Fixed image: a block that has space keeps it."""

    @property
    def state(self) -> PayloadState:
        """The entry's state."""
        return PayloadState(entry_state(self.entry))

    @property
    def file_offset(self) -> int:
        """File space that the entry names, soft anchors included; 0 if none."""
        owns = self.state in (PayloadState.FULLY_PRESENT, PayloadState.PARTIALLY_PRESENT)
        return entry_file_offset(self.entry) if owns or MAY_ANCHOR[self.state] else 0


@dataclass(frozen=True, slots=True)
class WritePlan:
    """How to write data into a block that is not fully present."""

    new_state: PayloadState
    needs_space: bool
    """Take a new piece of the file; else the entry's own is used."""
    must_zero: bool
    """Every byte of the block that is not written must become zero in the file."""
    uses_bitmap: bool
    """The sectors written must be marked in the sector bitmap."""
    clears_bitmap: bool
    """The block's other bits must be cleared in the same entry: they may be stale."""


def plan_write(facts: BlockFacts, *, whole: bool) -> WritePlan | None:
    """Plan a write; None if the block is fully present and is written in place. `whole`: all of the block."""
    full, partial = PayloadState.FULLY_PRESENT, PayloadState.PARTIALLY_PRESENT
    state = facts.state
    match state:
        case PayloadState.FULLY_PRESENT:
            return None
        case PayloadState.PARTIALLY_PRESENT:
            if whole:
                return WritePlan(full, False, False, False, False)
            return WritePlan(partial, False, False, True, False)
        case PayloadState.NOT_PRESENT:
            if facts.has_parent and not whole:
                return WritePlan(partial, True, True, True, True)
            return WritePlan(full, True, True, False, False)
        case PayloadState.UNDEFINED | PayloadState.ZERO | PayloadState.UNMAPPED | PayloadState.OLD_UNMAPPED:
            # What is not written must read as zeroes, not as the parent: never partially present.
            return WritePlan(full, facts.file_offset == 0, True, False, False)
        case PayloadState.RESERVED_4:
            raise AssertionError("a writable open refuses reserved states")
        case _:
            assert_never(state)


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
