"""Headers: what makes one valid, and what the one in use must satisfy."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.breaches import assert_refused, assert_strict, tolerated
from support.units import GIB, MIB
from vhdx.format.guids import ZERO_GUID
from vhdx.format.header import HEADER_SIZE, Header, check_current_header
from vhdx.report import Report
from vhdx.rules import RuleCode

U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))
headers = st.builds(Header, U64, st.uuids(), st.uuids(), st.uuids(), U16, U16, U32, U64)

SOUND = Header(7, UUID(int=1), UUID(int=2), ZERO_GUID, 0, 1, MIB, MIB)
IN_USE = replace(SOUND, log_guid=UUID(int=3))
FILE_SIZE = 8 * MIB


def decode(data: bytes) -> tuple[Header | None, list[RuleCode]]:
    report = Report()
    header = Header.decode(data, "header 1", 0x10000, report.breach)
    return header, [finding.code for finding in report.findings]


def check(header: Header, report: Report, file_size: int = FILE_SIZE) -> None:
    check_current_header(header, "header 1", 0x10000, file_size, report.breach)


@given(headers)
def test_header_reads_back(header: Header) -> None:
    data = header.encode()
    assert len(data) == HEADER_SIZE
    assert decode(data) == (header, [])


@given(headers, st.binary(min_size=1, max_size=80).filter(any), st.integers(8, 4000))
def test_any_change_of_a_header_spoils_its_checksum(header: Header, noise: bytes, at: int) -> None:
    data = bytearray(header.encode())
    for index, byte in enumerate(noise):
        data[at + index] ^= byte
    assert decode(bytes(data)) == (None, [RuleCode.HEADER_CHECKSUM])


def test_wrong_signature_or_too_few_bytes_make_no_header() -> None:
    data = SOUND.encode()
    assert decode(b"daeh" + data[4:]) == (None, [RuleCode.HEADER_SIGNATURE])
    assert decode(data[:-1]) == (None, [RuleCode.HEADER_SIGNATURE])
    assert decode(b"") == (None, [RuleCode.HEADER_SIGNATURE])


def test_zero_log_guid_means_log_not_in_use() -> None:
    assert not SOUND.log_in_use
    assert IN_USE.log_in_use


@pytest.mark.parametrize(
    "header", [SOUND, IN_USE, replace(SOUND, log_version=1), replace(SOUND, log_length=0)]
)
def test_sound_header_breaks_no_rule(header: Header) -> None:
    assert tolerated(lambda report: check(header, report)) == []


@pytest.mark.parametrize(
    ("header", "code", "name"),
    [
        (replace(SOUND, version=0), RuleCode.HEADER_VERSION, "found 0"),
        (replace(SOUND, version=2), RuleCode.HEADER_VERSION, "found 2"),
        (replace(IN_USE, log_version=1), RuleCode.LOG_VERSION, "found 1"),
        (replace(SOUND, log_offset=MIB + 4096), RuleCode.LOG_ALIGNMENT, "0x101000"),
        (replace(SOUND, log_length=MIB + 4096), RuleCode.LOG_ALIGNMENT, "0x101000"),
        (replace(SOUND, log_length=0, log_offset=1), RuleCode.LOG_ALIGNMENT, "offset 0x1"),
        (replace(SOUND, log_offset=0), RuleCode.LOG_LOCATION, "offset 0x0"),
        (replace(IN_USE, log_length=0), RuleCode.LOG_LENGTH_ZERO, "length 0"),
        (replace(IN_USE, log_offset=FILE_SIZE), RuleCode.LOG_TRUNCATED, "0x800000"),
        (replace(IN_USE, log_offset=FILE_SIZE - MIB, log_length=2 * MIB), RuleCode.LOG_TRUNCATED, "0x700000"),
        (replace(SOUND, log_length=GIB + MIB), RuleCode.LOG_LENGTH_LIMIT, "0x40100000"),
        (replace(IN_USE, log_length=(1 << 32) - MIB), RuleCode.LOG_LENGTH_LIMIT, "0xfff00000"),
    ],
)
def test_header_in_use_is_refused_for_what_it_says(header: Header, code: RuleCode, name: str) -> None:
    assert_refused(lambda report: check(header, report), code, ["header 1", "0x10000", name])


def test_unused_log_past_the_end_is_refused_only_when_strict() -> None:
    header = replace(SOUND, log_offset=FILE_SIZE)
    assert_strict(lambda report: check(header, report), RuleCode.LOG_BEYOND_END)


def test_log_of_one_gib_is_not_too_long() -> None:
    header = replace(SOUND, log_length=GIB)
    assert tolerated(lambda report: check(header, report, GIB + MIB)) == []


def test_sequence_number_that_cannot_be_raised_is_noted() -> None:
    header = replace(SOUND, sequence_number=(1 << 64) - 1)
    assert tolerated(lambda report: check(header, report)) == [RuleCode.HEADER_SEQUENCE_EXHAUSTED]
    assert tolerated(lambda report: check(replace(SOUND, sequence_number=0), report)) == []


@pytest.mark.parametrize("name", ["file_write_guid", "data_write_guid"])
def test_zero_guid_is_noted(name: str) -> None:
    header = Header(**{**{f: getattr(SOUND, f) for f in Header.__slots__}, name: ZERO_GUID})
    assert tolerated(lambda report: check(header, report)) == [RuleCode.HEADER_GUID_ZERO]
