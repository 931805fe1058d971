"""Odd metadata: cases 69 to 94 of the format's table."""

import struct
from dataclasses import replace
from uuid import UUID

import pytest

from support.cases import (
    Case,
    assert_opens,
    assert_refused,
    assert_strict_only,
    content_of,
    each,
    pattern,
    sound,
)
from support.units import GIB, KIB, MIB, TIB
from vhdx import Image, UnsupportedFeatureError
from vhdx.format import guids
from vhdx.format.metadata import KNOWN_ITEMS
from vhdx.rules import RuleCode
from vhdx.testing import ImageBuilder, MetadataItem

UNKNOWN = UUID("1e1e1e1e-1e1e-4e1e-8e1e-1e1e1e1e1e1e")
USER, VIRTUAL, REQUIRED = 1, 2, 4
FIVE = (
    guids.FILE_PARAMETERS,
    guids.VIRTUAL_DISK_SIZE,
    guids.VIRTUAL_DISK_ID,
    guids.LOGICAL_SECTOR_SIZE,
    guids.PHYSICAL_SECTOR_SIZE,
)


def set_metadata(image: ImageBuilder, **fields: object) -> None:
    for name, value in fields.items():
        assert hasattr(image.metadata, name)
        setattr(image.metadata, name, value)


def set_item(image: ImageBuilder, item_id: UUID, **fields: object) -> None:
    for name, value in fields.items():
        assert hasattr(image.item(item_id), name)
        setattr(image.item(item_id), name, value)


def set_size(image: ImageBuilder, size: int) -> None:
    set_item(image, guids.VIRTUAL_DISK_SIZE, data=struct.pack("<Q", size))


def set_block_size(image: ImageBuilder, size: int) -> None:
    set_item(image, guids.FILE_PARAMETERS, data=struct.pack("<II", size, 0))


def set_sector_size(image: ImageBuilder, item_id: UUID, size: int) -> None:
    set_item(image, item_id, data=struct.pack("<I", size))


def add(image: ImageBuilder, item_id: UUID = UNKNOWN, flags: int = 0, **fields: object) -> MetadataItem:
    item = image.add_item(item_id, b"sixteen bytes ok", flags=flags)
    for name, value in fields.items():
        setattr(item, name, value)
    return item


def add_users(image: ImageBuilder, count: int) -> None:
    for number in range(count):
        image.add_item(UUID(int=number + 1))


def resize_item(image: ImageBuilder, item_id: UUID, difference: int) -> None:
    data = image.item(item_id).data
    set_item(image, item_id, data=(data + b"\0")[: len(data) + difference])


def name_of(item_id: UUID) -> str:
    return KNOWN_ITEMS[item_id].name


REFUSED = [
    Case(
        69,
        "bad signature",
        lambda image: set_metadata(image, signature=b"metadate"),
        RuleCode.METADATA_SIGNATURE,
        ("metadata table", "0x200000"),
    ),
    *[
        Case(
            70,
            f"{count} entries",
            lambda image, count=count: set_metadata(image, count=count),  # type: ignore[misc]
            RuleCode.METADATA_COUNT,
            ("metadata table", "0x20000a", str(count)),
        )
        for count in (2048, 65535)
    ],
    Case(
        71,
        "item inside the table",
        lambda image: add(image, offset=64 * KIB - 1),
        RuleCode.METADATA_ITEM_OFFSET,
        ("metadata table entry 5", str(UNKNOWN), "0xffff"),
    ),
    Case(
        71,
        "known item inside the table",
        lambda image: set_item(image, guids.VIRTUAL_DISK_ID, offset=4096),
        RuleCode.METADATA_ITEM_OFFSET,
        ("virtual disk id", "0x1000"),
    ),
    Case(
        72,
        "item past the region",
        lambda image: add(image, offset=MIB - 15),
        RuleCode.METADATA_ITEM_RANGE,
        ("metadata table entry 5", str(UNKNOWN), "0xffff1"),
    ),
    Case(
        72,
        "offset plus length past 2^32",
        lambda image: add(image, offset=0xFFFFFFF8),
        RuleCode.METADATA_ITEM_RANGE,
        (str(UNKNOWN), "0xfffffff8"),
    ),
    Case(
        73,
        "item longer than 1 MiB",
        lambda image: add(image, length=MIB + 1),
        RuleCode.METADATA_ITEM_LENGTH,
        (str(UNKNOWN), "0x100001"),
    ),
    Case(
        74,
        "item over a known one",
        lambda image: add(image, offset=64 * KIB),
        RuleCode.METADATA_KNOWN_ITEM_OVERLAP,
        ("metadata table", "file parameters", str(UNKNOWN)),
    ),
    Case(
        74,
        "two known items",
        lambda image: set_item(image, guids.PHYSICAL_SECTOR_SIZE, offset=64 * KIB + 4),
        RuleCode.METADATA_KNOWN_ITEM_OVERLAP,
        ("physical sector size", "file parameters"),
    ),
    *[
        Case(
            76,
            f"{name_of(item_id)} {what}",
            lambda image, item_id=item_id, difference=difference: resize_item(  # type: ignore[misc]
                image, item_id, difference
            ),
            RuleCode.METADATA_KNOWN_ITEM_LENGTH,
            ("metadata table entry", name_of(item_id)),
        )
        for item_id in FIVE
        for what, difference in (("too long", 1), ("too short", -1))
    ],
    Case(
        76,
        "known item empty",
        lambda image: set_item(image, guids.VIRTUAL_DISK_SIZE, data=b""),
        RuleCode.METADATA_KNOWN_ITEM_LENGTH,
        ("virtual disk size", "found 0"),
    ),
    Case(
        77,
        "known item twice",
        lambda image: image.add_item(guids.FILE_PARAMETERS, struct.pack("<II", MIB, 0), flags=REQUIRED),
        RuleCode.METADATA_DUPLICATE,
        ("metadata table entry 5", "file parameters"),
    ),
    Case(
        77,
        "user item twice",
        lambda image: (add(image, flags=USER), add(image, flags=USER)),
        RuleCode.METADATA_DUPLICATE,
        ("metadata table entry 6", str(UNKNOWN)),
    ),
    Case(
        78,
        "1025 user items",
        lambda image: add_users(image, 1025),
        RuleCode.METADATA_USER_COUNT,
        ("metadata table", "1025"),
    ),
    Case(
        79,
        "unknown required item",
        lambda image: add(image, flags=REQUIRED),
        RuleCode.METADATA_UNKNOWN_REQUIRED,
        ("metadata table entry 5", "0x2000c0", str(UNKNOWN)),
        UnsupportedFeatureError,
    ),
    Case(
        81,
        "known id as a required user item",
        lambda image: add(image, guids.FILE_PARAMETERS, USER | REQUIRED),
        RuleCode.METADATA_UNKNOWN_REQUIRED,
        ("user item", str(guids.FILE_PARAMETERS)),
        UnsupportedFeatureError,
    ),
    Case(
        81,
        "known item turned into a user item",
        lambda image: set_item(image, guids.FILE_PARAMETERS, flags=USER),
        RuleCode.METADATA_MISSING,
        ("metadata table", "file parameters"),
    ),
    Case(
        83,
        "incomplete file",
        lambda image: image.add_item(guids.INCOMPLETE_FILE, flags=REQUIRED),
        RuleCode.METADATA_INCOMPLETE,
        ("incomplete file mark", "interrupted"),
    ),
    *[
        Case(
            84,
            f"no {name_of(item_id)}",
            lambda image, item_id=item_id: image.drop_item(item_id),  # type: ignore[misc]
            RuleCode.METADATA_MISSING,
            ("metadata table", name_of(item_id)),
        )
        for item_id in FIVE
    ],
    *[
        Case(
            86,
            f"block size {size}",
            lambda image, size=size: set_block_size(image, size),  # type: ignore[misc]
            RuleCode.BLOCK_SIZE,
            ("file parameters", "0x210000", f"found {size}"),
        )
        for size in (0, 3 * MIB, MIB // 2, 512 * MIB)
    ],
    Case(
        89,
        "virtual size 0",
        lambda image: set_size(image, 0),
        RuleCode.VIRTUAL_SIZE_ZERO,
        ("virtual disk size", "0x210008"),
    ),
    Case(
        90,
        "virtual size not in sectors",
        lambda image: set_size(image, 4 * MIB + 511),
        RuleCode.VIRTUAL_SIZE_ALIGNMENT,
        ("virtual disk size", str(4 * MIB + 511)),
    ),
    Case(
        91,
        "virtual size over 64 TiB",
        lambda image: set_size(image, 64 * TIB + 512),
        RuleCode.VIRTUAL_SIZE_LIMIT,
        ("virtual disk size", str(64 * TIB + 512)),
    ),
    Case(
        91,
        "virtual size 2^64 - 512",
        lambda image: set_size(image, (1 << 64) - 512),
        RuleCode.VIRTUAL_SIZE_LIMIT,
        ("virtual disk size",),
    ),
    *[
        Case(
            92,
            f"logical sector size {size}",
            lambda image, size=size: set_sector_size(image, guids.LOGICAL_SECTOR_SIZE, size),  # type: ignore[misc]
            RuleCode.LOGICAL_SECTOR_SIZE,
            ("logical sector size", "0x210010", f"found {size}"),
        )
        for size in (1024, 0)
    ],
    Case(
        95,
        "BAT region too small",
        lambda image: set_size(image, 64 * TIB),
        RuleCode.BAT_TOO_SMALL,
        ("BAT region", "0x300000", "1048576 bytes"),
    ),
    Case(
        95,
        "BAT region too small by one entry",
        lambda image: set_size(image, (131072 - 31 + 1) * MIB),
        RuleCode.BAT_TOO_SMALL,
        ("BAT region", "131073 entries"),
    ),
]


@each(REFUSED)
def test_image_is_refused(case: Case) -> None:
    image = sound()
    case.wound(image)
    assert_refused(image, case)


def swap_items(image: ImageBuilder) -> None:
    image.metadata.items.reverse()


def scatter_items(image: ImageBuilder) -> None:
    for index, item in enumerate(image.metadata.items):
        item.offset = MIB - 1 - 97 * (index + 1)


TOLERATED = [
    Case(70, "2047 entries", lambda image: [image.add_item(UUID(int=n), flags=0) for n in range(1, 2043)]),
    Case(71, "items in reverse order", swap_items),
    Case(71, "items at odd places", scatter_items),
    Case(72, "item that ends with the region", lambda image: add(image, offset=MIB - 16)),
    Case(73, "item of nearly 1 MiB", lambda image: add(image, offset=2 * 64 * KIB, length=MIB - 128 * KIB)),
    Case(77, "same id as user and system item", lambda image: (add(image), add(image, flags=USER))),
    Case(78, "1024 user items", lambda image: add_users(image, 1024)),
    Case(80, "unknown optional item", lambda image: add(image, flags=VIRTUAL)),
    Case(80, "unknown optional empty item", lambda image: image.add_item(UNKNOWN, flags=VIRTUAL)),
    Case(80, "known optional items", lambda image: add(image, guids.CHS_PARAMETERS, REQUIRED)),
    Case(80, "PMEM labels", lambda image: add(image, guids.PMEM_LABEL_STORAGE, REQUIRED)),
    Case(81, "known id as a user item", lambda image: add(image, guids.VIRTUAL_DISK_SIZE, USER)),
    Case(81, "incomplete file as a user item", lambda image: add(image, guids.INCOMPLETE_FILE, USER)),
    Case(
        82,
        "file parameters not required",
        lambda image: set_item(image, guids.FILE_PARAMETERS, flags=0),
        RuleCode.METADATA_KNOWN_ITEM_FLAGS,
    ),
    Case(
        82,
        "disk size not of the disk",
        lambda image: set_item(image, guids.VIRTUAL_DISK_SIZE, flags=REQUIRED),
        RuleCode.METADATA_KNOWN_ITEM_FLAGS,
    ),
    Case(
        118,
        "locator without parent",
        lambda image: add(image, guids.PARENT_LOCATOR, REQUIRED),
        RuleCode.LOCATOR_UNEXPECTED,
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


def overlap_unknown(image: ImageBuilder) -> None:
    add(image, offset=128 * KIB)
    add(image, UUID(int=77), offset=128 * KIB + 15)


STRICT = [
    Case(
        74,
        "two unknown items",
        overlap_unknown,
        RuleCode.METADATA_ITEM_OVERLAP,
        ("metadata table", "0x2000f"),
    ),
    Case(
        75,
        "empty item with an offset",
        lambda image: add(image, data=b"", length=0, offset=128 * KIB),
        RuleCode.METADATA_EMPTY_ITEM_OFFSET,
        (str(UNKNOWN), "0x2000d0"),
    ),
    Case(
        85,
        "reserved field of the head",
        lambda image: set_metadata(image, reserved=1),
        RuleCode.METADATA_RESERVED,
        ("metadata table", "0x200008"),
    ),
    Case(
        85,
        "reserved bytes of the head",
        lambda image: set_metadata(image, reserved2=bytes(19) + b"\1"),
        RuleCode.METADATA_RESERVED,
        ("metadata table", "0x200008"),
    ),
    Case(
        85,
        "reserved flags of an entry",
        lambda image: add(image, flags=0x80000000),
        RuleCode.METADATA_RESERVED,
        ("metadata table entry 5", "0x80000000"),
    ),
    Case(
        85,
        "reserved field of an entry",
        lambda image: add(image, reserved=1),
        RuleCode.METADATA_RESERVED,
        ("metadata table entry 5",),
    ),
    Case(
        85,
        "item id zero",
        lambda image: add(image, guids.ZERO_GUID),
        RuleCode.METADATA_ITEM_ID,
        ("metadata table entry 5", "0x2000c0"),
    ),
    Case(
        87,
        "reserved bits of the file parameters",
        lambda image: set_item(image, guids.FILE_PARAMETERS, data=struct.pack("<II", MIB, 4)),
        RuleCode.FILE_PARAMETERS_RESERVED,
        ("file parameters", "0x210004"),
    ),
    *[
        Case(
            94,
            f"physical sector size {size}",
            lambda image, size=size: set_sector_size(image, guids.PHYSICAL_SECTOR_SIZE, size),  # type: ignore[misc]
            RuleCode.PHYSICAL_SECTOR_SIZE,
            ("physical sector size", "0x210014", f"found {size}"),
        )
        for size in (1, 0, 8192)
    ],
]


@each(STRICT)
def test_image_is_refused_only_when_strict(case: Case) -> None:
    image = sound()
    case.wound(image)
    assert_strict_only(image, content_of(sound()), case)


def test_case_088_image_that_is_fixed_and_has_a_parent_is_differencing() -> None:
    image = ImageBuilder(kind="differencing")
    image.item(guids.FILE_PARAMETERS).data = struct.pack("<II", MIB, 3)
    image.add_block(1, pattern(5))
    with Image.open(image.build_store(), strict=True) as opened:
        assert opened.kind == "differencing"
        assert opened.pread(512, MIB) == pattern(5)[:512]
        assert opened.findings == []


def test_case_091_disk_of_64_tib_opens_and_reads_right_to_its_end() -> None:
    image = ImageBuilder(64 * TIB, MIB)
    image.add_block(64 * TIB // MIB - 1, pattern(6, MIB))
    with Image.open(image.build_store()) as opened:
        assert opened.size == 64 * TIB
        assert opened.pread(MIB, 64 * TIB - MIB) == pattern(6, MIB)
        assert opened.pread(4096, 64 * TIB - MIB - 4096) == bytes(4096)


@pytest.mark.parametrize("virtual_size", [4 * MIB, 4 * MIB + 4096, 33 * GIB])
def test_case_093_sectors_of_4096_bytes_work(virtual_size: int) -> None:
    image = ImageBuilder(virtual_size, logical_sector_size=4096)
    last = image.geometry.block_count - 1
    image.add_block(0, pattern(1))
    image.add_block(last, pattern(2))
    with Image.open(image.build_store(), strict=True) as opened:
        assert opened.logical_sector_size == 4096
        assert opened.pread(4096, 0) == pattern(1)
        assert opened.pread(4096, last * MIB) == pattern(2)
        assert opened.findings == []


def test_case_095_bat_region_that_just_holds_the_bat_is_enough() -> None:
    image = sound()
    set_size(image, (131072 - 31) * MIB)
    with Image.open(image.build_store()) as opened:
        geometry = opened.opened.geometry
        assert replace(geometry, virtual_size=0) == replace(image.geometry, virtual_size=0)
        assert geometry.bat_size == MIB
        assert opened.pread(4096, 3 * MIB) == pattern(2)
