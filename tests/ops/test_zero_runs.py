"""Finding zeroes in buffers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from vhdx.ops.copying.zero_runs import BUFFER_SIZE, GRANULE, data_runs, is_zero

GRANULES = st.lists(st.sampled_from(("zero", "full", "first", "last")), max_size=20)


def buffer_of(granules: list[str], tail: bytes, stale: int) -> tuple[bytearray, int]:
    """A whole buffer whose end, past the length returned, holds what an earlier read left."""
    patterns = {
        "zero": bytes(GRANULE),
        "full": b"\xff" * GRANULE,
        "first": b"\x01" + bytes(GRANULE - 1),
        "last": bytes(GRANULE - 1) + b"\x01",
    }
    content = b"".join(patterns[name] for name in granules) + tail
    return bytearray(content.ljust(BUFFER_SIZE, bytes([stale]))), len(content)


@settings(max_examples=300)
@given(GRANULES, st.binary(max_size=40), st.sampled_from((0, 7)))
def test_runs_hold_all_data_and_no_granule_of_zeroes(granules: list[str], tail: bytes, stale: int) -> None:
    buffer, length = buffer_of(granules, tail, stale)
    runs = data_runs(buffer, length)
    covered = bytearray(length)
    position = 0
    for start, end in runs:
        assert position <= start < end <= length
        assert position == 0 or position < start  # neighbours are joined
        covered[start:end] = buffer[start:end]
        position = end
    assert covered == buffer[:length]
    for number, name in enumerate(granules):
        if name == "zero":
            assert not any(start <= number * GRANULE < end for start, end in runs)
    assert is_zero(buffer, length) == (not any(buffer[:length]))


def test_buffer_that_is_all_data_or_all_zeroes_is_one_run_or_none() -> None:
    assert data_runs(bytearray(BUFFER_SIZE), BUFFER_SIZE) == []
    assert data_runs(bytearray(b"x" * BUFFER_SIZE), BUFFER_SIZE) == [(0, BUFFER_SIZE)]
    assert data_runs(bytearray(BUFFER_SIZE), 0) == []
