"""Opening for writing judges everything first: what a reader tolerates, a writer refuses, untouched."""

import pytest

from support.cases import Wound, content_of, sound, sound_child, store_of
from support.dirty import grow, unlogged
from support.units import GIB, MIB, TIB
from vhdx import CorruptImageError, FormatError, Image
from vhdx.format.bat import PayloadState
from vhdx.rules import RuleCode
from vhdx.storage.base import pread_zero_extended
from vhdx.testing import ImageBuilder

BLOCK = 1


def present_at(file_offset: int) -> Wound:
    return lambda image: image.set_block(BLOCK, PayloadState.FULLY_PRESENT, file_offset)


def exhaust(image: ImageBuilder) -> None:
    image.headers[1].sequence_number = (1 << 64) - 1


def exhaust_soon(image: ImageBuilder) -> None:
    image.headers[1].sequence_number = (1 << 64) - 2


def overlap(image: ImageBuilder) -> None:
    image.bat[BLOCK] = image.bat[0]


def cut_block(image: ImageBuilder) -> None:
    image.file_length = image.add_block(BLOCK) + MIB // 2


def grow_absurdly(image: ImageBuilder) -> None:
    (entry,) = image.dirty_log(image.bat_change(BLOCK, PayloadState.ZERO))
    entry.last_file_offset = 2 * GIB


REFUSED: dict[str, tuple[Wound, RuleCode]] = {
    "case_022_log_beyond_the_end": (
        lambda image: image.each_header(log_offset=GIB),
        RuleCode.LOG_BEYOND_END,
    ),
    "case_025_sequence_number_exhausted": (exhaust, RuleCode.HEADER_SEQUENCE_EXHAUSTED),
    "case_025_sequence_number_exhausted_soon": (exhaust_soon, RuleCode.HEADER_SEQUENCE_EXHAUSTED),
    "case_061_growth_by_gib": (grow_absurdly, RuleCode.LOG_GROWTH_LIMIT),
    "case_096_reserved_state": (
        lambda image: image.set_block(BLOCK, 4),
        RuleCode.BAT_STATE_RESERVED,
    ),
    "case_098_partial_without_parent": (
        lambda image: image.add_block(BLOCK, state=7),
        RuleCode.BAT_PARTIAL_WITHOUT_PARENT,
    ),
    "case_102_in_the_header_section": (present_at(0), RuleCode.BLOCK_LOCATION),
    "case_103_on_the_log": (present_at(MIB), RuleCode.BLOCK_OVERLAPS_STRUCTURE),
    "case_104_overlap": (overlap, RuleCode.BLOCK_OVERLAP),
    "case_106_past_the_end": (present_at(TIB), RuleCode.BLOCK_PAST_END),
    "case_107_cut_off": (cut_block, RuleCode.BLOCK_TRUNCATED),
    "case_109_impossible": (present_at(1 << 63), RuleCode.BLOCK_OFFSET_LIMIT),
}


@pytest.mark.parametrize("name", REFUSED)
def test_image_that_a_writer_must_not_touch_is_refused_untouched(name: str) -> None:
    wound, code = REFUSED[name]
    image = sound()
    wound(image)
    with Image.open(store_of(image)) as opened:
        assert opened.size == image.geometry.virtual_size
    with pytest.raises(FormatError) as caught:
        Image.open(store_of(image), "r+")
    assert caught.value.code is code


def test_case_113_missing_bitmap_is_refused_untouched() -> None:
    child, _ = sound_child()
    child.set_bitmap_entry(0, 0)
    with pytest.raises(CorruptImageError) as caught:
        Image.open(store_of(child), "r+")
    assert caught.value.code is RuleCode.BITMAP_MISSING


def test_log_that_cannot_be_replayed_is_left_as_it_is() -> None:
    image = unlogged()
    (entry,) = image.dirty_log(grow(image))
    entry.bad_checksum = True
    with pytest.raises(CorruptImageError) as caught:
        Image.open(store_of(image), "r+")
    assert caught.value.code is RuleCode.LOG_NO_SEQUENCE


def test_opening_for_writing_and_closing_changes_no_byte() -> None:
    for image in (sound(), *sound_child()):
        store = image.build_store()
        before = pread_zero_extended(store, store.size(), 0)
        with Image.open(store, "r+") as opened:
            if image.geometry.has_parent:
                opened.pread(512, 512)
            else:
                assert opened.pread(opened.size, 0) == content_of(image)
        assert store.size() == len(before)
        assert pread_zero_extended(store, store.size(), 0) == before
