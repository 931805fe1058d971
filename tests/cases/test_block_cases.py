"""Odd BAT entries, blocks and sector bitmaps: cases 96 to 116 of the format's table.

In mode r they are found by the read that meets the entry, or by strict=True.
"""

from uuid import UUID

import pytest

from support.cases import (
    assert_block_refused,
    assert_opens,
    block_codes,
    codes,
    content_of,
    pattern,
    sound,
    sound_child,
    store_of,
)
from support.units import MIB, TIB
from vhdx import CorruptImageError, Image
from vhdx.format.bat import PayloadState
from vhdx.rules import RuleCode
from vhdx.storage.base import pread
from vhdx.testing import ImageBuilder, ReferenceDisk

BLOCK = 1


def assert_strict_refuses(image: ImageBuilder, code: RuleCode, *names: str) -> None:
    with pytest.raises(CorruptImageError) as caught:
        Image.open(store_of(image), strict=True)
    assert caught.value.code is code
    for name in names:
        assert name in str(caught.value)


def assert_reads(image: ImageBuilder, expected: bytes, *expected_codes: RuleCode) -> None:
    """The image opens by default, reads right, and these rules are found broken on the way."""
    with Image.open(store_of(image)) as opened:
        assert opened.findings == []
        assert opened.pread(opened.size, 0) == expected
        assert list(dict.fromkeys(codes(opened.findings))) == list(expected_codes)


@pytest.mark.parametrize("offset", [0, 9 * MIB], ids=["case_096", "case_096_with_offset"])
def test_block_of_reserved_state_is_refused_by_its_read(offset: int) -> None:
    image = sound()
    image.set_block(BLOCK, 4, offset)
    image.file_length = 32 * MIB
    names = ["BAT entry 1 (block 1)", "0x300008"]
    assert_block_refused(image, BLOCK, RuleCode.BAT_STATE_RESERVED, names, intact=(0, 2, 3))


def test_case_097_state_five_reads_as_zeroes_unless_strict() -> None:
    image = sound()
    image.set_block(BLOCK, 5)
    assert_reads(image, content_of(sound()), RuleCode.BAT_STATE_OLD_UNMAPPED)
    assert_strict_refuses(image, RuleCode.BAT_STATE_OLD_UNMAPPED, "BAT entry 1", "0x300008")


def test_case_098_partially_present_block_without_parent_reads_from_the_file_unless_strict() -> None:
    image = sound()
    image.add_block(BLOCK, b"here", state=PayloadState.PARTIALLY_PRESENT)
    assert_reads(image, content_of(image), RuleCode.BAT_PARTIAL_WITHOUT_PARENT)
    assert content_of(image)[MIB : MIB + 4] == b"here"
    assert_strict_refuses(image, RuleCode.BAT_PARTIAL_WITHOUT_PARENT, "BAT entry 1", "0x300008")


@pytest.mark.parametrize("bit", [0, 16], ids=["case_099_lowest", "case_099_highest"])
def test_reserved_bits_of_an_entry_are_ignored_unless_strict(bit: int) -> None:
    image = sound()
    image.bat[0] |= 8 << bit
    image.bat[1] = 8 << bit
    assert_reads(image, content_of(sound()), RuleCode.BAT_RESERVED_BITS)
    assert_strict_refuses(image, RuleCode.BAT_RESERVED_BITS, "BAT entry 0", "0x300000")


@pytest.mark.parametrize("state", [0, 2], ids=["case_100_not_present", "case_100_zero"])
@pytest.mark.parametrize("offset", [MIB, 4 * MIB, 16 * TIB], ids=["the_log", "another_block", "past_the_end"])
def test_offset_of_a_block_that_can_have_none_is_ignored(state: int, offset: int) -> None:
    image = sound()
    image.set_block(BLOCK, state, offset)
    assert_reads(image, content_of(sound()), RuleCode.BAT_UNUSED_OFFSET)
    with Image.open(store_of(image), strict=True) as opened:
        assert codes(opened.findings) == [RuleCode.BAT_UNUSED_OFFSET]


@pytest.mark.parametrize("state", [1, 3], ids=["case_101_undefined", "case_101_unmapped"])
def test_soft_anchor_reads_as_zeroes(state: int) -> None:
    image = sound()
    image.add_block(BLOCK, b"former content", state=state)
    assert_opens(image, content_of(sound()), None)
    assert_opens(image, content_of(sound()), None, strict=True)


@pytest.mark.parametrize("state", [1, 3], ids=["case_101_undefined", "case_101_unmapped"])
def test_soft_anchor_owns_its_space(state: int) -> None:
    image = sound()
    image.set_block(BLOCK, state, MIB)
    assert_strict_refuses(image, RuleCode.BLOCK_OVERLAPS_STRUCTURE, "BAT entry 1", "log")
    image.set_block(BLOCK, state, image.data_offset)
    assert_strict_refuses(image, RuleCode.BLOCK_OVERLAP, "BAT entry 1", "block 0")
    image.set_block(BLOCK, state, 16 * TIB)
    assert_strict_refuses(image, RuleCode.BLOCK_PAST_END, "BAT entry 1")


@pytest.mark.parametrize("state", [6, 7], ids=["case_102_fully", "case_102_partially"])
def test_block_in_the_header_section_is_refused_by_its_read(state: int) -> None:
    image, _ = sound_child()
    image.set_block(BLOCK, state)
    names = ["BAT entry 1 (block 1)", "0x300008", "0x0"]
    assert_block_refused(image, BLOCK, RuleCode.BLOCK_LOCATION, names)


def region_offsets() -> dict[str, int]:
    image = sound()
    unknown = image.add_region(UUID(int=5))
    return {"log": MIB, "metadata region": 2 * MIB, "BAT region": 3 * MIB, f"region {UUID(int=5)}": unknown}


@pytest.mark.parametrize("name", region_offsets(), ids=lambda name: f"case_103_{name}")
def test_block_on_a_structure_is_refused_by_its_read(name: str) -> None:
    image = sound()
    image.add_region(UUID(int=5))
    image.set_block(BLOCK, PayloadState.FULLY_PRESENT, region_offsets()[name])
    assert_block_refused(
        image,
        BLOCK,
        RuleCode.BLOCK_OVERLAPS_STRUCTURE,
        ["BAT entry 1 (block 1)", "0x300008", name],
        (0, 2, 3),
    )


def test_case_103_block_that_reaches_into_a_structure_is_refused_by_its_read() -> None:
    image = ImageBuilder(8 * MIB, 2 * MIB)
    before = image.allocate(MIB)
    image.add_region(UUID(int=5))
    image.set_block(BLOCK, PayloadState.FULLY_PRESENT, before)
    image.file_length = 32 * MIB
    assert_block_refused(image, BLOCK, RuleCode.BLOCK_OVERLAPS_STRUCTURE, [str(UUID(int=5))])


def test_case_104_two_entries_with_one_offset_are_refused_when_strict() -> None:
    image = sound()
    image.bat[1] = image.bat[0]
    expected = content_of(image)
    assert expected[:MIB] == expected[MIB : 2 * MIB]
    assert_reads(image, expected)
    assert_strict_refuses(image, RuleCode.BLOCK_OVERLAP, "BAT entry 1 (block 1)", "block 0", "0x400000")


def test_case_105_blocks_that_overlap_partly_are_refused_when_strict() -> None:
    image = ImageBuilder(8 * MIB, 2 * MIB)
    offset = image.add_block(0, b"\1" * (2 * MIB))
    image.add_block(3, b"\3" * (2 * MIB), file_offset=offset + MIB)
    assert_reads(image, content_of(image))
    assert_strict_refuses(
        image, RuleCode.BLOCK_OVERLAP, "BAT entry 3 (block 3)", "block 0", f"{offset + MIB:#x}"
    )


@pytest.mark.parametrize(
    "offset", [32 * MIB, 16 * TIB, 256 * TIB - MIB], ids=lambda offset: f"case_106_at_{offset}"
)
def test_block_past_the_end_is_refused_by_its_read(offset: int) -> None:
    image = sound()
    image.set_block(BLOCK, PayloadState.FULLY_PRESENT, offset)
    image.file_length = 32 * MIB
    names = ["BAT entry 1 (block 1)", f"{offset:#x}"]
    assert_block_refused(image, BLOCK, RuleCode.BLOCK_PAST_END, names, intact=(0, 2, 3))


def test_case_107_block_cut_off_by_the_end_reads_as_far_as_it_goes() -> None:
    image = sound()
    offset = image.add_block(BLOCK, b"\x77" * MIB)
    image.file_length = offset + MIB // 2 + 512
    with Image.open(store_of(image)) as opened:
        assert opened.pread(MIB // 2 + 512, MIB) == b"\x77" * (MIB // 2 + 512)
        for start in (MIB // 2, MIB // 2 + 1, MIB // 2 + 512, MIB - 512):
            with pytest.raises(CorruptImageError) as caught:
                opened.pread(513 if start < MIB // 2 + 512 else 1, MIB + start)
            assert caught.value.code is RuleCode.BLOCK_TRUNCATED
        assert opened.pread(4096, 3 * MIB) == content_of(sound())[3 * MIB :][:4096]
        assert block_codes(opened) == [RuleCode.BLOCK_TRUNCATED]
    assert_strict_refuses(image, RuleCode.BLOCK_TRUNCATED, "BAT entry 1 (block 1)")


def test_case_107_last_block_cut_off_below_the_disks_end_reads_as_far_as_it_goes() -> None:
    image = sound()
    image.file_length = image.length() - MIB // 2 - 512
    with Image.open(store_of(image)) as opened:
        assert opened.pread(4096, 4 * MIB) == content_of(sound())[4 * MIB : 4 * MIB + 4096]
        with pytest.raises(CorruptImageError) as caught:
            opened.pread(1, opened.size - 1)
        assert caught.value.code is RuleCode.BLOCK_TRUNCATED
    assert_strict_refuses(image, RuleCode.BLOCK_TRUNCATED, "BAT entry 4 (block 4)")


def test_case_108_last_block_cut_off_above_the_disks_end_is_whole() -> None:
    image = sound()
    image.file_length = image.length() - MIB // 2
    assert_opens(image, content_of(sound()), None)
    assert_opens(image, content_of(sound()), None, strict=True)


@pytest.mark.parametrize(
    "offset", [1 << 63, (1 << 64) - MIB, (1 << 63) - MIB, 257 * TIB], ids=lambda n: f"case_109_{n:#x}"
)
def test_block_at_an_impossible_offset_is_refused_by_its_read(offset: int) -> None:
    image = sound()
    image.set_block(BLOCK, PayloadState.FULLY_PRESENT, offset)
    names = ["BAT entry 1 (block 1)", f"{offset:#x}"]
    assert_block_refused(image, BLOCK, RuleCode.BLOCK_OFFSET_LIMIT, names, intact=(0, 2, 3))


def test_case_110_entries_after_the_last_needed_one_are_ignored() -> None:
    image = sound()
    for index in range(5, 4096):
        image.bat[index] = 0xFFFFFFFFFFFFFFFF
    assert_opens(image, content_of(sound()), None)
    assert_opens(image, content_of(sound()), None, strict=True)


def test_case_110_entries_past_the_end_of_a_childs_disk_are_not_read() -> None:
    child, parent = sound_child()
    expected = content_of(child, parent)
    child.bat[7] = 4
    with Image.open(store_of(child), strict=True) as opened:
        assert codes(opened.findings) == [RuleCode.BAT_TRAILING_ENTRIES]
        assert opened.pread(MIB, MIB) == expected[MIB : 2 * MIB]


def two_chunks(kind: str = "dynamic") -> ImageBuilder:
    """Blocks of 256 MiB: a chunk has 16, so this disk has a bitmap entry between blocks 15 and 16."""
    image = ImageBuilder(
        20 * 256 * MIB, 256 * MIB, kind="differencing" if kind == "differencing" else "dynamic", name="child"
    )
    image.add_block(3, b"three")
    image.add_block(16, b"sixteen")
    return image


def test_case_111_bitmap_entry_without_parent_is_refused_only_when_strict() -> None:
    image = two_chunks()
    image.set_bitmap_entry(0, 6, image.allocate())
    with Image.open(store_of(image)) as opened:
        assert opened.pread(7, 16 * 256 * MIB) == b"sixteen"
        assert opened.pread(5, 3 * 256 * MIB) == b"three"
        assert block_codes(opened) == [RuleCode.BITMAP_SLOT_WITHOUT_PARENT]
    assert_strict_refuses(
        image, RuleCode.BITMAP_SLOT_WITHOUT_PARENT, "BAT entry 16 (sector bitmap of chunk 0)"
    )


def test_case_111_space_of_a_bitmap_without_parent_stays_occupied() -> None:
    image = two_chunks()
    image.set_bitmap_entry(0, 6, image.data_offset)
    with Image.open(store_of(image)) as opened:
        assert set(block_codes(opened)) == {RuleCode.BITMAP_SLOT_WITHOUT_PARENT, RuleCode.BLOCK_OVERLAP}


@pytest.mark.parametrize("state", [1, 2, 3, 4, 5], ids=lambda state: f"case_112_state_{state}")
def test_bitmap_entry_of_reserved_state_is_refused_by_reads_that_need_it(state: int) -> None:
    child, _ = sound_child()
    chunk_entry = child.geometry.entry_of_bitmap(0)
    child.bat[chunk_entry] = child.bat[chunk_entry] & ~7 | state
    with Image.open(store_of(child)) as opened:
        with pytest.raises(CorruptImageError) as caught:
            opened.pread(512, 512)
        assert caught.value.code is RuleCode.BITMAP_MISSING
        assert opened.pread(4096, MIB) == pattern(7)
        assert set(block_codes(opened)) == {RuleCode.BITMAP_MISSING, RuleCode.BITMAP_SLOT_STATE}
    assert_strict_refuses(child, RuleCode.BITMAP_SLOT_STATE, "sector bitmap of chunk 0")


@pytest.mark.parametrize("state", [1, 2, 3, 4, 5], ids=lambda state: f"case_112_state_{state}")
def test_bitmap_entry_of_reserved_state_that_nobody_needs_is_refused_only_when_strict(state: int) -> None:
    image = two_chunks("differencing")
    image.set_bitmap_entry(1, state)
    with Image.open(store_of(image)) as opened:
        assert opened.pread(7, 16 * 256 * MIB) == b"sixteen"
        assert block_codes(opened) == [RuleCode.BITMAP_SLOT_STATE]
    assert_strict_refuses(image, RuleCode.BITMAP_SLOT_STATE, "BAT entry 33 (sector bitmap of chunk 1)")


def test_case_112_bitmap_entry_of_state_seven_is_taken_for_present_unless_strict() -> None:
    child, _ = sound_child()
    child.bat[child.geometry.entry_of_bitmap(0)] |= 1
    with Image.open(store_of(child)) as opened:
        assert opened.pread(512, 512) == b"\xc1" * 512
        assert codes(opened.findings) == [RuleCode.BITMAP_SLOT_STATE]
    assert_strict_refuses(child, RuleCode.BITMAP_SLOT_STATE, "sector bitmap of chunk 0")


def test_case_112_reserved_bits_of_a_bitmap_entry_are_ignored_unless_strict() -> None:
    child, _ = sound_child()
    child.bat[child.geometry.entry_of_bitmap(0)] |= 8
    with Image.open(store_of(child)) as opened:
        assert opened.pread(512, 512) == b"\xc1" * 512
        assert codes(opened.findings) == [RuleCode.BAT_RESERVED_BITS]
    assert_strict_refuses(child, RuleCode.BAT_RESERVED_BITS, "sector bitmap of chunk 0")


def test_case_112_offset_of_an_absent_bitmap_is_ignored() -> None:
    image = two_chunks("differencing")
    image.set_bitmap_entry(0, 0, MIB)
    with Image.open(store_of(image), strict=True) as opened:
        assert codes(opened.findings) == [RuleCode.BAT_UNUSED_OFFSET]
        assert opened.pread(7, 16 * 256 * MIB) == b"sixteen"


def test_case_113_partially_present_block_without_bitmap_is_refused_by_its_read() -> None:
    child, _ = sound_child()
    child.set_bitmap_entry(0, 0)
    names = ["BAT entry 4096 (sector bitmap of chunk 0)", "0x308000", "block 0"]
    assert_block_refused(child, 0, RuleCode.BITMAP_MISSING, names, intact=(1,))


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        (0, RuleCode.BLOCK_LOCATION),
        (MIB, RuleCode.BLOCK_OVERLAPS_STRUCTURE),
        (3 * MIB, RuleCode.BLOCK_OVERLAPS_STRUCTURE),
        (32 * MIB, RuleCode.BLOCK_PAST_END),
        (1 << 63, RuleCode.BLOCK_OFFSET_LIMIT),
    ],
    ids=["case_114_header", "case_114_log", "case_114_bat", "case_114_past_the_end", "case_114_impossible"],
)
def test_bitmap_in_an_impossible_place_is_refused_by_reads_that_need_it(offset: int, code: RuleCode) -> None:
    child, _ = sound_child()
    child.set_bitmap_entry(0, 6, offset)
    child.file_length = 32 * MIB
    assert_block_refused(child, 0, code, ["BAT entry 4096", "0x308000", f"{offset:#x}"], intact=(1,))


def test_case_114_bitmap_cut_off_by_the_end_is_refused_by_reads_that_need_it() -> None:
    child, _ = sound_child()
    child.set_bitmap_entry(0, 6, 32 * MIB)
    child.file_length = 33 * MIB - 512
    assert_block_refused(child, 0, RuleCode.BLOCK_TRUNCATED, ["BAT entry 4096"], intact=(1,))


def test_case_114_bitmap_on_a_block_is_refused_when_strict() -> None:
    child, _ = sound_child()
    child.set_bitmap_entry(0, 6, child.bat[1] - 6)
    assert_strict_refuses(child, RuleCode.BLOCK_OVERLAP, "BAT entry 4096", "block 1")


def test_case_115_bits_that_belong_to_nothing_are_ignored() -> None:
    child, parent = sound_child()
    expected = content_of(child, parent)
    bits = child.bitmaps[0][1]
    bits[256:] = b"\xff" * (MIB - 256)
    stores = [image.build_store() for image in (child, parent)]
    assert ReferenceDisk(stores).read(0, len(expected)) == expected
    with Image.open(store_of(child), strict=True) as opened:
        assert opened.findings == []
        assert opened.pread(512, 512) == b"\xc1" * 512
        assert opened.pread(MIB, MIB) == expected[MIB : 2 * MIB]


@pytest.mark.parametrize("state", [0, 1, 2, 3], ids=lambda state: f"case_116_state_{state}")
def test_fixed_image_with_blocks_that_are_not_allocated_reads_as_zeroes_there(state: int) -> None:
    image = ImageBuilder(4 * MIB, kind="fixed")
    for block in range(3):
        image.set_block(block, state)
    image.content.append((image.bat[3] - 6, b"allocated"))
    with Image.open(store_of(image), strict=True) as opened:
        assert opened.kind == "fixed"
        assert opened.pread(opened.size, 0) == bytes(3 * MIB) + b"allocated".ljust(MIB, b"\0")
        assert opened.findings == []
    assert pread(image.build_store(), 9, image.bat[3] - 6) == b"allocated"
