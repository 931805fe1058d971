"""What only a check looks at: nothing that a reader trips over, but worth knowing before a writer does."""

from pathlib import Path

import pytest

from support.cases import check_codes, codes, content_of, pattern, sound, sound_child, store_of
from support.dirty import grow, unlogged
from support.units import MIB
from vhdx import Image, Severity
from vhdx.errors import ImageStateError
from vhdx.format.bat import PayloadState
from vhdx.format.guids import VIRTUAL_DISK_SIZE
from vhdx.ops.check import check
from vhdx.ops.dump import dump
from vhdx.rules import RuleCode
from vhdx.testing import ImageBuilder


def worst(image: ImageBuilder) -> Severity | None:
    run = check(store_of(image))
    list(run.findings())
    return run.summary.worst


def test_sound_images_have_no_findings() -> None:
    child, parent = sound_child()
    for image in (sound(), child, parent, ImageBuilder(4 * MIB, kind="fixed")):
        assert check_codes(image) == []
        assert worst(image) is None


def test_case_006_trailing_bytes_are_no_damage() -> None:
    image = sound()
    image.trailing = bytes(512)
    assert check_codes(image) == [RuleCode.FILE_SIZE_ALIGNMENT]
    assert worst(image) is Severity.NOTICE


def test_case_065_dirty_image_is_no_damage() -> None:
    image = unlogged()
    image.dirty_log(grow(image))
    assert check_codes(image) == [RuleCode.LOG_DIRTY]
    assert worst(image) is Severity.NOTICE


def test_case_066_blocks_are_judged_as_the_log_leaves_them() -> None:
    image = unlogged()
    image.set_block(3, PayloadState.FULLY_PRESENT, 64 << 40)
    later = sound()
    image.dirty_log(image.bat_change(3, later.bat[3]))
    assert check_codes(image) == [RuleCode.LOG_DIRTY]


@pytest.mark.parametrize("at", ["next", "last"], ids=lambda at: f"case_110_{at}")
def test_entries_after_the_last_needed_one_are_noted(at: str) -> None:
    image = sound()
    image.bat[5 if at == "next" else MIB // 8 - 1] = 1
    assert check_codes(image) == [RuleCode.BAT_TRAILING_ENTRIES]
    assert worst(image) is Severity.NOTICE


def test_case_110_entry_past_the_disks_end_that_owns_space_wastes_it() -> None:
    child, _ = sound_child()
    child.set_block(9, PayloadState.FULLY_PRESENT, child.allocate())
    assert check_codes(child) == [RuleCode.BLOCK_BEYOND_DISK]
    child.set_block(9, PayloadState.ZERO)
    assert check_codes(child) == [RuleCode.BAT_TRAILING_ENTRIES]


@pytest.mark.parametrize("block", [1, 4095], ids=lambda block: f"case_115_block_{block}")
def test_bits_of_blocks_that_are_not_partially_present_are_noted(block: int) -> None:
    child, parent = sound_child()
    child.bitmaps[0][1][256 * block + 255] = 0x80
    assert check_codes(child) == [RuleCode.BITMAP_STALE]
    with Image.open(store_of(child), strict=True) as opened:
        assert opened.pread(MIB, MIB) == content_of(child, parent)[MIB : 2 * MIB]


def test_case_115_bits_of_partially_present_blocks_are_sound() -> None:
    child, _ = sound_child()
    child.bitmaps[0][1][:256] = b"\xff" * 256
    assert check_codes(child) == []


def test_case_116_fixed_image_with_blocks_that_are_not_allocated_is_noted() -> None:
    image = ImageBuilder(4 * MIB, kind="fixed")
    image.set_block(2, PayloadState.ZERO)
    (finding,) = check(store_of(image)).findings()
    assert finding.code is RuleCode.FIXED_NOT_ALLOCATED
    assert finding.found == "1 without"
    assert worst(image) in (Severity.NOTICE, Severity.WARNING)


@pytest.mark.parametrize("name", ["child.vhdx.rct", "child.vhdx.mrt"], ids=lambda name: name)
def test_side_file_of_change_tracking_is_noted(name: str, tmp_path: Path) -> None:
    path = sound().write(tmp_path / "child.vhdx")
    (tmp_path / name).write_bytes(b"")
    run = check(path)
    assert codes(list(run.findings())) == [RuleCode.CHANGE_TRACKING]


def test_figures_of_a_check_are_refused_before_its_end() -> None:
    image = sound()
    image.trailing = bytes(512)
    run = check(store_of(image))
    with pytest.raises(ImageStateError, match="to the end"):
        _ = run.summary
    assert codes([next(run.findings())]) == [RuleCode.FILE_SIZE_ALIGNMENT]
    with pytest.raises(ImageStateError, match="to the end"):
        _ = run.summary
    assert list(run.findings()) == []
    assert run.summary.block_count == 5


def test_figures_of_a_check_add_up() -> None:
    image = sound()
    image.allocate(3 * MIB)
    run = check(store_of(image))
    assert list(run.findings()) == []
    summary = run.summary
    assert summary.file_size == image.length()
    assert summary.virtual_size == image.geometry.virtual_size
    assert (summary.block_count, summary.allocated_blocks) == (5, 3)
    assert summary.unused_bytes == 3 * MIB


def test_crowd_of_damaged_entries_is_counted_and_not_listed_whole() -> None:
    image = ImageBuilder(4096 * MIB)
    image.add_block(0, pattern(1))
    for block in range(1, 4000):
        image.set_block(block, 4)
    run = check(store_of(image))
    found = list(run.findings())
    assert 0 < len(found) <= 64
    assert run.summary.counts == {RuleCode.BAT_STATE_RESERVED: 3999}


def test_case_095_dump_tells_that_the_bat_region_is_too_small() -> None:
    image = sound()
    image.item(VIRTUAL_DISK_SIZE).data = (1 << 46).to_bytes(8, "little")
    (bat,) = (structure for structure in dump(store_of(image)) if structure.name == "BAT")
    assert codes(bat.findings) == [RuleCode.BAT_TOO_SMALL]
