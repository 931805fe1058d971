"""Region tables: their bytes, and every rule on where regions may lie."""

import struct
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.breaches import assert_refused, assert_strict, tolerated
from support.units import MIB
from vhdx.format.checksum import seal
from vhdx.format.guids import BAT_REGION, METADATA_REGION
from vhdx.format.region_table import REGION_TABLE_SIZE, Region, RegionTable, check_regions
from vhdx.report import Report
from vhdx.rules import RuleCode

U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (32, 64))
tables = st.builds(
    lambda regions: RegionTable(tuple(regions)),
    st.lists(st.builds(Region, st.uuids(), U64, U32, U32), max_size=12),
)

BAT = Region(BAT_REGION, 3 * MIB, MIB)
METADATA = Region(METADATA_REGION, 2 * MIB, MIB)
OTHER = Region(UUID(int=5), 5 * MIB, MIB, 0)
LOG = (MIB, MIB)
FILE_SIZE = 8 * MIB


def decode(data: bytes, report: Report) -> RegionTable | None:
    return RegionTable.decode(data, "region table 1", 0x30000, report.breach)


def check(regions: tuple[Region, ...], report: Report, log: tuple[int, int] = LOG) -> None:
    check_regions(RegionTable(regions), 0x30000, log, FILE_SIZE, report.breach)


@given(tables)
def test_region_table_reads_back(table: RegionTable) -> None:
    data = table.encode()
    assert len(data) == REGION_TABLE_SIZE
    report = Report()
    assert decode(data, report) == table
    assert report.findings == []


@given(tables, st.integers(8, REGION_TABLE_SIZE - 1), st.integers(1, 255))
def test_any_change_of_a_region_table_spoils_its_checksum(table: RegionTable, at: int, noise: int) -> None:
    data = bytearray(table.encode())
    data[at] ^= noise
    assert tolerated(lambda report: decode(bytes(data), report)) == [RuleCode.REGION_TABLE_CHECKSUM]
    assert decode(bytes(data), Report()) is None


def test_wrong_signature_or_too_few_bytes_make_no_region_table() -> None:
    data = RegionTable((BAT, METADATA)).encode()
    for wrong in (b"iger" + data[4:], data[:-1], b""):
        assert tolerated(lambda report, wrong=wrong: decode(wrong, report)) == [  # type: ignore[misc]
            RuleCode.REGION_TABLE_SIGNATURE
        ]
        assert decode(wrong, Report()) is None


@pytest.mark.parametrize("count", [2048, 0xFFFFFFFF])
def test_too_many_entries_are_refused_before_they_are_read(count: int) -> None:
    data = bytearray(RegionTable(()).encode())
    struct.pack_into("<I", data, 8, count)
    wrong = seal(data)
    assert_refused(lambda report: decode(wrong, report), RuleCode.REGION_COUNT, ["0x30008", str(count)])


def test_table_of_2047_entries_reads_back() -> None:
    table = RegionTable(tuple(Region(UUID(int=n), n * MIB, MIB) for n in range(2047)))
    assert decode(table.encode(), Report()) == table


def test_sound_regions_are_sorted_out_in_any_order() -> None:
    report = Report()
    found = check_regions(RegionTable((OTHER, METADATA, BAT)), 0x30000, LOG, FILE_SIZE, report.breach)
    assert (found.bat, found.metadata, found.others) == (BAT, METADATA, (OTHER,))
    assert found.all == (BAT, METADATA, OTHER)
    assert report.findings == []


@pytest.mark.parametrize(
    "regions",
    [
        (replace(BAT, flags=0), replace(METADATA, flags=0)),
        (BAT, METADATA, replace(OTHER, file_offset=100 * MIB)),
        (BAT, METADATA, replace(OTHER, length=0, file_offset=3 * MIB)),
        (BAT, replace(METADATA, file_offset=FILE_SIZE - MIB)),
    ],
)
def test_odd_but_harmless_regions_break_no_rule(regions: tuple[Region, ...]) -> None:
    assert tolerated(lambda report: check(regions, report)) == []


@pytest.mark.parametrize(
    ("regions", "code", "name"),
    [
        ((BAT, METADATA, replace(OTHER, flags=1)), RuleCode.REGION_UNKNOWN_REQUIRED, str(OTHER.guid)),
        ((METADATA,), RuleCode.REGION_MISSING, "BAT region"),
        ((BAT,), RuleCode.REGION_MISSING, "metadata region"),
        ((), RuleCode.REGION_MISSING, "BAT region"),
        ((BAT, METADATA, BAT), RuleCode.REGION_DUPLICATE, "entry 2"),
        (
            (BAT, METADATA, OTHER, replace(OTHER, file_offset=6 * MIB)),
            RuleCode.REGION_DUPLICATE,
            str(OTHER.guid),
        ),
        ((replace(BAT, file_offset=0), METADATA), RuleCode.REGION_LOCATION, "BAT region"),
        ((BAT, replace(METADATA, file_offset=0)), RuleCode.REGION_LOCATION, "metadata region"),
        ((replace(BAT, file_offset=4 * MIB + 512), METADATA), RuleCode.REGION_ALIGNMENT, "0x400200"),
        ((replace(BAT, length=MIB + 4096), METADATA), RuleCode.REGION_ALIGNMENT, "0x101000"),
        ((replace(BAT, length=0), METADATA), RuleCode.REGION_LENGTH_ZERO, "BAT region"),
        ((BAT, replace(METADATA, length=0)), RuleCode.REGION_LENGTH_ZERO, "metadata region"),
        (
            (replace(BAT, file_offset=(1 << 63) - MIB), METADATA),
            RuleCode.REGION_OVERFLOW,
            "0x7ffffffffff00000",
        ),
        ((replace(BAT, file_offset=(1 << 64) - MIB), METADATA), RuleCode.REGION_OVERFLOW, "BAT region"),
        ((BAT, replace(METADATA, file_offset=3 * MIB)), RuleCode.REGION_OVERLAP, "BAT region"),
        ((replace(BAT, file_offset=MIB), METADATA), RuleCode.REGION_OVERLAP, "log"),
        ((BAT, METADATA, replace(OTHER, file_offset=2 * MIB)), RuleCode.REGION_OVERLAP, str(OTHER.guid)),
        ((replace(BAT, file_offset=FILE_SIZE), METADATA), RuleCode.REGION_TRUNCATED, "0x800000"),
        (
            (BAT, replace(METADATA, file_offset=7 * MIB, length=2 * MIB)),
            RuleCode.REGION_TRUNCATED,
            "metadata",
        ),
    ],
)
def test_regions_are_refused_for_what_they_say(
    regions: tuple[Region, ...], code: RuleCode, name: str
) -> None:
    assert_refused(lambda report: check(regions, report), code, ["region table", name])


def test_overlap_is_found_behind_a_region_inside_another() -> None:
    regions = (
        BAT,
        METADATA,
        replace(OTHER, file_offset=4 * MIB, length=4 * MIB),
        Region(UUID(int=6), 5 * MIB, MIB, 0),
    )
    assert_refused(lambda report: check(regions, report), RuleCode.REGION_OVERLAP)


def test_region_beside_a_log_without_length_does_not_overlap_it() -> None:
    assert tolerated(lambda report: check((BAT, METADATA), report, (3 * MIB, 0))) == []


def test_reserved_bits_of_the_required_field_are_refused_only_when_strict() -> None:
    regions = (replace(BAT, flags=3), METADATA)
    assert_strict(lambda report: check(regions, report), RuleCode.REGION_REQUIRED_BITS)
    even = (BAT, METADATA, replace(OTHER, flags=0xFFFFFFFE))
    assert tolerated(lambda report: check(even, report)) == [RuleCode.REGION_REQUIRED_BITS]
