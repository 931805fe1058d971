"""CRC-32C check values of [MS-VHDX] structures and of the literature."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhdx.format.checksum import crc32c, seal, stored_checksum, structure_checksum
from vhdx.testing.image import reference

CHECK_VALUES = {
    "empty": (b"", 0x00000000),
    "digits": (b"123456789", 0xE3069283),
    "32 zeroes": (bytes(32), 0x8A9136AA),
    "32 ones": (b"\xff" * 32, 0x62A8AB43),
    "rising": (bytes(range(32)), 0x46DD794E),
    "4 KiB of zeroes": (bytes(4096), 0x98F94189),
    "64 KiB of zeroes": (bytes(65536), 0x72C0C4A4),
    "almost a header": (b"head" + bytes(62) + b"\x01" + bytes(4029), 0x0B83D3F8),
}


@pytest.mark.parametrize("name", CHECK_VALUES)
def test_crc32c_gives_the_published_check_value(name: str) -> None:
    data, expected = CHECK_VALUES[name]
    assert crc32c(data) == expected
    assert reference.crc32c(data) == expected


@given(st.binary(), st.integers(0, 1 << 16))
def test_crc32c_can_be_computed_in_two_parts(data: bytes, cut: int) -> None:
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)


@given(st.binary(min_size=8, max_size=200))
def test_structure_checksum_counts_its_own_field_as_zero(data: bytes) -> None:
    assert structure_checksum(data) == crc32c(data[:4] + bytes(4) + data[8:])


@given(st.binary(min_size=8, max_size=200))
def test_sealed_structure_carries_its_own_checksum(data: bytes) -> None:
    result = seal(bytearray(data))
    assert stored_checksum(result) == structure_checksum(result) == struct.unpack_from("<I", result, 4)[0]
    assert (result[:4], result[8:]) == (data[:4], data[8:])


@given(st.binary(min_size=8, max_size=64), st.data())
def test_any_flipped_bit_outside_the_field_changes_the_checksum(data: bytes, choice: st.DataObject) -> None:
    bits = [bit for bit in range(8 * len(data)) if not 32 <= bit < 64]
    bit = choice.draw(st.sampled_from(bits))
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    assert structure_checksum(changed) != structure_checksum(data)
