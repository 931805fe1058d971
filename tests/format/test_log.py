"""Log entries: their layout, and every reason for which one is not valid."""

import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.units import MIB
from vhdx.format.checksum import stored_checksum, structure_checksum
from vhdx.format.log import (
    Descriptor,
    LogChange,
    LogEntryHeader,
    data_sector_fault,
    decode_descriptors,
    descriptor_fault,
    descriptor_sector_count,
    encode_entry,
    header_fault,
    rebuild_sector,
)
from vhdx.rules import RuleCode
from vhdx.testing import LOG_GUID, LogEntryFields, data_change, zero_change

LOG = (MIB, MIB)
REAL_HEAD = bytes.fromhex(
    "6C6F6765 9FB167A9 00200000 00500000 57E53F0664A21C01 01000000 00000000"
    "3C74FCE6ED81E84FBF54698ED57BA0B8 0000400200000000 0000400200000000"
    "64657363 00000000 0600400000000000 0000300000000000 57E53F0664A21C01"
)
"""The first 96 bytes of the entry at 0x7000 in vhdx-log-replay.vhdx."""


@pytest.mark.parametrize(
    ("descriptors", "sectors"), [(0, 1), (1, 1), (126, 1), (127, 2), (254, 2), (255, 3), (382, 3), (383, 4)]
)
def test_descriptor_sectors_are_the_published_number(descriptors: int, sectors: int) -> None:
    assert descriptor_sector_count(descriptors) == sectors


def test_descriptor_count_of_all_ones_is_no_trouble() -> None:
    assert descriptor_sector_count(0xFFFFFFFF) == 33554433


def test_real_entry_has_its_published_fields() -> None:
    header = LogEntryHeader.decode(REAL_HEAD)
    assert header == LogEntryHeader(
        0xA967B19F,
        8192,
        0x5000,
        0x011CA264063FE557,
        1,
        UUID("e6fc743c-81ed-4fe8-bf54-698ed57ba0b8"),
        36 * MIB,
        36 * MIB,
    )
    (descriptor,) = decode_descriptors(REAL_HEAD, 64, 1)
    assert descriptor == Descriptor(
        True, True, 0x300000, 4096, 0x011CA264063FE557, bytes.fromhex("0600400000000000"), bytes(4)
    )
    assert header_fault(REAL_HEAD, header.log_guid, MIB) is None
    assert descriptor_fault(descriptor, header.sequence_number, LOG) is None
    assert descriptor.encode() == REAL_HEAD[64:]


changes = st.lists(
    st.builds(
        lambda sector, data: data_change(4096 * sector, data),
        st.integers(1024, 1 << 40),
        st.binary(min_size=16, max_size=16).map(lambda noise: noise * 256),
    )
    | st.builds(
        lambda sector, length: zero_change(4096 * sector, 4096 * length),
        st.integers(1024, 1 << 40),
        st.integers(0, 1 << 20),
    ),
    max_size=140,
)


def encode(entry_changes: list[LogChange], sequence_number: int = 5) -> bytes:
    return encode_entry(
        entry_changes,
        sequence_number=sequence_number,
        log_guid=LOG_GUID,
        tail=8192,
        flushed_file_offset=5 * MIB + 1,
        last_file_offset=6 * MIB + 1,
    )


@given(changes, st.integers(1, (1 << 64) - 1))
def test_entry_reads_back(entry_changes: list[LogChange], sequence_number: int) -> None:
    entry = encode(entry_changes, sequence_number)
    header = LogEntryHeader.decode(entry)
    assert header_fault(entry, LOG_GUID, MIB) is None
    assert header.checksum == stored_checksum(entry) == structure_checksum(entry)
    assert (header.entry_length, header.sequence_number) == (len(entry), sequence_number)
    found = list(decode_descriptors(entry, 64, header.descriptor_count))
    at = 4096 * descriptor_sector_count(header.descriptor_count)
    back = []
    for descriptor in found:
        assert descriptor_fault(descriptor, sequence_number, LOG) is None
        data = None
        if descriptor.is_data:
            sector = entry[at : at + 4096]
            assert data_sector_fault(sector, sequence_number) is None
            data = rebuild_sector(descriptor.leading, sector, descriptor.trailing)
            at += 4096
        back.append(LogChange(descriptor.file_offset, data, descriptor.length))
    assert back == entry_changes
    assert at == len(entry)


@given(changes)
def test_descriptors_can_be_read_sector_by_sector(entry_changes: list[LogChange]) -> None:
    entry = encode(entry_changes)
    count = len(entry_changes)
    found = list(decode_descriptors(entry[:4096], 64, min(count, 126)))
    while len(found) < count:
        at = 64 + 32 * len(found)
        found += decode_descriptors(entry[at : at + 4096], 0, min(128, count - len(found)))
    assert found == list(decode_descriptors(entry, 64, count))


def test_file_sizes_are_rounded_the_safe_way() -> None:
    header = LogEntryHeader.decode(encode([]))
    assert (header.flushed_file_offset, header.last_file_offset) == (5 * MIB, 7 * MIB)


def header_with(offset: int, layout: str, value: object) -> bytes:
    entry = bytearray(encode([zero_change(2 * MIB)]))
    struct.pack_into(layout, entry, offset, value)
    return bytes(entry)


@pytest.mark.parametrize(
    ("sector", "fault"),
    [
        (header_with(0, "4s", b"egol"), RuleCode.LOG_ENTRY_SIGNATURE),
        (bytes(4096), RuleCode.LOG_ENTRY_SIGNATURE),
        (header_with(32, "<Q", 1), RuleCode.LOG_ENTRY_GUID),
        (header_with(8, "<I", 0), RuleCode.LOG_ENTRY_LENGTH),
        (header_with(8, "<I", 4097), RuleCode.LOG_ENTRY_LENGTH),
        (header_with(8, "<I", MIB + 4096), RuleCode.LOG_ENTRY_LENGTH),
        (header_with(8, "<I", MIB), None),
        (header_with(12, "<I", 4097), RuleCode.LOG_ENTRY_TAIL),
        (header_with(12, "<I", MIB), RuleCode.LOG_ENTRY_TAIL),
        (header_with(12, "<I", MIB - 4096), None),
        (header_with(16, "<Q", 0), RuleCode.LOG_ENTRY_SEQUENCE),
        (header_with(24, "<I", 126), None),
        (header_with(24, "<I", 127), RuleCode.LOG_ENTRY_DESCRIPTOR_COUNT),
        (header_with(24, "<I", 0xFFFFFFFF), RuleCode.LOG_ENTRY_DESCRIPTOR_COUNT),
    ],
)
def test_entry_head_is_judged_by_its_own_fields(sector: bytes, fault: RuleCode | None) -> None:
    assert header_fault(sector, LOG_GUID, MIB) is fault


def test_entry_of_any_session_is_sound_where_the_session_is_not_asked() -> None:
    assert header_fault(header_with(32, "<Q", 1), None, MIB) is None


def descriptor(is_data: bool = True, **fields: int) -> Descriptor:
    known = fields.pop("known", 1) == 1
    file_offset = fields.pop("file_offset", 4 * MIB)
    length = fields.pop("length", 4096)
    return Descriptor(is_data, known, file_offset, length, fields.pop("sequence_number", 5))


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (descriptor(), None),
        (descriptor(known=0), RuleCode.LOG_DESCRIPTOR_SIGNATURE),
        (descriptor(sequence_number=6), RuleCode.LOG_DESCRIPTOR_SEQUENCE),
        (descriptor(file_offset=4 * MIB + 512), RuleCode.LOG_DESCRIPTOR_ALIGNMENT),
        (descriptor(False, length=512), RuleCode.LOG_DESCRIPTOR_ALIGNMENT),
        (descriptor(False, length=0), None),
        (descriptor(file_offset=0), RuleCode.LOG_DESCRIPTOR_TARGET),
        (descriptor(file_offset=0x10000), RuleCode.LOG_DESCRIPTOR_TARGET),
        (descriptor(file_offset=0x2F000), RuleCode.LOG_DESCRIPTOR_TARGET),
        (descriptor(file_offset=0x30000), None),
        (descriptor(file_offset=MIB - 4096), None),
        (descriptor(file_offset=MIB), RuleCode.LOG_DESCRIPTOR_TARGET),
        (descriptor(file_offset=2 * MIB - 4096), RuleCode.LOG_DESCRIPTOR_TARGET),
        (descriptor(file_offset=2 * MIB), None),
        (descriptor(False, file_offset=0x30000, length=MIB), RuleCode.LOG_DESCRIPTOR_TARGET),
        (descriptor(False, file_offset=(1 << 63) - 8192, length=4096), None),
        (descriptor(False, file_offset=(1 << 63) - 4096, length=4096), RuleCode.LOG_DESCRIPTOR_TARGET),
        (descriptor(False, length=(1 << 64) - 4096), RuleCode.LOG_DESCRIPTOR_TARGET),
    ],
)
def test_descriptor_is_judged_by_what_it_aims_at(found: Descriptor, fault: RuleCode | None) -> None:
    assert descriptor_fault(found, 5, LOG) is fault


def test_unknown_descriptor_signature_is_told() -> None:
    entry = LogEntryFields(0, [zero_change(2 * MIB)], 5, 0)
    entry.patch_descriptor(0, 0, b"data")
    (found,) = decode_descriptors(entry.encode(MIB), 64, 1)
    assert descriptor_fault(found, 5, LOG) is RuleCode.LOG_DESCRIPTOR_SIGNATURE


@pytest.mark.parametrize(
    ("offset", "wrong"), [(0, b"desc"), (4, b"\1"), (7, b"\1"), (4092, b"\6"), (4095, b"\1")]
)
def test_data_sector_needs_its_signature_and_both_sequence_halves(offset: int, wrong: bytes) -> None:
    entry = LogEntryFields(0, [data_change(2 * MIB, b"new")], 5, 0)
    assert data_sector_fault(entry.encode(MIB)[4096:], 5) is None
    entry.patch_data_sector(0, offset, wrong)
    assert data_sector_fault(entry.encode(MIB)[4096:], 5) is RuleCode.LOG_DATA_SECTOR
