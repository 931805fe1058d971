"""The states that are enumerated are those that a crash may leave, and their digests are those of their bytes."""

import random
from collections.abc import Callable

import pytest

from proof.crash.campaign import EXHAUSTIVE
from vhdx.testing.crash import (
    Call,
    Content,
    CrashEnumerator,
    CrashLimits,
    CrashState,
    Fault,
    MediaFault,
    Medium,
    Points,
    RecordingStore,
    some_points,
)


def states_of(
    work: Callable[[RecordingStore], object], start: bytes = b"", limits: CrashLimits | None = None
) -> list[CrashState]:
    store = RecordingStore(start)
    work(store)
    return list(CrashEnumerator(store.start, store.steps, limits=limits))


def contents_of(work: Callable[[RecordingStore], object], start: bytes = b"") -> set[bytes]:
    found = set()
    for state in states_of(work, start):
        content = state.content()
        found.add(content.read(content.size, 0))
    return found


def test_every_subset_of_independent_writes_is_a_state() -> None:
    def work(store: RecordingStore) -> None:
        for index in range(5):
            store.pwrite(bytes([index + 1]) * 512, index * 512)

    assert len(contents_of(work, bytes(2560))) == 32


def test_flushed_writes_are_in_every_later_state() -> None:
    def work(store: RecordingStore) -> None:
        store.pwrite(b"1" * 512, 0)
        store.flush()
        store.pwrite(b"2" * 512, 512)

    assert contents_of(work, bytes(1024)) == {
        bytes(1024),
        b"1" * 512 + bytes(512),
        b"1" * 512 + b"2" * 512,
    }


def test_overlapping_writes_stay_in_their_order() -> None:
    def work(store: RecordingStore) -> None:
        store.pwrite(b"1" * 512, 0)
        store.pwrite(b"2" * 512, 0)

    assert contents_of(work, bytes(512)) == {bytes(512), b"1" * 512, b"2" * 512}


def test_sectors_of_one_write_are_kept_or_lost_each_on_its_own() -> None:
    found = contents_of(lambda store: store.pwrite(b"1" * 1536, 0), bytes(1536))
    torn = {b"".join(found) for found in _products([b"1" * 512, bytes(512)], 3)}
    assert found <= torn
    prefixes = {b"1" * (512 * count) + bytes(1536 - 512 * count) for count in range(4)}
    holes = {b"1" * (512 * at) + bytes(512) + b"1" * (1024 - 512 * at) for at in range(3)}
    assert prefixes | holes <= found


def _products(pieces: list[bytes], count: int) -> list[list[bytes]]:
    return (
        [[]] if not count else [[piece, *rest] for piece in pieces for rest in _products(pieces, count - 1)]
    )


def test_an_extension_loses_its_data_or_its_length() -> None:
    found = contents_of(lambda store: store.pwrite(b"1" * 512, 1024), b"0" * 512)
    assert found == {b"0" * 512, b"0" * 512 + bytes(1024), b"0" * 512 + bytes(512) + b"1" * 512}


def test_a_later_growth_may_come_before_the_data() -> None:
    def work(store: RecordingStore) -> None:
        store.pwrite(b"1" * 512, 0)
        store.truncate(1024)

    assert bytes(1024) in contents_of(work, bytes(512))


def test_what_a_kept_truncation_cut_off_does_not_come_back() -> None:
    def work(store: RecordingStore) -> None:
        store.truncate(512)
        store.truncate(1024)

    assert contents_of(work, b"0" * 1024) == {b"0" * 1024, b"0" * 512, b"0" * 512 + bytes(512)}


def test_punched_ranges_are_kept_in_part() -> None:
    found = contents_of(lambda store: store.punch_hole(1024, 0), b"0" * 1024)
    assert {bytes(1024), bytes(512) + b"0" * 512, b"0" * 512 + bytes(512), b"0" * 1024} <= found


def test_a_durable_write_is_not_overwritten_by_an_older_one_that_never_became_durable() -> None:
    def work(store: RecordingStore) -> None:
        store.fault = Fault(Call.FLUSH, 1, OSError())
        store.pwrite(b"1" * 1024, 0)
        with pytest.raises(OSError):
            store.flush()
        store.pwrite(b"2" * 512, 0)
        store.flush()
        store.mark("end")

    states = states_of(work, bytes(1024))
    last = [state.content().read(1024, 0) for state in states if state.point == max(s.point for s in states)]
    assert set(last) == {b"2" * 512 + bytes(512), b"2" * 512 + b"1" * 512}


Work = Callable[[RecordingStore], object]


def after_a_failed_flush(first: Work, second: Work, start: bytes) -> set[bytes]:
    """What a crash leaves when the flush after the first work has failed, and that after the second has completed."""
    store = RecordingStore(start, fault=Fault(Call.FLUSH, 1, OSError("broken")))
    first(store)
    with pytest.raises(OSError, match="broken"):
        store.flush()
    second(store)
    store.flush()
    states = CrashEnumerator(store.start, store.steps, points=Points.at({len(store.steps)}))
    return {content.read(content.size, 0) for content in (state.content() for state in states)}


def test_what_a_failed_flush_lost_is_lost_whatever_flush_completes() -> None:
    found = after_a_failed_flush(
        lambda store: store.pwrite(b"1" * 512, 512), lambda store: store.pwrite(b"2" * 512, 0), bytes(1024)
    )
    assert found == {b"2" * 512 + bytes(512), b"2" * 512 + b"1" * 512}


def test_a_length_that_a_failed_flush_should_have_covered_is_durable_with_the_next() -> None:
    def grow(store: RecordingStore) -> None:
        store.truncate(4096)

    assert after_a_failed_flush(grow, lambda _: None, bytes(512)) == {bytes(4096)}
    assert after_a_failed_flush(grow, lambda store: store.truncate(1536), bytes(512)) == {bytes(1536)}


def test_data_that_a_failed_flush_lost_is_zeroes_in_a_file_that_grew() -> None:
    found = after_a_failed_flush(
        lambda store: store.pwrite(b"1" * 1024, 512), lambda store: store.pwrite(b"2" * 512, 0), bytes(512)
    )
    assert {len(content) for content in found} == {1536}
    assert b"2" * 512 + bytes(1024) in found
    assert b"2" * 512 + b"1" * 1024 in found


def test_what_a_failed_flush_lost_does_not_come_back_where_the_file_was_cut_off_since() -> None:
    def cut_off(store: RecordingStore) -> None:
        store.truncate(512)
        store.truncate(1024)

    found = after_a_failed_flush(lambda store: store.pwrite(b"1" * 512, 512), cut_off, bytes(1024))
    assert found == {bytes(1024)}


def test_many_pending_writes_are_tried_by_prefixes_drops_keeps_and_pairs() -> None:
    def work(store: RecordingStore) -> None:
        for index in range(14):
            store.pwrite(bytes([index + 1]) * 512, index * 512)

    found = {state.content().read(14 * 512, 0)[::512] for state in states_of(work, bytes(14 * 512))}
    everything = bytes(range(1, 15))
    for index in range(14):
        assert everything[:index] + bytes(14 - index) in found
        assert everything[:index] + b"\0" + everything[index + 1 :] in found
        assert bytes(index) + everything[index : index + 1] + bytes(13 - index) in found


def test_a_limit_keeps_the_most_telling_states() -> None:
    def work(store: RecordingStore) -> None:
        for index in range(8):
            store.pwrite(bytes([index + 1]) * 512, index * 512)

    states = states_of(work, bytes(4096), CrashLimits(per_point=4))
    at_end = [state.content().read(4096, 0)[::512] for state in states if state.point == states[-1].point]
    assert len(at_end) == 4
    assert bytes(range(1, 9)) in at_end
    assert bytes(7) + b"\x08" in at_end


def test_a_lost_structure_holds_garbage_and_nothing_else_changes() -> None:
    store = RecordingStore(b"0" * 2048)
    fault = MediaFault("copy", 512, b"?" * 512)
    states = list(CrashEnumerator(store.start, store.steps, media_faults=[fault]))
    contents = {state.content().read(2048, 0) for state in states}
    assert contents == {b"0" * 2048, b"0" * 512 + b"?" * 512 + b"0" * 1024}


def random_work(seed: int) -> RecordingStore:
    rng = random.Random(seed)
    store = RecordingStore(rng.randbytes(rng.randrange(0, 20000)))
    for _ in range(rng.randrange(1, 12)):
        offset, length = rng.randrange(0, 40) * 512, rng.randrange(1, 20) * 512
        match rng.randrange(6):
            case 0 | 1 | 2:
                store.pwrite(rng.choice((rng.randbytes(length), bytes(length))), offset)
            case 3:
                store.write_zeroes(length, offset)
            case 4:
                store.truncate(rng.randrange(0, 40) * 512)
            case _:
                store.flush()
    return store


@pytest.mark.parametrize("seed", range(30))
def test_a_digest_is_that_of_the_bytes(seed: int) -> None:
    store = random_work(seed)
    limits = CrashLimits(per_point=20)
    digests: dict[int, Content] = {}
    for state in CrashEnumerator(store.start, store.steps, limits=limits, seed=seed):
        content = state.content()
        assert digests.setdefault(state.digest, content) == content
        assert Medium(content).digest == state.digest


@pytest.mark.parametrize("seed", range(30))
def test_keeping_everything_gives_what_a_reader_sees(seed: int) -> None:
    store = random_work(seed)
    states = list(CrashEnumerator(store.start, store.steps))
    assert any(state.content() == store.content for state in states if state.point == states[-1].point)


def test_pieces_that_were_being_written_may_be_lost_together() -> None:
    store = RecordingStore(b"0" * 1024)
    faults = [MediaFault(f"copy {at}", at, b"?" * 512) for at in (0, 512)]
    store.pwrite(b"1" * 512, 0)
    one = list(CrashEnumerator(store.start, store.steps, media_faults=faults))
    assert all(state.content().read(1024, 0) != b"?" * 1024 for state in one)
    store.pwrite(b"1" * 512, 512)
    both = list(CrashEnumerator(store.start, store.steps, media_faults=faults))
    assert any(state.content().read(1024, 0) == b"?" * 1024 for state in both)


def numbered_writes(count: int) -> RecordingStore:
    store = RecordingStore(bytes(1024 * 16))
    for index in range(count):
        store.pwrite(bytes([index + 1]) * 1024, index * 1024)
    return store


@pytest.mark.parametrize("limit", [None, 8])
def test_a_piece_is_lost_beside_any_one_change_kept_or_dropped(limit: int | None) -> None:
    store = numbered_writes(3)
    faults = [MediaFault("copy", 8192, b"?" * 512)]
    found = set()
    for seed in range(1 if limit is None else 40):
        states = CrashEnumerator(
            store.start, store.steps, limits=CrashLimits(per_point=limit), media_faults=faults, seed=seed
        )
        last = [state for state in states if state.faults and len(state.pending) == 3]
        found |= {tuple(choice.change.number for choice in state.choices) for state in last}
        assert limit is None or len(last) == 3
    numbers = [change.number for change in store.changes]
    singles = {(number,) for number in numbers}
    drops = {tuple(other for other in numbers if other != number) for number in numbers}
    assert found == {(), tuple(numbers), *singles, *drops}


def test_limits_can_keep_the_medium_from_losing_what_nobody_is_writing() -> None:
    store = numbered_writes(1)
    faults = [MediaFault(f"copy {at}", at, b"?" * 512) for at in (0, 8192)]
    limits = CrashLimits(faults_at_rest=False)
    states = CrashEnumerator(store.start, store.steps, limits=limits, media_faults=faults)
    assert {state.fault for state in states} == {None, faults[0]}


def test_a_change_that_the_medium_lost_is_not_kept() -> None:
    store = numbered_writes(1)
    (change,) = store.changes
    store.flush()
    faults = [MediaFault(f"copy {at}", at, b"?" * 512) for at in (0, 8192)]
    states = [
        state
        for state in CrashEnumerator(store.start, store.steps, media_faults=faults)
        if len(state.choices) == len(state.pending) == 1 and str(change) == str(state.choices[0])
    ]
    assert {(state.fault, state.keeps(change)) for state in states} == {
        (None, True),
        (faults[0], False),
        (faults[1], True),
    }


@pytest.mark.parametrize("limit", [None, 8])
def test_two_changes_are_torn_at_once(limit: int | None) -> None:
    store, limits = numbered_writes(4), CrashLimits(per_point=limit)
    torn = [
        sum(choice.sectors is not None and len(choice.sectors) == 1 for choice in state.choices)
        for seed in range(8)
        for state in CrashEnumerator(store.start, store.steps, limits=limits, seed=seed)
    ]
    assert {0, 1, 2, 3} <= set(torn)


def test_an_exhaustive_run_tries_every_subset_of_ten_changes() -> None:
    store = numbered_writes(10)
    states = CrashEnumerator(store.start, store.steps, limits=EXHAUSTIVE)
    whole = {
        tuple(choice.change.number for choice in state.choices)
        for state in states
        if all(choice.sectors is None for choice in state.choices)
    }
    assert len(whole) == 1024


def test_where_crashes_are_tried_depends_on_the_seed_and_holds_what_is_always_tried() -> None:
    store = numbered_writes(10)
    steps = store.steps
    assert some_points(steps, None) == Points()
    points = some_points(steps, 3, always=(len(steps),))
    drawn = [points.drawn(seed) for seed in range(6)]
    assert len(set(drawn)) > 1
    assert drawn == [points.drawn(seed) for seed in range(6)]
    assert all(found is not None and len(steps) in found for found in drawn)
    tried = {state.point for state in CrashEnumerator(store.start, steps, points=points, seed=4)}
    assert frozenset(tried) == points.drawn(4)
