"""The smallest dynamic image and its child, byte for byte, as published and opened by four other programs."""

from uuid import UUID

import pytest

from support.units import MIB
from vhdx.format.checksum import stored_checksum
from vhdx.format.guids import FILE_PARAMETERS
from vhdx.testing import ImageBuilder, ReferenceDisk

HEADER_TAIL = """
    11 11 11 11 22 22 33 33 44 44 55 55 55 55 55 55
    33 22 11 00 55 44 77 66 88 99 AA BB CC DD EE FF
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    00 00 01 00 00 00 10 00 00 00 10 00 00 00 00 00
"""
REGIONS = """
    72 65 67 69 AE 8C 6B C6 02 00 00 00 00 00 00 00
    66 77 C2 2D 23 F6 00 42 9D 64 11 5E 9B FD 4A 08
    00 00 30 00 00 00 00 00 00 00 10 00 01 00 00 00
    06 A2 7C 8B 90 47 9A 4B B8 FE 57 5F 05 0F 88 6E
    00 00 20 00 00 00 00 00 00 00 10 00 01 00 00 00
"""
METADATA_TABLE = """
    6D 65 74 61 64 61 74 61 00 00 05 00 00 00 00 00
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    37 67 A1 CA 36 FA 43 4D B3 B6 33 F0 AA 44 E7 6B
    00 00 01 00 08 00 00 00 04 00 00 00 00 00 00 00
    24 42 A5 2F 1B CD 76 48 B2 11 5D BE D8 3B F4 B8
    08 00 01 00 08 00 00 00 06 00 00 00 00 00 00 00
    1D BF 41 81 6F A9 09 47 BA 47 F2 33 A8 FA AB 5F
    10 00 01 00 04 00 00 00 06 00 00 00 00 00 00 00
    C7 48 A3 CD 5D 44 71 44 9C C9 E9 88 52 51 C5 56
    14 00 01 00 04 00 00 00 06 00 00 00 00 00 00 00
    AB 12 CA BE E6 B2 23 45 93 EF C3 09 E0 00 C7 46
    18 00 01 00 10 00 00 00 06 00 00 00 00 00 00 00
"""
METADATA_ITEMS = """
    00 00 20 00 00 00 00 00
    00 00 80 00 00 00 00 00
    00 02 00 00
    00 10 00 00
    A3 A2 A1 A0 B1 B0 C1 C0 D0 D1 E0 E1 E2 E3 E4 E5
"""
PUBLISHED = {
    0x000000: "76 68 64 78 66 69 6C 65 65 00 78 00 61 00 6D 00 70 00 6C 00 65 00 00 00",
    0x010000: "68 65 61 64 92 F0 DD 14 01 00 00 00 00 00 00 00" + HEADER_TAIL,
    0x020000: "68 65 61 64 FA 22 38 96 02 00 00 00 00 00 00 00" + HEADER_TAIL,
    0x030000: REGIONS,
    0x040000: REGIONS,
    0x200000: METADATA_TABLE,
    0x210000: METADATA_ITEMS,
    0x300000: "00 00 00 00 00 00 00 00 06 00 40 00 00 00 00 00",
}


def example() -> ImageBuilder:
    image = ImageBuilder(
        8 * MIB, 2 * MIB, disk_id=UUID("a0a1a2a3-b0b1-c0c1-d0d1-e0e1e2e3e4e5"), name="example"
    )
    image.creator = "example"
    image.each_header(
        file_write_guid=UUID("11111111-2222-3333-4444-555555555555"),
        data_write_guid=UUID("00112233-4455-6677-8899-aabbccddeeff"),
    )
    image.add_block(1, bytes(range(256)) * (2 * MIB // 256))
    return image


def published_image() -> bytes:
    data = bytearray(6 * MIB)
    for offset, text in PUBLISHED.items():
        piece = bytes.fromhex(text)
        data[offset : offset + len(piece)] = piece
    data[4 * MIB :] = bytes(range(256)) * (2 * MIB // 256)
    return bytes(data)


def test_builder_makes_the_published_image_byte_for_byte() -> None:
    assert example().build() == published_image()


@pytest.mark.parametrize(
    ("file_offset", "checksum"), [(0x10000, 0x14DDF092), (0x20000, 0x963822FA), (0x30000, 0xC66B8CAE)]
)
def test_checksums_are_the_published_ones(file_offset: int, checksum: int) -> None:
    assert stored_checksum(example().build()[file_offset:]) == checksum


def test_published_image_reads_as_one_block_among_zeroes() -> None:
    disk = ReferenceDisk([published_image()])
    assert disk.size == 8 * MIB
    assert disk.read(2 * MIB - 512, 1024) == bytes(512) + bytes(range(256)) * 2
    assert disk.read(4 * MIB - 2, 4) == b"\xfe\xff\0\0"


def test_child_of_the_published_image_is_the_published_child() -> None:
    child = ImageBuilder.child_of(example())
    child.add_partial_block(1, {3: b"\xcc" * 512})
    data = child.build()
    assert len(data) == 7 * MIB
    assert data[0x210004] == 2
    assert data[0x2000C0:0x2000D8].hex(" ") == (
        "2d 5f d3 a8 0b b3 4d 45 ab f7 d3 d8 48 34 ab 0c 28 00 01 00 "
        + len(child.metadata_items()[5].data).to_bytes(4, "little").hex(" ")
    )
    assert data[0x2000D8] == 4
    assert child.linkage != example().linkage
    assert data[0x300008:0x300010].hex(" ") == "07 00 40 00 00 00 00 00"
    assert data[0x300000 + 8 * 2048 :][:8].hex(" ") == "06 00 60 00 00 00 00 00"
    assert [index for index in range(MIB) if data[0x600000 + index]] == [0x200]
    assert data[0x600200] == 0x08
    disk = ReferenceDisk([data, published_image()])
    assert disk.read(2 * MIB + 3 * 512 - 1, 514) == b"\xff" + b"\xcc" * 512 + b"\0"


def test_flags_of_the_example_say_dynamic() -> None:
    assert example().item(FILE_PARAMETERS).data[4:] == bytes(4)
