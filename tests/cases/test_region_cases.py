"""Odd region tables: cases 27 to 41 of the format's table."""

from uuid import UUID

import pytest

from support.cases import Case, assert_opens, assert_refused, assert_strict_only, content_of, each, sound
from support.units import GIB, MIB
from vhdx import Image, UnsupportedFeatureError
from vhdx.format.guids import BAT_REGION, METADATA_REGION
from vhdx.rules import RuleCode
from vhdx.testing import ImageBuilder, RegionFields

UNKNOWN = UUID("0d0d0d0d-0d0d-4d0d-8d0d-0d0d0d0d0d0d")
FILE_LENGTH = 64 * MIB


def each_table(image: ImageBuilder, **fields: object) -> None:
    for table in image.region_tables:
        for name, value in fields.items():
            setattr(table, name, value)


def drop_region(image: ImageBuilder, guid: UUID) -> None:
    for table in image.region_tables:
        table.regions = [region for region in table.regions if region.guid != guid]


REFUSED = [
    Case(
        28,
        "both checksums bad",
        lambda image: each_table(image, bad_checksum=True),
        RuleCode.REGION_TABLE_NONE_VALID,
        ("region tables", "0x30000"),
    ),
    Case(
        28,
        "both signatures bad",
        lambda image: each_table(image, signature=b"REGI"),
        RuleCode.REGION_TABLE_NONE_VALID,
        ("region tables", "0x30000"),
    ),
    *[
        Case(
            30,
            f"{count} entries",
            lambda image, count=count: each_table(image, count=count),  # type: ignore[misc]
            RuleCode.REGION_COUNT,
            ("region table 1", "0x30008", str(count)),
        )
        for count in (2048, 0xFFFFFFFF)
    ],
    Case(
        33,
        "unknown required region",
        lambda image: image.add_region(UNKNOWN, flags=1),
        RuleCode.REGION_UNKNOWN_REQUIRED,
        ("region table", "0x30050", str(UNKNOWN)),
        UnsupportedFeatureError,
    ),
    Case(
        35,
        "no BAT region",
        lambda image: drop_region(image, BAT_REGION),
        RuleCode.REGION_MISSING,
        ("region table", "a BAT region"),
    ),
    Case(
        35,
        "no metadata region",
        lambda image: drop_region(image, METADATA_REGION),
        RuleCode.REGION_MISSING,
        ("region table", "a metadata region"),
    ),
    Case(
        36,
        "BAT region twice",
        lambda image: image.add_region(BAT_REGION),
        RuleCode.REGION_DUPLICATE,
        ("region table entry 2", str(BAT_REGION)),
    ),
    Case(
        37,
        "BAT at 0",
        lambda image: image.each_region(BAT_REGION, file_offset=0),
        RuleCode.REGION_LOCATION,
        ("BAT region", "offset 0x0"),
    ),
    Case(
        37,
        "metadata misaligned",
        lambda image: image.each_region(METADATA_REGION, file_offset=2 * MIB + 65536),
        RuleCode.REGION_ALIGNMENT,
        ("metadata region", "offset 0x210000"),
    ),
    Case(
        37,
        "length misaligned",
        lambda image: image.each_region(BAT_REGION, length=4096),
        RuleCode.REGION_ALIGNMENT,
        ("BAT region", "length 0x1000"),
    ),
    Case(
        38,
        "BAT without length",
        lambda image: image.each_region(BAT_REGION, length=0),
        RuleCode.REGION_LENGTH_ZERO,
        ("BAT region",),
    ),
    Case(
        38,
        "metadata without length",
        lambda image: image.each_region(METADATA_REGION, length=0),
        RuleCode.REGION_LENGTH_ZERO,
        ("metadata region",),
    ),
    Case(
        39,
        "end past 2^63",
        lambda image: image.each_region(BAT_REGION, file_offset=(1 << 63) - MIB),
        RuleCode.REGION_OVERFLOW,
        ("BAT region", "0x7ffffffffff00000"),
    ),
    Case(
        39,
        "end past 2^64",
        lambda image: image.each_region(METADATA_REGION, file_offset=(1 << 64) - MIB),
        RuleCode.REGION_OVERFLOW,
        ("metadata region",),
    ),
    Case(
        39,
        "unknown region past 2^64",
        lambda image: image.add_region(UNKNOWN, file_offset=(1 << 64) - MIB),
        RuleCode.REGION_OVERFLOW,
        (str(UNKNOWN),),
    ),
    Case(
        40,
        "unknown region in the header section",
        lambda image: image.add_region(UNKNOWN, file_offset=0),
        RuleCode.REGION_LOCATION,
        (str(UNKNOWN), "offset 0x0"),
    ),
    Case(
        40,
        "BAT on the log",
        lambda image: image.each_region(BAT_REGION, file_offset=MIB),
        RuleCode.REGION_OVERLAP,
        ("region table", "log"),
    ),
    Case(
        40,
        "unknown region on the metadata",
        lambda image: image.add_region(UNKNOWN, file_offset=2 * MIB),
        RuleCode.REGION_OVERLAP,
        ("region table", "metadata region", str(UNKNOWN)),
    ),
    Case(
        41,
        "BAT past the end",
        lambda image: image.each_region(BAT_REGION, file_offset=GIB),
        RuleCode.REGION_TRUNCATED,
        ("BAT region", "0x40000000"),
    ),
    Case(
        41,
        "metadata reaches past the end",
        lambda image: image.each_region(METADATA_REGION, file_offset=FILE_LENGTH - MIB, length=2 * MIB),
        RuleCode.REGION_TRUNCATED,
        ("metadata region", "length 0x200000"),
    ),
]


@each(REFUSED)
def test_image_is_refused(case: Case) -> None:
    image = sound()
    case.wound(image)
    image.file_length = FILE_LENGTH
    assert_refused(image, case)


def differ_in_copy_2(image: ImageBuilder) -> None:
    image.region_tables[1].regions.append(RegionFields(UNKNOWN, image.allocate(), MIB, 0))


def unrequire_all(image: ImageBuilder) -> None:
    image.each_region(BAT_REGION, flags=0)
    image.each_region(METADATA_REGION, flags=0)


TOLERATED = [
    *[
        Case(
            27,
            f"copy {index + 1} {what}",
            lambda image, index=index, field=field: setattr(  # type: ignore[misc]
                image.region_tables[index], *field
            ),
            code,
        )
        for index in (0, 1)
        for what, field, code in (
            ("of bad checksum", ("bad_checksum", True), RuleCode.REGION_TABLE_CHECKSUM),
            ("of bad signature", ("signature", b"regj"), RuleCode.REGION_TABLE_SIGNATURE),
        )
    ],
    Case(29, "copies differ", differ_in_copy_2, RuleCode.REGION_TABLES_DIFFER),
    Case(30, "reserved field of the head", lambda image: each_table(image, reserved=1)),
    Case(31, "nothing required", unrequire_all),
    Case(34, "unknown optional region", lambda image: image.add_region(UNKNOWN, 2 * MIB)),
    Case(
        41, "unknown optional region past the end", lambda image: image.add_region(UNKNOWN, file_offset=GIB)
    ),
    Case(38, "unknown optional region without length", lambda image: image.add_region(UNKNOWN, 0)),
]


@each(TOLERATED)
@pytest.mark.parametrize("strict", [False, True])
def test_image_opens_and_reads_right(case: Case, strict: bool) -> None:
    expected = content_of(sound())
    image = sound()
    case.wound(image)
    image.file_length = FILE_LENGTH
    assert content_of(image) == expected
    assert_opens(image, expected, case.code, strict=strict)


STRICT = [
    Case(
        32,
        "reserved bits beside required",
        lambda image: image.each_region(BAT_REGION, flags=0x80000001),
        RuleCode.REGION_REQUIRED_BITS,
        ("BAT region", "0x3002c"),
    ),
    Case(
        32,
        "reserved bits of an unknown optional region",
        lambda image: image.add_region(UNKNOWN, flags=2),
        RuleCode.REGION_REQUIRED_BITS,
        (str(UNKNOWN), "0x3006c"),
    ),
]


@each(STRICT)
def test_image_is_refused_only_when_strict(case: Case) -> None:
    image = sound()
    case.wound(image)
    assert_strict_only(image, content_of(sound()), case)


def test_case_029_first_of_two_different_copies_counts() -> None:
    image = sound()
    second = image.region_tables[1].regions[0]
    second.file_offset = image.allocate()
    with Image.open(image.build_store()) as opened:
        assert opened.opened.regions.bat.file_offset == image.bat_offset
        assert opened.pread(opened.size, 0) == content_of(sound())


def test_case_034_unknown_region_is_kept_in_mind() -> None:
    image = sound()
    offset = image.add_region(UNKNOWN, 2 * MIB)
    with Image.open(image.build_store()) as opened:
        (region,) = opened.opened.regions.others
        assert (region.guid, region.file_offset, region.length) == (UNKNOWN, offset, 2 * MIB)
