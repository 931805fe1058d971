"""Odd files and headers: cases 1 to 26 of the format's table."""

from uuid import UUID

import pytest

from support.cases import Case, assert_opens, assert_refused, assert_strict_only, content_of, each, sound
from support.units import GIB, MIB
from vhdx import Image, NotVhdxError, UnsupportedFeatureError
from vhdx.format.guids import ZERO_GUID
from vhdx.rules import RuleCode
from vhdx.storage.memory import MemoryStore
from vhdx.testing import LOG_GUID, CountingStore, ImageBuilder


def set_header(image: ImageBuilder, index: int, **fields: object) -> None:
    for name, value in fields.items():
        setattr(image.headers[index], name, value)


def differ_at_equal_sequence(image: ImageBuilder) -> None:
    set_header(image, 1, sequence_number=1, file_write_guid=UUID(int=1))


REFUSED = [
    Case(
        2,
        "shorter than 1 MiB",
        lambda image: setattr(image, "file_length", MIB - 1),
        RuleCode.FILE_TRUNCATED,
        ("1048575 bytes", "cut off"),
    ),
    Case(
        2,
        "signature and nothing else",
        lambda image: setattr(image, "file_length", 8),
        RuleCode.FILE_TRUNCATED,
        ("8 bytes",),
    ),
    Case(
        3,
        "wrong signature",
        lambda image: setattr(image, "signature", b"vhdxfilm"),
        RuleCode.FILE_SIGNATURE,
        ("file identifier", "0x0", "vhdxfilm"),
        NotVhdxError,
    ),
    Case(
        10,
        "both checksums bad",
        lambda image: image.each_header(bad_checksum=True),
        RuleCode.HEADER_NONE_VALID,
        ("headers", "0x10000"),
    ),
    Case(
        10,
        "both signatures bad",
        lambda image: image.each_header(signature=b"HEAD"),
        RuleCode.HEADER_NONE_VALID,
        ("headers", "0x10000"),
    ),
    Case(
        12,
        "equal sequence but different",
        differ_at_equal_sequence,
        RuleCode.HEADER_EQUAL_SEQUENCE,
        ("headers", "sequence number 1"),
    ),
    *[
        Case(
            13,
            f"current version {version}",
            lambda image, version=version: set_header(image, 1, version=version),  # type: ignore[misc]
            RuleCode.HEADER_VERSION,
            ("header 2", "0x20000", f"found {version}"),
            UnsupportedFeatureError,
        )
        for version in (0, 2)
    ],
    Case(
        16,
        "log version 1 in use",
        lambda image: image.each_header(log_version=1, log_guid=LOG_GUID),
        RuleCode.LOG_VERSION,
        ("header 2", "0x20000"),
        UnsupportedFeatureError,
    ),
    Case(
        17,
        "log offset misaligned",
        lambda image: image.each_header(log_offset=MIB + 4096),
        RuleCode.LOG_ALIGNMENT,
        ("header 2", "offset 0x101000"),
    ),
    Case(
        17,
        "log length misaligned",
        lambda image: image.each_header(log_length=MIB - 4096),
        RuleCode.LOG_ALIGNMENT,
        ("header 2", "length 0xff000"),
    ),
    Case(
        18,
        "log in the header section",
        lambda image: image.each_header(log_offset=0),
        RuleCode.LOG_LOCATION,
        ("header 2", "offset 0x0"),
    ),
    Case(
        20,
        "log in use without length",
        lambda image: image.each_header(log_length=0, log_guid=LOG_GUID),
        RuleCode.LOG_LENGTH_ZERO,
        ("header 2", "0x20000"),
    ),
    Case(
        21,
        "log in use past the end",
        lambda image: image.each_header(log_offset=GIB, log_guid=LOG_GUID),
        RuleCode.LOG_TRUNCATED,
        ("header 2", "0x40000000"),
    ),
    Case(
        23,
        "log of nearly 4 GiB",
        lambda image: image.each_header(log_length=4 * GIB - MIB, log_guid=LOG_GUID),
        RuleCode.LOG_LENGTH_LIMIT,
        ("header 2", "0xfff00000"),
    ),
    Case(
        23,
        "log of nearly 4 GiB not in use",
        lambda image: image.each_header(log_length=4 * GIB - MIB),
        RuleCode.LOG_LENGTH_LIMIT,
        ("header 2", "0xfff00000"),
    ),
]


@each(REFUSED)
def test_image_is_refused(case: Case) -> None:
    image = sound()
    case.wound(image)
    assert_refused(image, case)


def junk_after_identifier(image: ImageBuilder) -> None:
    image.patch(520, b"\xa5" * (0x10000 - 520))
    image.patch(0x50000, b"\x5a" * (MIB - 0x50000))


TOLERATED = [
    Case(4, "creator without NUL", lambda image: setattr(image, "creator", "x" * 256)),
    Case(4, "creator of lone surrogates", lambda image: setattr(image, "creator", b"\x00\xd8" * 256)),
    Case(4, "binary creator", lambda image: setattr(image, "creator", bytes(range(256)) * 2)),
    Case(5, "junk in reserved space", junk_after_identifier),
    Case(6, "trailing sector", lambda image: setattr(image, "trailing", bytes(512))),
    Case(6, "trailing junk", lambda image: setattr(image, "trailing", b"junk")),
    Case(7, "holes", lambda image: None),
    Case(
        8,
        "checksum of header 1 bad",
        lambda image: set_header(image, 0, bad_checksum=True),
        RuleCode.HEADER_CHECKSUM,
    ),
    Case(
        8,
        "checksum of header 2 bad",
        lambda image: set_header(image, 1, bad_checksum=True),
        RuleCode.HEADER_CHECKSUM,
    ),
    Case(
        9,
        "signature of header 1 bad",
        lambda image: set_header(image, 0, signature=b"HEAD"),
        RuleCode.HEADER_SIGNATURE,
    ),
    Case(
        9,
        "signature of header 2 bad",
        lambda image: set_header(image, 1, signature=bytes(4)),
        RuleCode.HEADER_SIGNATURE,
    ),
    Case(11, "identical headers", lambda image: image.each_header(sequence_number=1)),
    Case(11, "identical headers of sequence 0", lambda image: image.each_header(sequence_number=0)),
    Case(14, "older header of version 2", lambda image: set_header(image, 0, version=2)),
    Case(
        14, "older header names no log", lambda image: set_header(image, 0, log_length=1, log_guid=LOG_GUID)
    ),
    Case(15, "log version 1 not in use", lambda image: image.each_header(log_version=1)),
    Case(19, "no log", lambda image: image.each_header(log_length=0, log_offset=0)),
    Case(24, "reserved header bytes", lambda image: image.each_header(reserved=b"\xff" * 4016)),
    Case(
        25,
        "sequence number exhausted",
        lambda image: set_header(image, 1, sequence_number=(1 << 64) - 1),
        RuleCode.HEADER_SEQUENCE_EXHAUSTED,
    ),
    Case(
        26,
        "file write guid zero",
        lambda image: image.each_header(file_write_guid=ZERO_GUID),
        RuleCode.HEADER_GUID_ZERO,
    ),
    Case(
        26,
        "data write guid zero",
        lambda image: image.each_header(data_write_guid=ZERO_GUID),
        RuleCode.HEADER_GUID_ZERO,
    ),
]


@each(TOLERATED)
@pytest.mark.parametrize("strict", [False, True])
def test_image_opens_and_reads_right(case: Case, strict: bool) -> None:
    expected = content_of(sound())
    image = sound()
    case.wound(image)
    assert content_of(image) == expected
    assert_opens(image, expected, case.code, strict=strict)


STRICT = [
    Case(
        22,
        "log not in use past the end",
        lambda image: image.each_header(log_offset=GIB),
        RuleCode.LOG_BEYOND_END,
        ("header 2", "0x40000000"),
    ),
]


@each(STRICT)
def test_image_is_refused_only_when_strict(case: Case) -> None:
    image = sound()
    case.wound(image)
    assert_strict_only(image, content_of(sound()), case)


@pytest.mark.parametrize("content", [b"", b"vhdxfil"], ids=["case_001_empty", "case_001_7_bytes"])
def test_file_too_short_for_its_signature_is_not_a_vhdx(content: bytes) -> None:
    with pytest.raises(NotVhdxError) as caught:
        Image.open(MemoryStore(content))
    assert caught.value.code is RuleCode.FILE_SIGNATURE


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (bytes(MIB) + b"conectix".ljust(512, b"\0"), "VHD"),
        (bytes(MIB) + b"conectix".ljust(511, b"\0"), "VHD"),
        (b"\x1f\x8b\x08" + bytes(600), "gzip"),
        (b"BZh9" + bytes(600), "bzip2"),
        (b"PK\x03\x04" + bytes(600), "ZIP"),
        (b"", "empty"),
    ],
    ids=lambda value: f"case_003_{value}" if isinstance(value, str) else "",
)
def test_file_that_is_something_else_is_told_what(content: bytes, hint: str) -> None:
    with pytest.raises(NotVhdxError, match=hint):
        Image.open(CountingStore(MemoryStore(content)))


@pytest.mark.parametrize("index", [0, 1], ids=["case_008_newer_bad", "case_008_older_bad"])
def test_damaged_header_gives_way_to_the_other(index: int) -> None:
    image = sound()
    set_header(image, 1 - index, bad_checksum=True)
    with Image.open(image.build_store()) as opened:
        assert opened.header.sequence_number == index + 1


def test_case_011_larger_sequence_number_is_current_in_either_slot() -> None:
    image = sound()
    set_header(image, 0, sequence_number=9, data_write_guid=UUID(int=9))
    with Image.open(image.build_store()) as opened:
        assert opened.header.data_write_guid == UUID(int=9)
