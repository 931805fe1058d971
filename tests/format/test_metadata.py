"""The metadata table and the items that describe the disk: every rule, one broken at a time."""

import struct
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.breaches import assert_refused, assert_strict, tolerated
from support.units import GIB, KIB, MIB, TIB
from vhdx.format import guids
from vhdx.format.metadata import (
    ALWAYS_NEEDED,
    KNOWN_ITEMS,
    METADATA_TABLE_SIZE,
    DiskParameters,
    MetadataEntry,
    MetadataTable,
    check_table,
)
from vhdx.report import Report
from vhdx.rules import RuleCode

BASE = 2 * MIB
REGION_LENGTH = MIB
USER, VIRTUAL, REQUIRED = 1, 2, 4
U32 = st.integers(0, (1 << 32) - 1)
tables = st.builds(
    lambda entries: MetadataTable(tuple(entries)),
    st.lists(st.builds(MetadataEntry, st.uuids(), U32, U32, U32, U32), max_size=12),
)

SOUND = (
    MetadataEntry(guids.FILE_PARAMETERS, 0x10000, 8, REQUIRED),
    MetadataEntry(guids.VIRTUAL_DISK_SIZE, 0x10008, 8, VIRTUAL | REQUIRED),
    MetadataEntry(guids.LOGICAL_SECTOR_SIZE, 0x10010, 4, VIRTUAL | REQUIRED),
    MetadataEntry(guids.PHYSICAL_SECTOR_SIZE, 0x10014, 4, VIRTUAL | REQUIRED),
    MetadataEntry(guids.VIRTUAL_DISK_ID, 0x10018, 16, VIRTUAL | REQUIRED),
)
UNKNOWN = MetadataEntry(UUID(int=9), 0x20000, 64, 0)
SIZES = DiskParameters(2 * MIB, False, False, GIB, UUID(int=7), 512, 4096)
ITEM_OFFSETS = {guid: BASE + 0x10000 + 16 * n for n, guid in enumerate(ALWAYS_NEEDED)}


def decode(data: bytes, report: Report) -> MetadataTable:
    return MetadataTable.decode(data, BASE, report.breach)


def check(entries: tuple[MetadataEntry, ...], report: Report) -> dict[UUID, MetadataEntry]:
    return check_table(MetadataTable(entries), BASE, REGION_LENGTH, report.breach)


def decode_sizes(items: Mapping[UUID, bytes], report: Report) -> DiskParameters:
    return DiskParameters.decode(items, ITEM_OFFSETS, report.breach)


@given(tables)
def test_table_reads_back(table: MetadataTable) -> None:
    data = table.encode()
    assert len(data) == METADATA_TABLE_SIZE
    report = Report(strict=True)
    assert decode(data, report) == table


@pytest.mark.parametrize(
    ("offset", "wrong", "code", "name"),
    [
        (0, b"METADATA", RuleCode.METADATA_SIGNATURE, "0x200000"),
        (10, struct.pack("<H", 2048), RuleCode.METADATA_COUNT, "0x20000a"),
        (10, b"\xff\xff", RuleCode.METADATA_COUNT, "65535"),
    ],
)
def test_table_head_is_refused(offset: int, wrong: bytes, code: RuleCode, name: str) -> None:
    data = bytearray(MetadataTable(SOUND).encode())
    data[offset : offset + len(wrong)] = wrong
    assert_refused(lambda report: decode(bytes(data), report), code, ["metadata table", name])


@pytest.mark.parametrize("offset", [8, 12, 31])
def test_reserved_bytes_of_the_head_are_refused_only_when_strict(offset: int) -> None:
    data = bytearray(MetadataTable(SOUND).encode())
    data[offset] = 1
    assert_strict(lambda report: decode(bytes(data), report), RuleCode.METADATA_RESERVED)


def test_table_of_2047_entries_reads_back() -> None:
    table = MetadataTable(tuple(MetadataEntry(UUID(int=n), 0, 0, 0) for n in range(2047)))
    assert decode(table.encode(), Report()) == table


def test_sound_items_are_found_by_id_and_user_items_are_not() -> None:
    entries = (*SOUND, UNKNOWN, MetadataEntry(guids.PARENT_LOCATOR, 0x30000, 4, USER))
    report = Report(strict=True)
    assert check(entries, report) == {entry.item_id: entry for entry in SOUND}
    assert report.findings == []


@pytest.mark.parametrize(
    "extra",
    [
        (replace(UNKNOWN, length=0, offset=0),),
        (replace(UNKNOWN, length=MIB - 0x20000),),
        (UNKNOWN, replace(UNKNOWN, offset=0x30000, flags=USER)),
        (replace(SOUND[0], offset=0x30000, flags=USER),),
        (MetadataEntry(guids.CHS_PARAMETERS, 0x30000, 8, REQUIRED),),
        (MetadataEntry(guids.PMEM_LABEL_STORAGE, 0x30000, 28, REQUIRED | VIRTUAL),),
        (MetadataEntry(guids.PARENT_LOCATOR, 0x30000, 100, REQUIRED),),
        (MetadataEntry(guids.INCOMPLETE_FILE, 0, 0, USER),),
        tuple(MetadataEntry(UUID(int=n + 1), 0, 0, USER) for n in range(1024)),
    ],
)
def test_odd_but_harmless_items_break_no_rule(extra: tuple[MetadataEntry, ...]) -> None:
    assert tolerated(lambda report: check((*SOUND, *extra), report)) == []


@pytest.mark.parametrize(
    ("extra", "code", "name"),
    [
        (replace(UNKNOWN, flags=REQUIRED), RuleCode.METADATA_UNKNOWN_REQUIRED, str(UNKNOWN.item_id)),
        (replace(UNKNOWN, flags=REQUIRED | USER), RuleCode.METADATA_UNKNOWN_REQUIRED, "user item"),
        (replace(SOUND[0], flags=REQUIRED | USER), RuleCode.METADATA_UNKNOWN_REQUIRED, "user item"),
        (
            MetadataEntry(guids.INCOMPLETE_FILE, 0, 0, REQUIRED),
            RuleCode.METADATA_INCOMPLETE,
            "creation was interrupted",
        ),
        (replace(UNKNOWN, offset=0xFFF0), RuleCode.METADATA_ITEM_OFFSET, "offset 0xfff0"),
        (replace(UNKNOWN, offset=0), RuleCode.METADATA_ITEM_OFFSET, "offset 0x0"),
        (replace(UNKNOWN, offset=MIB - 63), RuleCode.METADATA_ITEM_RANGE, "0xfffc1"),
        (replace(UNKNOWN, offset=0xFFFFFFF0), RuleCode.METADATA_ITEM_RANGE, "0xfffffff0"),
        (replace(UNKNOWN, length=MIB + 1), RuleCode.METADATA_ITEM_LENGTH, "0x100001"),
        (replace(UNKNOWN, length=0xFFFFFFFF), RuleCode.METADATA_ITEM_LENGTH, "0xffffffff"),
        (replace(SOUND[0], offset=0x30000), RuleCode.METADATA_DUPLICATE, "file parameters"),
        (replace(UNKNOWN, offset=0x10004), RuleCode.METADATA_KNOWN_ITEM_OVERLAP, "file parameters"),
        (replace(UNKNOWN, offset=0x10027), RuleCode.METADATA_KNOWN_ITEM_OVERLAP, "virtual disk id"),
    ],
)
def test_item_is_refused_for_what_its_entry_says(extra: MetadataEntry, code: RuleCode, name: str) -> None:
    assert_refused(lambda report: check((*SOUND, extra), report), code, ["metadata table", name])


def test_duplicate_that_is_not_known_is_refused() -> None:
    entries = (*SOUND, UNKNOWN, replace(UNKNOWN, offset=0x30000))
    assert_refused(lambda report: check(entries, report), RuleCode.METADATA_DUPLICATE, [str(UNKNOWN.item_id)])


def test_more_than_1024_user_items_are_refused() -> None:
    users = tuple(MetadataEntry(UUID(int=n + 1), 0, 0, USER) for n in range(1025))
    assert_refused(lambda report: check((*SOUND, *users), report), RuleCode.METADATA_USER_COUNT, ["1025"])


@pytest.mark.parametrize("missing", range(5))
def test_missing_item_is_refused_by_name(missing: int) -> None:
    entries = SOUND[:missing] + SOUND[missing + 1 :]
    name = KNOWN_ITEMS[SOUND[missing].item_id].name
    assert_refused(lambda report: check(entries, report), RuleCode.METADATA_MISSING, [name])


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("difference", [-1, 1])
def test_known_item_of_wrong_length_is_refused(index: int, difference: int) -> None:
    wrong = replace(SOUND[index], offset=0x30000, length=SOUND[index].length + difference)
    entries = (*SOUND[:index], wrong, *SOUND[index + 1 :])
    assert_refused(lambda report: check(entries, report), RuleCode.METADATA_KNOWN_ITEM_LENGTH, [wrong.name])


def test_empty_known_item_is_refused() -> None:
    entries = (replace(SOUND[0], offset=0, length=0), *SOUND[1:])
    assert_refused(lambda report: check(entries, report), RuleCode.METADATA_KNOWN_ITEM_LENGTH)


@pytest.mark.parametrize("flags", [0, VIRTUAL, VIRTUAL | REQUIRED])
def test_wrong_flags_of_a_known_item_are_noted(flags: int) -> None:
    entries = (replace(SOUND[0], flags=flags), *SOUND[1:])
    assert tolerated(lambda report: check(entries, report)) == [RuleCode.METADATA_KNOWN_ITEM_FLAGS]


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ((replace(UNKNOWN, length=0),), RuleCode.METADATA_EMPTY_ITEM_OFFSET),
        ((replace(UNKNOWN, flags=8),), RuleCode.METADATA_RESERVED),
        ((replace(UNKNOWN, reserved=1),), RuleCode.METADATA_RESERVED),
        ((replace(UNKNOWN, item_id=UUID(int=0)),), RuleCode.METADATA_ITEM_ID),
        (
            (UNKNOWN, replace(UNKNOWN, item_id=UUID(int=8), offset=0x2003F)),
            RuleCode.METADATA_ITEM_OVERLAP,
        ),
        (
            (
                replace(UNKNOWN, length=0x1000),
                replace(UNKNOWN, item_id=UUID(int=8), offset=0x20010, length=1),
                replace(UNKNOWN, item_id=UUID(int=10), offset=0x20800, length=1),
            ),
            RuleCode.METADATA_ITEM_OVERLAP,
        ),
    ],
)
def test_item_is_refused_only_when_strict(extra: tuple[MetadataEntry, ...], code: RuleCode) -> None:
    assert_strict(lambda report: check((*SOUND, *extra), report), code)


def test_neighbouring_items_do_not_overlap() -> None:
    entries = (*SOUND, UNKNOWN, replace(UNKNOWN, item_id=UUID(int=8), offset=0x20040))
    assert tolerated(lambda report: check(entries, report)) == []


parameters = st.builds(
    DiskParameters,
    st.sampled_from([MIB << n for n in range(9)]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 64 * TIB // (4 * KIB)).map(lambda n: 4 * KIB * n),
    st.uuids(),
    st.sampled_from((512, 4096)),
    st.sampled_from((512, 4096)),
)


@given(parameters)
def test_disk_parameters_read_back(sizes: DiskParameters) -> None:
    assert decode_sizes(sizes.encode(), Report(strict=True)) == sizes


@pytest.mark.parametrize(
    ("wrong", "code", "name"),
    [
        *[
            (replace(SIZES, block_size=size), RuleCode.BLOCK_SIZE, f"found {size}")
            for size in (0, MIB // 2, 3 * MIB, 512 * MIB)
        ],
        (replace(SIZES, virtual_size=0), RuleCode.VIRTUAL_SIZE_ZERO, "virtual disk size"),
        (replace(SIZES, virtual_size=GIB + 1), RuleCode.VIRTUAL_SIZE_ALIGNMENT, str(GIB + 1)),
        (
            replace(SIZES, virtual_size=GIB + 512, logical_sector_size=4096),
            RuleCode.VIRTUAL_SIZE_ALIGNMENT,
            str(GIB + 512),
        ),
        (replace(SIZES, virtual_size=64 * TIB + 512), RuleCode.VIRTUAL_SIZE_LIMIT, "70368744178176"),
        *[
            (replace(SIZES, logical_sector_size=size), RuleCode.LOGICAL_SECTOR_SIZE, f"found {size}")
            for size in (0, 1, 1024, 8192)
        ],
    ],
)
def test_disk_parameters_are_refused_for_their_values(
    wrong: DiskParameters, code: RuleCode, name: str
) -> None:
    assert_refused(lambda report: decode_sizes(wrong.encode(), report), code, ["0x2100", name])


@pytest.mark.parametrize("size", [0, 1, 8192])
def test_physical_sector_size_is_refused_only_when_strict(size: int) -> None:
    items = replace(SIZES, physical_sector_size=size).encode()
    assert_strict(lambda report: decode_sizes(items, report), RuleCode.PHYSICAL_SECTOR_SIZE)


def test_reserved_file_parameter_bits_are_refused_only_when_strict() -> None:
    items = {**SIZES.encode(), guids.FILE_PARAMETERS: struct.pack("<II", 2 * MIB, 0x80000004)}
    assert_strict(lambda report: decode_sizes(items, report), RuleCode.FILE_PARAMETERS_RESERVED)
    assert decode_sizes(items, Report()) == SIZES
