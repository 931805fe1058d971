"""BAT entries: the bits of one, and what each state means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.units import MIB
from vhdx.format.bat import (
    CONTENT,
    MAY_ANCHOR,
    OFFSET_MASK,
    OWNS_SPACE,
    RESERVED_MASK,
    STATE_MASK,
    BitmapState,
    ContentSource,
    PayloadState,
    entry_file_offset,
    entry_state,
    make_entry,
    owned_file_offset,
)

MEANING = [
    # state, number, content, owns space, may be a soft anchor
    (PayloadState.NOT_PRESENT, 0, ContentSource.TRANSPARENT, False, False),
    (PayloadState.UNDEFINED, 1, ContentSource.ZERO, False, True),
    (PayloadState.ZERO, 2, ContentSource.ZERO, False, False),
    (PayloadState.UNMAPPED, 3, ContentSource.ZERO, False, True),
    (PayloadState.RESERVED_4, 4, ContentSource.INVALID, False, False),
    (PayloadState.FULLY_PRESENT, 6, ContentSource.FILE, True, False),
    (PayloadState.PARTIALLY_PRESENT, 7, ContentSource.BITMAP, True, False),
]


def test_fields_fill_the_entry_without_overlap() -> None:
    assert OFFSET_MASK | RESERVED_MASK | STATE_MASK == (1 << 64) - 1
    assert OFFSET_MASK & RESERVED_MASK == RESERVED_MASK & STATE_MASK == OFFSET_MASK & STATE_MASK == 0


@given(st.integers(0, 7), st.integers(0, (1 << 44) - 1))
def test_entry_reads_back(state: int, offset_mib: int) -> None:
    entry = make_entry(state, offset_mib * MIB)
    assert entry < 1 << 64
    assert (entry_state(entry), entry_file_offset(entry)) == (state, offset_mib * MIB)


@given(st.integers(0, 7), st.integers(0, (1 << 44) - 1), st.integers(0, (1 << 17) - 1))
def test_reserved_bits_change_neither_state_nor_offset(state: int, offset_mib: int, reserved: int) -> None:
    entry = make_entry(state, offset_mib * MIB) | reserved << 3
    assert (entry_state(entry), entry_file_offset(entry)) == (state, offset_mib * MIB)


@pytest.mark.parametrize(("state", "number", "content", "owns", "anchors"), MEANING)
def test_state_means_what_the_format_says(
    state: PayloadState, number: int, content: ContentSource, owns: bool, anchors: bool
) -> None:
    assert state == number
    assert CONTENT[state] is content
    assert (OWNS_SPACE[state], MAY_ANCHOR[state]) == (owns, anchors)


def test_state_five_reads_as_zeroes() -> None:
    assert CONTENT[PayloadState.OLD_UNMAPPED] is ContentSource.ZERO


def test_bitmap_states_are_zero_and_six() -> None:
    assert [int(state) for state in BitmapState] == [0, 6]


@pytest.mark.parametrize("state", PayloadState)
def test_space_is_kept_by_owners_and_anchors_only(state: PayloadState) -> None:
    kept = OWNS_SPACE[state] or MAY_ANCHOR[state]
    assert owned_file_offset(make_entry(state, 9 * MIB)) == (9 * MIB if kept else 0)


def test_entries_of_the_worked_example_have_their_published_bytes() -> None:
    assert make_entry(6, 4 * MIB).to_bytes(8, "little").hex(" ") == "06 00 40 00 00 00 00 00"
    assert make_entry(7, 4 * MIB).to_bytes(8, "little").hex(" ") == "07 00 40 00 00 00 00 00"
    assert make_entry(6, 6 * MIB).to_bytes(8, "little").hex(" ") == "06 00 60 00 00 00 00 00"
