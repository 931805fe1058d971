"""What a replay may do and how much work it may be: cases 57 to 68 of the format's table."""

import struct
from collections.abc import Callable

import pytest

from support.cases import assert_opens, codes, content_of, pattern, sound, sound_child, store_of
from support.dirty import GROWN, ZEROED, applied, grow, grow_then_zero, message_of_no_sequence, unlogged
from support.units import GIB, MIB, TIB
from support.work import lines_run
from vhdx import CorruptImageError, FormatError, Image
from vhdx.format.bat import PayloadState, make_entry
from vhdx.format.guids import BAT_REGION
from vhdx.format.log import LogChange
from vhdx.rules import RuleCode
from vhdx.storage.base import pread_zero_extended
from vhdx.testing import CountingStore, ImageBuilder, LogEntryFields, ReferenceDisk, data_change, zero_change


def refusal(image: ImageBuilder) -> FormatError:
    store = store_of(image)
    with pytest.raises(CorruptImageError) as caught:
        Image.open(store)
    assert store.work.bytes_read <= 4 * image.log_length + MIB
    return caught.value


@pytest.mark.parametrize("length", [16 * TIB, (1 << 63) - GIB], ids=["case_057_16_tib", "case_057_2_63"])
def test_enormous_zero_range_is_only_an_interval(length: int) -> None:
    image = unlogged()
    image.dirty_log([*grow(image), zero_change(image.length(), length // 4096 * 4096)])
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


def test_case_057_zero_range_over_the_bat_empties_the_disk() -> None:
    image = unlogged()
    image.dirty_log([zero_change(image.bat_offset, 256 * TIB)])
    assert_opens(image, bytes(len(applied())), RuleCode.LOG_DIRTY)


def child_with_logged_bitmap() -> tuple[ImageBuilder, ImageBuilder]:
    """The file ends before the bitmap block, which the log writes; so the file grows."""
    child, parent = sound_child()
    bitmap_offset, bits = child.bitmaps.pop(0)
    index = child.geometry.entry_of_bitmap(0)
    entry = child.bat.pop(index)
    child.file_length = bitmap_offset
    child.content = [piece for piece in child.content if piece[0] < bitmap_offset]
    child.set_block(1, PayloadState.NOT_PRESENT)
    changes = [
        zero_change(bitmap_offset, MIB),
        data_change(bitmap_offset, bytes(bits[:4096])),
        *child.bat_change(index, entry),
    ]
    (logged,) = child.dirty_log(changes)
    logged.last_file_offset = 0
    return child, parent


def test_case_058_change_beyond_the_end_makes_the_file_longer() -> None:
    child, parent = child_with_logged_bitmap()
    reference = ReferenceDisk([child.build_store(), parent.build_store()])
    assert reference.read(512, 512) == b"\xc1" * 512
    with Image.open(store_of(child)) as opened:
        assert opened.opened.file_size == child.length() + MIB
        assert opened.pread(1024, 512) == b"\xc1" * 512 + b"\xc2" * 512
        assert [extent.unreadable for extent in opened.extents(0, 5120)] == [True, False, True, False]


@pytest.mark.parametrize("offset", [256 * TIB, 1 << 62], ids=["case_058_256_tib", "case_058_2_62"])
def test_change_absurdly_far_beyond_the_end_is_refused(offset: int) -> None:
    image = unlogged()
    image.dirty_log([*grow(image), data_change(offset, b"far")])
    error = refusal(image)
    assert error.code is RuleCode.LOG_GROWTH_LIMIT
    assert "log at file offset 0x100000" in str(error)


def test_case_059_file_shorter_than_the_head_says_is_refused() -> None:
    image = unlogged()
    (entry,) = image.dirty_log(grow(image))
    entry.flushed_file_offset = image.length() + MIB
    error = refusal(image)
    assert error.code is RuleCode.LOG_FILE_TRUNCATED
    assert f"{image.length():#x} bytes" in str(error)
    assert "position 0x0" in str(error)


def test_case_059_file_that_was_longer_before_the_head_is_whole() -> None:
    image = unlogged()
    first, _ = image.dirty_log(*grow_then_zero(image))
    first.flushed_file_offset = image.length() + MIB
    assert_opens(image, applied(GROWN, ZEROED), RuleCode.LOG_DIRTY)


def test_case_060_flushed_file_offset_zero_promises_nothing() -> None:
    image = unlogged()
    (entry,) = image.dirty_log(grow(image))
    entry.flushed_file_offset = 0
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


def grown_by_log(last_file_offset: int) -> ImageBuilder:
    """Block GROWN lies past the end of the file, up to which the log says that the file reaches."""
    image = sound()
    end = image.length()
    (entry,) = image.dirty_log(image.bat_change(GROWN, make_entry(PayloadState.FULLY_PRESENT, end)))
    entry.last_file_offset = end + last_file_offset
    return image


def test_case_061_file_is_as_long_as_the_head_says_and_zero_there() -> None:
    image = grown_by_log(MIB)
    assert_opens(image, applied(), RuleCode.LOG_DIRTY)
    assert content_of(image) == applied()
    with Image.open(store_of(image)) as opened:
        assert opened.opened.file_size == image.length() + MIB


def test_case_061_file_is_never_cut_to_what_the_head_says() -> None:
    image = unlogged()
    (entry,) = image.dirty_log(grow(image))
    entry.last_file_offset = MIB
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


@pytest.mark.parametrize("last", [257 * TIB, 1 << 62, (1 << 64) - MIB], ids=lambda n: f"case_061_{n:#x}")
def test_absurd_length_is_refused(last: int) -> None:
    image = unlogged()
    (entry,) = image.dirty_log(grow(image))
    entry.last_file_offset = last
    assert refusal(image).code is RuleCode.LOG_GROWTH_LIMIT


def test_case_062_lengths_that_are_not_whole_mib_are_noted_and_rounded() -> None:
    image = grown_by_log(1)
    with Image.open(store_of(image)) as opened:
        assert set(codes(opened.findings)) == {RuleCode.LOG_DIRTY, RuleCode.LOG_OFFSET_ALIGNMENT}
        assert opened.opened.file_size == image.length() + MIB
        assert opened.pread(opened.size, 0) == applied()
    flushed = unlogged()
    (entry,) = flushed.dirty_log(grow(flushed))
    entry.flushed_file_offset = MIB + 512
    with Image.open(store_of(flushed), strict=True) as opened:
        assert set(codes(opened.findings)) == {RuleCode.LOG_DIRTY, RuleCode.LOG_OFFSET_ALIGNMENT}
        assert opened.pread(opened.size, 0) == applied(GROWN)


@pytest.mark.parametrize("newer_first", [False, True], ids=["case_064_older_first", "case_064_newer_first"])
@pytest.mark.parametrize("adjacent", [False, True], ids=["adjacent", "apart"])
def test_sequence_with_the_larger_head_wins(newer_first: bool, adjacent: bool) -> None:
    image = unlogged()
    newer, older = (8, 5) if newer_first else (5, 8)
    gap = 0 if adjacent else 40960
    zero = image.bat_change(ZEROED, PayloadState.ZERO)
    image.dirty_log(grow(image), sequence_number=newer)
    image.log_run(zero, position=8192 + gap, sequence_number=older)
    assert_opens(image, applied(GROWN if newer_first else ZEROED), RuleCode.LOG_DIRTY)


def test_case_064_longer_sequence_with_the_smaller_head_loses() -> None:
    image = unlogged()
    image.dirty_log([], [], image.bat_change(ZEROED, PayloadState.ZERO), sequence_number=1)
    image.log_run(grow(image), position=65536, sequence_number=4)
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


def test_case_064_newer_run_without_its_tail_loses() -> None:
    image = unlogged()
    image.dirty_log(grow(image), sequence_number=1)
    image.log_run(image.bat_change(ZEROED, PayloadState.ZERO), position=65536, sequence_number=9, tail=0)
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


def test_case_064_sequence_that_ends_with_the_last_number_has_no_successor() -> None:
    image = unlogged()
    last = (1 << 64) - 1
    image.dirty_log(grow(image), sequence_number=last)
    image.log_run(image.bat_change(ZEROED, PayloadState.ZERO), position=8192, sequence_number=1, tail=0)
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


def replaced_by_log(image: ImageBuilder, file_offset: int, length: int) -> None:
    """Spoil a range on disk that the log then makes right again."""
    store = image.build_store()
    changes = [
        data_change(at, pread_zero_extended(store, 4096, at))
        for at in range(file_offset, file_offset + length, 4096)
    ]
    image.dirty_log(changes)
    image.patch(file_offset, b"\xba\xdd" * (length // 2), reseal=False)


@pytest.mark.parametrize(
    ("name", "file_offset", "length"),
    [
        ("region_tables", 0x30000, 0x20000),
        ("metadata_table", 2 * MIB, 4096),
        ("metadata_items", 2 * MIB + 65536, 4096),
        ("bat", 3 * MIB, 4096),
    ],
    ids=lambda value: f"case_066_{value}" if isinstance(value, str) else "",
)
def test_structures_are_read_as_the_log_leaves_them(name: str, file_offset: int, length: int) -> None:
    image = sound()
    replaced_by_log(image, file_offset, length)
    assert_opens(image, applied(), RuleCode.LOG_DIRTY)


def test_case_066_log_may_move_the_bat() -> None:
    image = sound()
    table = image.bat_change(0, image.bat[0])[0].data
    moved = image.copy()
    place = moved.allocate()
    moved.each_region(BAT_REGION, file_offset=place)
    image.allocate()
    store = moved.build_store()
    tables = [data_change(at, pread_zero_extended(store, 4096, at)) for at in range(0x30000, 0x50000, 4096)]
    image.bat.clear()
    assert table is not None
    image.dirty_log([*tables, zero_change(place, MIB), data_change(place, table)])
    assert_opens(image, applied(), RuleCode.LOG_DIRTY)


def spoiled(image: ImageBuilder) -> list[LogChange]:
    return [data_change(image.bat_offset, b"\xba" * 4096)]


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("two_entries", lambda image: (spoiled(image), grow(image))),
        ("one_entry", lambda image: ([*spoiled(image), *grow(image)],)),
        ("zero_then_data", lambda image: ([zero_change(image.bat_offset, 8192), *grow(image)],)),
        ("zero_then_data_apart", lambda image: ([zero_change(image.bat_offset, MIB)], grow(image))),
        ("three_times", lambda image: (grow(image), spoiled(image), [*spoiled(image), *grow(image)])),
    ],
    ids=lambda value: f"case_067_{value}" if isinstance(value, str) else "",
)
def test_last_change_of_a_sector_wins(
    name: str, groups: Callable[[ImageBuilder], tuple[list[LogChange], ...]]
) -> None:
    image = unlogged()
    image.dirty_log(*groups(image))
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)
    assert content_of(image) == applied(GROWN)


@pytest.mark.parametrize("apart", [False, True], ids=["case_067_one_entry", "case_067_two_entries"])
def test_zeroes_after_data_win(apart: bool) -> None:
    image = unlogged()
    zero = [zero_change(image.bat_offset - 4096, 8192)]
    metadata_end = zero[0].file_offset
    assert metadata_end > image.metadata_offset + 65536 + 4096
    image.dirty_log(*((grow(image), zero) if apart else ([*grow(image), *zero],)))
    assert_opens(image, bytes(len(applied())), RuleCode.LOG_DIRTY)


def claim_everywhere(image: ImageBuilder, make: Callable[[int], LogEntryFields]) -> None:
    image.dirty_log()
    image.log_entries = [make(position) for position in range(0, image.log_length, 4096)]


def test_case_068_log_of_nothing_but_long_claims_is_refused_with_bounded_work() -> None:
    """Every sector claims to be the longest entry possible, with as many descriptors as that can hold."""
    image = ImageBuilder(4 * MIB, log_length=MIB)

    def claim(position: int) -> LogEntryFields:
        entry = LogEntryFields(position, [], 7, position)
        entry.patch(8, struct.pack("<I", MIB))
        entry.patch(24, struct.pack("<I", (MIB - 64) // 32))
        return entry

    claim_everywhere(image, claim)
    assert refusal(image).code is RuleCode.LOG_SCAN_BUDGET


@pytest.mark.parametrize("descriptors", [0, 1, 126], ids=lambda n: f"case_068_{n}")
def test_entries_that_claim_the_whole_log_are_dismissed_with_bounded_work(descriptors: int) -> None:
    image = ImageBuilder(4 * MIB, log_length=4 * MIB)

    def claim(position: int) -> LogEntryFields:
        changes = [zero_change(8 * MIB) for _ in range(descriptors)]
        entry = LogEntryFields(position, changes, 7, position)
        entry.patch(8, struct.pack("<I", 4 * MIB))
        return entry

    claim_everywhere(image, claim)
    assert message_of_no_sequence(as_corrupt(refusal(image)))


def test_case_068_entry_of_sound_sectors_over_the_whole_ring_is_read_about_once() -> None:
    """One entry is sound but for its checksum, and the ring is full of its data sectors."""
    image = ImageBuilder(4 * MIB, log_length=8 * MIB)
    count = 8 * MIB // 4096 - 16
    (entry,) = image.dirty_log([data_change(16 * MIB + 4096 * n, b"data") for n in range(count)])
    entry.bad_checksum = True
    assert entry.length == 8 * MIB
    assert message_of_no_sequence(as_corrupt(refusal(image)))


def test_case_068_zero_ranges_without_number_are_refused() -> None:
    image = ImageBuilder(4 * MIB, log_length=4 * MIB)
    image.dirty_log([zero_change(16 * MIB + 8192 * n) for n in range((1 << 16) + 1)])
    assert refusal(image).code is RuleCode.LOG_SCAN_BUDGET


def test_case_068_zero_ranges_that_touch_are_one() -> None:
    image = unlogged_with_log(4 * MIB)
    zeroes = [zero_change(16 * MIB + 4096 * n) for n in range((1 << 16) + 1)]
    image.dirty_log([*zeroes, *grow(image)])
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


def unlogged_with_log(log_length: int) -> ImageBuilder:
    image = ImageBuilder(4 * MIB + MIB // 2, log_length=log_length)
    image.add_block(0, pattern(1, MIB))
    image.add_block(3, pattern(2))
    image.add_block(4, pattern(3))
    image.add_block(GROWN, pattern(9))
    del image.bat[GROWN]
    return image


def test_case_068_empty_log_of_a_gib_costs_next_to_nothing() -> None:
    image = unlogged_with_log(GIB)
    image.dirty_log(grow(image), position=GIB - 4096)
    store = store_of(image)
    with Image.open(store) as opened:
        assert opened.pread(opened.size, 0) == applied(GROWN)
        assert store.work.bytes_read <= 16 * MIB
        assert store.work.largest_read <= 4 * MIB + MIB


def as_corrupt(error: FormatError) -> CorruptImageError:
    assert isinstance(error, CorruptImageError)
    return error


def test_case_065_replay_reads_the_file_and_never_writes_it() -> None:
    image = unlogged()
    image.dirty_log(grow(image))
    store = image.build_store()
    before = pread_zero_extended(store, store.size(), 0)
    with Image.open(CountingStore(store)) as opened:
        opened.pread(opened.size, 0)
    again = image.build_store()
    assert pread_zero_extended(again, again.size(), 0) == before


def lone_heads_of_a_long_chain(log_length: int) -> ImageBuilder:
    """Half the log is one chain; the rest are heads that name its first entry and have nothing to do with it."""
    image = ImageBuilder(log_length=log_length)
    positions = range(log_length // 2, log_length, 4096)
    image.dirty_log(*([[]] * len(positions)), tail=log_length - 4096)
    image.log_entries += [LogEntryFields(at, (), 1 << 40, tail=0) for at in positions]
    return image


def test_heads_that_all_name_one_chain_make_the_search_no_longer() -> None:
    def lines(log_length: int) -> int:
        store = lone_heads_of_a_long_chain(log_length).build_store()

        def refused() -> None:
            with pytest.raises(CorruptImageError):
                Image.open(store)

        return lines_run(refused)

    assert lines(4 * MIB) < 2.2 * lines(2 * MIB)


def test_chain_that_goes_around_the_ring_is_walked_from_its_head() -> None:
    image = unlogged()
    last = image.log_length - 4096
    image.dirty_log([], *[grow(image)], position=last)
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


def test_head_whose_tail_lies_in_another_chain_is_not_a_head() -> None:
    image = unlogged()
    image.dirty_log(grow(image))
    image.log_run([], position=64 * 4096, sequence_number=7, tail=0)
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)
