"""Runs and changes of bits against loops over single bits."""

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from vhdx.format.sector_bitmap import runs, set_bits


def naive_runs(bits: bytes, first: int, count: int) -> list[tuple[bool, int]]:
    single = [bool(bits[index // 8] >> index % 8 & 1) for index in range(first, first + count)]
    return [(is_set, len(list(group))) for is_set, group in groupby(single)]


@st.composite
def bitmaps(draw: st.DrawFn) -> bytes:
    """Bits with long runs in them, across more than one piece of 4096 bits."""
    parts = draw(
        st.lists(
            st.one_of(
                st.binary(min_size=1, max_size=5),
                st.builds(lambda byte, n: bytes([byte]) * n, st.sampled_from((0, 255)), st.integers(1, 1100)),
            ),
            min_size=1,
            max_size=6,
        )
    )
    return b"".join(parts)


@given(bitmaps(), st.data())
def test_runs_are_those_of_a_loop_over_single_bits(bits: bytes, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, 8 * len(bits)))
    count = data.draw(st.integers(0, 8 * len(bits) - first))
    assert list(runs(bits, first, count)) == naive_runs(bits, first, count)


@given(bitmaps(), st.data())
def test_setting_bits_sets_those_and_changes_no_others(bits: bytes, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, 8 * len(bits)))
    count = data.draw(st.integers(0, 8 * len(bits) - first))
    changed = bytearray(bits)
    set_bits(changed, first, count)
    before, after = (int.from_bytes(data, "little") for data in (bits, changed))
    mask = ((1 << count) - 1) << first
    assert len(changed) == len(bits)
    assert after == before | mask


def test_bits_count_from_the_least_significant() -> None:
    assert list(runs(b"\x08", 0, 8)) == [(False, 3), (True, 1), (False, 4)]


def test_run_that_starts_inside_a_byte_is_whole() -> None:
    assert list(runs(b"\xe0\x1f", 5, 8)) == [(True, 8)]


def test_whole_bitmap_block_of_one_kind_is_one_run() -> None:
    assert list(runs(bytes(1 << 20), 0, 1 << 23)) == [(False, 1 << 23)]
    assert list(runs(b"\xff" * (1 << 20), 0, 1 << 23)) == [(True, 1 << 23)]


def test_no_bits_are_no_runs() -> None:
    assert list(runs(b"\xff", 3, 0)) == []
