"""Log entries that are torn, stale or wrong: cases 42 to 56 and 63 of the format's table.

An invalid entry is no error; it only ends a sequence. So most tests have two entries, of which the second is
wounded: the first alone must be replayed. And the same wound in the only entry leaves no sequence at all.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from support.cases import assert_opens, codes, content_of, store_of
from support.dirty import GROWN, ZEROED, applied, grow, grow_then_zero, message_of_no_sequence, unlogged
from support.units import MIB
from vhdx import CorruptImageError, Image, LogReplayRequiredError
from vhdx.format.bat import PayloadState, make_entry
from vhdx.format.log import LogChange
from vhdx.rules import RuleCode
from vhdx.testing import (
    LOG_GUID,
    STALE_LOG_GUID,
    ImageBuilder,
    LogEntryFields,
    data_change,
    zero_change,
)

HUGE_COUNT = struct.pack("<I", 0xFFFFFFFF)


@dataclass(frozen=True)
class EntryWound:
    number: int
    name: str
    apply: Callable[[LogEntryFields], object]

    @property
    def id(self) -> str:
        return f"case_{self.number:03}_{self.name.replace(' ', '_')}"


def set_entry(entry: LogEntryFields, name: str, value: object) -> None:
    setattr(entry, name, value)


def patch(offset: int, layout: str, value: object) -> Callable[[LogEntryFields], object]:
    return lambda entry: entry.patch(offset, struct.pack(layout, value))


def add_change(change: LogChange) -> Callable[[LogEntryFields], object]:
    """Sound in itself, but aimed where no entry may aim."""
    return lambda entry: set_entry(entry, "changes", (*entry.changes, change))


def append_data(entry: LogEntryFields) -> None:
    low, high = struct.pack("<Q", entry.sequence_number)[:4], struct.pack("<Q", entry.sequence_number)[4:]
    entry.extra = b"data" + high + bytes(4084) + low


WOUNDS = [
    EntryWound(43, "bad checksum", lambda entry: set_entry(entry, "bad_checksum", True)),
    EntryWound(43, "torn data sector", lambda entry: entry.patch_data_sector(0, 0, bytes(4096))),
    EntryWound(43, "data sector of another signature", lambda entry: entry.patch_data_sector(0, 0, b"date")),
    EntryWound(43, "wrong sequence high", lambda entry: entry.patch_data_sector(0, 4, b"\1")),
    EntryWound(43, "wrong sequence low", lambda entry: entry.patch_data_sector(0, 4092, b"\x77")),
    EntryWound(44, "other log guid", lambda entry: set_entry(entry, "log_guid", STALE_LOG_GUID)),
    EntryWound(47, "tail at the log's end", lambda entry: set_entry(entry, "tail", MIB)),
    EntryWound(47, "misaligned tail", patch(12, "<I", 1)),
    EntryWound(48, "length 0", patch(8, "<I", 0)),
    EntryWound(48, "misaligned length", patch(8, "<I", 8193)),
    EntryWound(48, "length over the log's", patch(8, "<I", MIB + 4096)),
    EntryWound(48, "length 2^32 - 4096", patch(8, "<I", (1 << 32) - 4096)),
    EntryWound(48, "length shorter than its descriptors", patch(24, "<I", 200)),
    EntryWound(48, "length longer than its data", lambda entry: set_entry(entry, "extra", bytes(4096))),
    EntryWound(48, "length longer than its data that looks like data", append_data),
    EntryWound(49, "descriptor count 2^32 - 1", lambda entry: entry.patch(24, HUGE_COUNT)),
    EntryWound(53, "sequence number 0", patch(16, "<Q", 0)),
    EntryWound(54, "unknown descriptor", lambda entry: entry.patch_descriptor(0, 0, b"dask")),
    EntryWound(54, "misaligned file offset", lambda entry: entry.patch_descriptor(0, 16, b"\1")),
    EntryWound(54, "descriptor of another sequence", lambda entry: entry.patch_descriptor(0, 24, b"\x77")),
    EntryWound(54, "misaligned zero length", add_change(zero_change(8 * MIB, 4097))),
    EntryWound(55, "aims at the identifier", add_change(data_change(0, b"wrong"))),
    EntryWound(55, "aims at a header", add_change(data_change(0x20000, b"wrong"))),
    EntryWound(55, "aims at the log", add_change(data_change(2 * MIB - 4096, b"wrong"))),
    EntryWound(55, "zeroes the log", add_change(zero_change(MIB - 4096, 8192))),
    EntryWound(55, "aims past 2^63", add_change(data_change(1 << 63, b"wrong"))),
]


each_wound = pytest.mark.parametrize("wound", WOUNDS, ids=[wound.id for wound in WOUNDS])


@each_wound
def test_sequence_ends_before_the_wounded_entry(wound: EntryWound) -> None:
    image = unlogged()
    _, last = image.dirty_log(*grow_then_zero(image), sequence_number=0x700000001)
    wound.apply(last)
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)
    assert content_of(image) == applied(GROWN)


@each_wound
def test_log_with_only_the_wounded_entry_is_refused(wound: EntryWound) -> None:
    image = unlogged()
    (entry,) = image.dirty_log(grow(image), sequence_number=0x700000001)
    wound.apply(entry)
    with pytest.raises(CorruptImageError) as caught:
        Image.open(store_of(image))
    assert message_of_no_sequence(caught.value)


def test_case_043_unwounded_entries_are_both_replayed() -> None:
    image = unlogged()
    image.dirty_log(*grow_then_zero(image), sequence_number=0x700000001)
    assert_opens(image, applied(GROWN, ZEROED), RuleCode.LOG_DIRTY)
    assert content_of(image) == applied(GROWN, ZEROED)


def test_case_042_log_in_use_without_entries_is_refused_unless_ignored() -> None:
    image = unlogged()
    image.each_header(log_guid=LOG_GUID)
    with pytest.raises(CorruptImageError) as caught:
        Image.open(store_of(image))
    assert message_of_no_sequence(caught.value)
    assert "file offset 0x100000" in str(caught.value)
    with Image.open(store_of(image), replay="ignore") as opened:
        assert opened.is_dirty
        assert codes(opened.findings) == [RuleCode.LOG_DIRTY]
        assert opened.pread(opened.size, 0) == applied()


@pytest.mark.parametrize("position", [0, 8192], ids=["case_044_before", "case_044_after"])
def test_stale_entries_beside_live_ones_are_ignored(position: int) -> None:
    image = unlogged()
    _, stale = grow_then_zero(image)
    image.dirty_log(grow(image), position=8192 - position, sequence_number=5)
    image.log_run(stale, position=position, sequence_number=6, log_guid=STALE_LOG_GUID)
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


def test_case_045_entries_of_a_log_not_in_use_are_not_replayed() -> None:
    image = unlogged()
    image.log_run(grow(image))
    assert_opens(image, applied(), None)
    image.log_run(grow(image), position=16384, log_guid=STALE_LOG_GUID)
    assert_opens(image, applied(), None, strict=True)


def test_case_046_run_whose_tail_lies_outside_it_is_no_sequence() -> None:
    image = unlogged()
    image.dirty_log(grow(image), position=8192, tail=0)
    with pytest.raises(CorruptImageError) as caught:
        Image.open(store_of(image))
    assert message_of_no_sequence(caught.value)


def test_case_046_run_whose_tail_lies_between_its_entries_is_no_sequence() -> None:
    image = unlogged()
    image.dirty_log(*grow_then_zero(image), tail=4096)
    with pytest.raises(CorruptImageError) as caught:
        Image.open(store_of(image))
    assert message_of_no_sequence(caught.value)


def test_case_046_tail_before_a_gap_in_the_sequence_is_outside_the_run() -> None:
    image = unlogged()
    first, second = grow_then_zero(image)
    image.dirty_log(first, sequence_number=5)
    image.log_run(second, position=8192, sequence_number=7, tail=0)
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


def test_case_046_only_the_heads_tail_counts() -> None:
    image = unlogged()
    first, second = image.dirty_log(*grow_then_zero(image))
    first.tail, second.tail = 512 * 1024, 0
    assert_opens(image, applied(GROWN, ZEROED), RuleCode.LOG_DIRTY)


def test_case_046_entries_before_the_tail_are_not_replayed() -> None:
    image = unlogged()
    wrong = image.bat_change(GROWN, make_entry(PayloadState.FULLY_PRESENT, MIB))
    beyond = [data_change(image.metadata_offset, b"rubbish that must not be replayed")]
    entries = image.dirty_log(beyond, wrong, grow(image), [])
    entries[-1].tail = entries[2].position
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)
    assert content_of(image) == applied(GROWN)


@pytest.mark.parametrize("descriptors", [126, 127, 254, 255, 382, 383], ids=lambda n: f"case_050_{n}")
@pytest.mark.parametrize("position", [0, 2 * MIB - 4096, 2 * MIB - 8192], ids=hex)
def test_entry_with_any_number_of_descriptors_is_replayed(descriptors: int, position: int) -> None:
    image = ImageBuilder(512 * descriptors * MIB, log_length=2 * MIB)
    offset = image.allocate()
    image.content.append((offset, b"content"))
    entry = struct.pack("<QQ", 0, make_entry(PayloadState.FULLY_PRESENT, offset))
    image.dirty_log(
        [data_change(image.bat_offset + 4096 * index, entry) for index in range(descriptors)],
        position=position,
    )
    with Image.open(store_of(image)) as opened:
        for index in (0, 1, 125, 126, descriptors - 1):
            if index < descriptors:
                _, block = image.geometry.locate_entry(512 * index + 1)
                assert block is not None
                assert opened.pread(9, block * MIB) == b"content\0\0"


@pytest.mark.parametrize("position", range(MIB - 5 * 4096, MIB, 4096), ids=lambda at: f"case_051_{at:#x}")
def test_sequence_that_wraps_is_replayed(position: int) -> None:
    image = unlogged()
    image.dirty_log(*grow_then_zero(image), [], position=position, sequence_number=9)
    assert_opens(image, applied(GROWN, ZEROED), RuleCode.LOG_DIRTY)
    assert content_of(image) == applied(GROWN, ZEROED)


def test_case_051_later_half_of_a_wrapped_sequence_is_not_taken_for_the_whole() -> None:
    image = unlogged()
    first, second = grow_then_zero(image)
    image.dirty_log(first, second, [], position=MIB - 8192)
    image.log_entries[-1].tail = MIB - 8192
    assert_opens(image, applied(GROWN, ZEROED), RuleCode.LOG_DIRTY)


def test_case_052_sequence_that_fills_the_ring_is_replayed_once() -> None:
    image = unlogged()
    groups: list[list[LogChange]] = [[] for _ in range(252)]
    image.dirty_log(*groups, *grow_then_zero(image), position=4096 * 77)
    assert sum(entry.length for entry in image.log_entries) == MIB
    store = store_of(image)
    with Image.open(store) as opened:
        assert opened.pread(opened.size, 0) == applied(GROWN, ZEROED)
        assert store.work.bytes_read - opened.size <= 4 * MIB


def test_case_052_one_entry_that_fills_the_ring_is_replayed() -> None:
    image = unlogged()
    filler = [data_change(image.metadata_offset + 512 * 1024 + 4096 * n, b"filler") for n in range(2, 128)]
    spare = [data_change(0x50000 + 4096 * n, b"spare") for n in range(127)]
    image.dirty_log([*grow(image), *filler, *spare], position=4096)
    assert image.log_entries[0].length == MIB
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


def test_case_056_zero_descriptor_of_no_length_does_nothing() -> None:
    image = unlogged()
    image.dirty_log([zero_change(image.bat_offset, 0), *grow(image), zero_change(image.bat_offset, 0)])
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


def test_case_063_stale_bytes_after_the_last_descriptor_are_ignored() -> None:
    image = unlogged()
    (entry,) = image.dirty_log(grow(image))
    entry.patch(96, b"desc" * ((4096 - 96) // 4))
    assert_opens(image, applied(GROWN), RuleCode.LOG_DIRTY)


def test_case_065_dirty_log_is_replayed_in_memory_or_refused_as_asked() -> None:
    image = unlogged()
    image.dirty_log(grow(image))
    with Image.open(store_of(image)) as opened:
        assert opened.is_dirty
        assert opened.pread(opened.size, 0) == applied(GROWN)
    with pytest.raises(LogReplayRequiredError):
        Image.open(store_of(image), replay="refuse")
    with Image.open(store_of(image), replay="ignore") as opened:
        assert opened.pread(opened.size, 0) == applied()
