"""What a writer refuses, not having touched it, and what it takes in spite of a fault (FORMAT 12)."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

import vhdx
from support.cases import Wound, pattern, sound, sound_child
from support.units import GIB, MIB, TIB
from support.written_images import chain_bytes, faults, file_bytes
from vhdx.format.bat import PayloadState
from vhdx.format.guids import ZERO_GUID
from vhdx.rules import RuleCode
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder, zero_change
from vhdx.testing.stores import WatchedStore

BLOCK = 1


def cut_block(image: ImageBuilder) -> None:
    image.file_length = image.add_block(BLOCK) + MIB // 2


def overlap_partly(image: ImageBuilder) -> None:
    image.geometry = ImageBuilder(8 * MIB, 2 * MIB).geometry
    image.metadata = ImageBuilder(8 * MIB, 2 * MIB).metadata
    image.bat.clear()
    start = image.add_block(0)
    image.add_block(1, file_offset=start + MIB)


def distant_zeroes(image: ImageBuilder) -> None:
    (entry,) = image.dirty_log(image.bat_change(BLOCK, PayloadState.ZERO))
    entry.last_file_offset = 64 * TIB


def zero_terabytes(image: ImageBuilder) -> None:
    image.dirty_log([zero_change(GIB, 32 * TIB)])


def differ(image: ImageBuilder) -> None:
    image.headers[0].sequence_number = image.headers[1].sequence_number
    image.headers[0].log_offset = 9 * MIB


REFUSED: dict[str, tuple[Wound, RuleCode]] = {
    "012 equal sequence numbers": (differ, RuleCode.HEADER_EQUAL_SEQUENCE),
    "022 log past the end": (lambda image: image.each_header(log_offset=GIB), RuleCode.LOG_BEYOND_END),
    "025 no sequence number left": (
        lambda image: image.each_header(sequence_number=(1 << 64) - 1),
        RuleCode.HEADER_SEQUENCE_EXHAUSTED,
    ),
    "025 hardly one left": (
        lambda image: image.each_header(sequence_number=(1 << 64) - (1 << 32)),
        RuleCode.HEADER_SEQUENCE_EXHAUSTED,
    ),
    "057 zeroes of many TiB": (zero_terabytes, RuleCode.LOG_GROWTH_LIMIT),
    "061 growth by many TiB": (distant_zeroes, RuleCode.LOG_GROWTH_LIMIT),
    "096 reserved state": (lambda image: image.set_block(BLOCK, 4), RuleCode.BAT_STATE_RESERVED),
    "098 partial without parent": (
        lambda image: image.add_block(BLOCK, state=7),
        RuleCode.BAT_PARTIAL_WITHOUT_PARENT,
    ),
    "102 offset 0": (lambda image: image.set_block(BLOCK, 6), RuleCode.BLOCK_LOCATION),
    "103 over the log": (lambda image: image.set_block(BLOCK, 6, MIB), RuleCode.BLOCK_OVERLAPS_STRUCTURE),
    "103 anchor over the BAT": (
        lambda image: image.set_block(BLOCK, 3, image.bat_offset),
        RuleCode.BLOCK_OVERLAPS_STRUCTURE,
    ),
    "104 same offset": (
        lambda image: image.set_block(BLOCK, 6, image.bat[0] - 6),
        RuleCode.BLOCK_OVERLAP,
    ),
    "104 anchor over a block": (
        lambda image: image.set_block(BLOCK, 3, image.bat[0] - 6),
        RuleCode.BLOCK_OVERLAP,
    ),
    "105 overlap in part": (overlap_partly, RuleCode.BLOCK_OVERLAP),
    "106 past the end": (lambda image: image.set_block(BLOCK, 6, TIB), RuleCode.BLOCK_PAST_END),
    "107 cut off": (cut_block, RuleCode.BLOCK_TRUNCATED),
    "109 impossible offset": (
        lambda image: image.set_block(BLOCK, 6, 1 << 63),
        RuleCode.BLOCK_OFFSET_LIMIT,
    ),
}
REFUSED_CHILDREN: dict[str, tuple[Wound, RuleCode]] = {
    "112 bitmap state": (lambda image: image.set_bitmap_entry(0, 3, MIB), RuleCode.BITMAP_SLOT_STATE),
    "113 no bitmap": (lambda image: image.set_bitmap_entry(0, 0), RuleCode.BITMAP_MISSING),
    "114 bitmap past the end": (lambda image: image.set_bitmap_entry(0, 6, TIB), RuleCode.BLOCK_PAST_END),
    "114 bitmap over the BAT": (
        lambda image: image.set_bitmap_entry(0, 6, image.bat_offset),
        RuleCode.BLOCK_OVERLAPS_STRUCTURE,
    ),
    "114 bitmap over a block": (
        lambda image: image.set_bitmap_entry(0, 6, image.bat[1] - 6),
        RuleCode.BLOCK_OVERLAP,
    ),
}


@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_CHILDREN])
def test_image_that_must_not_be_written_is_refused_untouched(name: str) -> None:
    child, parent = sound_child()
    image = sound() if name in REFUSED else child
    wound, code = (REFUSED | REFUSED_CHILDREN)[name]
    wound(image)
    watched = WatchedStore(image.build_store())
    before = file_bytes(watched)
    with pytest.raises(vhdx.CorruptImageError) as caught:
        vhdx.open(watched, "r+", parents=[parent.build_store()])
    assert caught.value.code is code
    assert watched.calls == []
    assert file_bytes(watched) == before


def trailing_entries(image: ImageBuilder) -> None:
    image.bat[image.geometry.entry_count + 3] = 0x123 << 20 | 6


def bitmap_without_parent(image: ImageBuilder) -> None:
    image.geometry = ImageBuilder(5 * GIB).geometry
    image.metadata = ImageBuilder(5 * GIB).metadata
    image.add_bitmap(0)


TAKEN: dict[str, Wound] = {
    "005 rubbish in reserved space": lambda image: image.patch(0x50000, b"rubbish"),
    "006 trailing bytes": lambda image: setattr(image, "trailing", bytes(512)),
    "008 damaged header": lambda image: setattr(image.headers[0], "bad_checksum", True),
    "011 equal headers": lambda image: setattr(image.headers[0], "sequence_number", 2),
    "019 no log": lambda image: image.each_header(log_length=0, log_offset=0),
    "024 reserved bytes of headers": lambda image: image.each_header(reserved=b"reserved"),
    "026 zero GUIDs": lambda image: image.each_header(file_write_guid=ZERO_GUID),
    "027 damaged region table": lambda image: setattr(image.region_tables[0], "bad_checksum", True),
    "045 stale entries": lambda image: image.log_run(image.bat_change(3, 2)),
    "097 old state": lambda image: image.set_block(BLOCK, 5),
    "099 reserved bits": lambda image: image.set_block(BLOCK, 2, reserved=1),
    "100 offset of a zero block": lambda image: image.set_block(BLOCK, 2, 5 * MIB),
    "101 soft anchor": lambda image: image.add_block(BLOCK, b"a" * MIB, state=3),
    "110 entries after the last": trailing_entries,
    "111 bitmap without parent": bitmap_without_parent,
}


@pytest.mark.parametrize("name", TAKEN)
def test_image_with_a_harmless_fault_is_written_right(name: str) -> None:
    image = sound()
    TAKEN[name](image)
    store = image.build_store()
    with vhdx.open(store, "r+") as disk:
        assert disk.pread(MIB, MIB) == bytes(MIB)
        disk.pwrite(b"n" * 512, BLOCK * MIB + 512)
        disk.pwrite(b"n" * 512, 0)
    assert chain_bytes([store], BLOCK * MIB, 1536) == bytes(512) + b"n" * 512 + bytes(512)
    assert chain_bytes([store], 512, 512) == pattern(1)[512:1024]
    assert chain_bytes([store], 3 * MIB, 4096) == pattern(2)
    left = {finding.code for finding in faults(store)}
    assert left == ({RuleCode.BITMAP_SLOT_WITHOUT_PARENT} if name == "111 bitmap without parent" else set())


def test_file_of_a_store_that_was_refused_can_be_read_still() -> None:
    image = sound()
    cut_block(image)
    store: MemoryStore = image.build_store()
    with pytest.raises(vhdx.CorruptImageError):
        vhdx.open(store, "r+")
    with vhdx.open(store) as disk:
        assert disk.pread(4096, 3 * MIB) == pattern(2)


@pytest.mark.parametrize("entry", [4, 3 << 20 | 4, 1 << 20 | 6, 8 << 30 | 6, 1 << 20 | 7])
@pytest.mark.parametrize(
    "change",
    [
        lambda disk: disk.pwrite(b"n" * 512, 5 * MIB),
        lambda disk: disk.pwrite(b"n" * MIB, 5 * MIB),
        lambda disk: disk.write_zeroes(512, 5 * MIB),
        lambda disk: disk.write_zeroes(MIB, 5 * MIB),
    ],
    ids=["write part", "write", "zero part", "zero"],
)
def test_entry_that_was_spoiled_after_opening_is_refused_when_it_is_met(
    change: Callable[[vhdx.Disk], None], entry: int
) -> None:
    image = ImageBuilder(8 * MIB)
    image.add_block(0, b"o" * MIB)
    store = image.build_store()
    disk = vhdx.open(store, "r+")
    store.pwrite(entry.to_bytes(8, "little"), image.bat_offset + 5 * 8)
    before = {number: page for number, page in file_bytes(store).items() if number > MIB}
    with pytest.raises(vhdx.CorruptImageError, match="block 5"):
        change(disk)
    disk.close()
    assert {number: page for number, page in file_bytes(store).items() if number > MIB} == before


@pytest.mark.parametrize("buffering", [0, -1])
def test_file_object_that_is_open_for_reading_is_not_taken_for_writing(
    tmp_path: Path, buffering: int
) -> None:
    path = tmp_path / "disk.vhdx"
    sound().write(path)
    with path.open("rb", buffering=buffering) as file, pytest.raises(io.UnsupportedOperation, match=r"r\+b"):
        vhdx.open(file, "r+")
    with path.open("r+b", buffering=buffering) as file, vhdx.open(file, "r+") as disk:
        disk.pwrite(b"n", 0)


def test_store_that_takes_no_writes_is_not_taken_for_writing() -> None:
    with pytest.raises(io.UnsupportedOperation, match="reading only"):
        vhdx.open(MemoryStore(sound().build(), writable=False), "r+")
