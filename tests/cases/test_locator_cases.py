"""Odd parent locators: cases 117 to 127 of the format's table."""

from uuid import UUID

import pytest

import vhdx
from support.cases import Case, assert_refused, codes, content_of, each, sound_child, store_of
from vhdx import (
    UnsupportedFeatureError,
)
from vhdx.format import guids
from vhdx.rules import RuleCode
from vhdx.testing import ImageBuilder, LocatorFields, LocatorPair

OTHER_GUID = "{0badcafe-0bad-4afe-8bad-0badcafe0bad}"


def locator(image: ImageBuilder) -> LocatorFields:
    assert image.locator is not None
    return image.locator


def set_locator(image: ImageBuilder, **fields: object) -> None:
    for name, value in fields.items():
        assert hasattr(locator(image), name)
        setattr(locator(image), name, value)


def set_pair(image: ImageBuilder, which: str, /, **fields: object) -> None:
    pair = locator(image).pair(which)
    for name, value in fields.items():
        assert hasattr(pair, name)
        setattr(pair, name, value)


def add_pair(image: ImageBuilder, key: str | bytes, value: str | bytes, **fields: int) -> None:
    locator(image).pairs.append(LocatorPair(key, value, **fields))


def replace_locator(image: ImageBuilder, data: bytes) -> None:
    image.locator = None
    image.add_item(guids.PARENT_LOCATOR, data, flags=4)


REFUSED = [
    Case(
        117,
        "no locator",
        lambda image: setattr(image, "locator", None),
        RuleCode.LOCATOR_MISSING,
        ("metadata table", "0x200000"),
    ),
    Case(
        119,
        "locator of 19 bytes",
        lambda image: replace_locator(image, locator(image).encode()[:19]),
        RuleCode.LOCATOR_TRUNCATED,
        ("parent locator", "0x210028", "19 bytes"),
    ),
    Case(
        119,
        "empty locator",
        lambda image: replace_locator(image, b""),
        RuleCode.LOCATOR_TRUNCATED,
        ("parent locator", "0 bytes"),
    ),
    Case(
        119,
        "65535 entries",
        lambda image: set_locator(image, count=65535),
        RuleCode.LOCATOR_TRUNCATED,
        ("parent locator", "65535 entries"),
    ),
    Case(
        119,
        "65535 entries that would fit",
        lambda image: set_locator(image, count=65535, trailing=bytes(12 * 65536)),
        RuleCode.LOCATOR_COUNT,
        ("parent locator", "0x21003a", "65535"),
    ),
    Case(
        120,
        "unknown locator type",
        lambda image: set_locator(image, locator_type=UUID(int=120)),
        RuleCode.LOCATOR_TYPE,
        ("parent locator", "0x210028", str(UUID(int=120))),
        UnsupportedFeatureError,
    ),
    *[
        Case(
            number,
            f"{key} {name}",
            lambda image, key=key, field=field, value=value: set_pair(  # type: ignore[misc]
                image, key, **{field: value}
            ),
            RuleCode.LOCATOR_STRING_RANGE,
            ("parent locator entry", key),
        )
        for key in ("parent_linkage", "relative_path")
        for number, name, field, value in (
            (121, "value past the item", "value_offset", 1 << 20),
            (121, "value at 2^32 - 2", "value_offset", (1 << 32) - 2),
            (121, "value that reaches past the item", "value_length", 60000),
            (121, "value of no length", "value_length", 0),
            (121, "value of odd length", "value_length", 11),
            (122, "value at 0", "value_offset", 0),
            (122, "value in the entries", "value_offset", 20),
        )
    ],
    Case(
        123,
        "linkage with a NUL",
        lambda image: set_pair(image, "parent_linkage", value=str(UUID(int=1)) + "\0\0"),
        RuleCode.LOCATOR_STRING_ENCODING,
        ("parent locator entry 0", "parent_linkage"),
    ),
    Case(
        123,
        "linkage of lone surrogates",
        lambda image: set_pair(image, "parent_linkage", value=b"\x00\xd8" * 38),
        RuleCode.LOCATOR_STRING_ENCODING,
        ("parent locator entry 0", "parent_linkage"),
    ),
    Case(
        124,
        "two paths for one key",
        lambda image: add_pair(image, "relative_path", ".\\other.vhdx"),
        RuleCode.LOCATOR_DUPLICATE_KEY,
        ("parent locator entry 2", "relative_path"),
    ),
    Case(
        124,
        "two linkages",
        lambda image: add_pair(image, "parent_linkage", OTHER_GUID),
        RuleCode.LOCATOR_DUPLICATE_KEY,
        ("parent locator entry 2", "parent_linkage"),
    ),
    Case(
        125,
        "no linkage",
        lambda image: locator(image).drop("parent_linkage"),
        RuleCode.LOCATOR_LINKAGE_MISSING,
        ("parent locator", "0x210028", "relative_path"),
    ),
    Case(
        125,
        "only the second linkage",
        lambda image: set_pair(image, "parent_linkage", key="parent_linkage2"),
        RuleCode.LOCATOR_LINKAGE_MISSING,
        ("parent locator", "parent_linkage2"),
    ),
    Case(
        126,
        "linkage that is no guid",
        lambda image: set_pair(image, "parent_linkage", value="parent.vhdx"),
        RuleCode.LOCATOR_LINKAGE_INVALID,
        ("parent locator", "parent.vhdx"),
    ),
]


@each(REFUSED)
def test_child_is_refused(case: Case) -> None:
    child, _ = sound_child()
    case.wound(child)
    assert_refused(child, case)


TOLERATED = [
    *[
        Case(
            number,
            f"unknown entry {name}",
            lambda image, fields=fields: add_pair(image, "unknown", "value", **fields),  # type: ignore[misc]
            RuleCode.LOCATOR_UNKNOWN_STRING,
        )
        for number, name, fields in (
            (121, "with a key past the item", {"key_offset": 1 << 20}),
            (121, "with a key of no length", {"key_length": 0}),
            (121, "with a key of odd length", {"key_length": 3}),
            (121, "with a value past the item", {"value_offset": 1 << 20}),
            (121, "with a value of no length", {"value_length": 0}),
            (122, "with a key at 0", {"key_offset": 0}),
            (122, "with a value in the entries", {"value_offset": 24}),
        )
    ],
    Case(
        123,
        "unknown entry with a NUL",
        lambda image: add_pair(image, "unknown", "a\0b"),
        RuleCode.LOCATOR_UNKNOWN_STRING,
    ),
    Case(
        123,
        "volume path with a NUL",
        lambda image: add_pair(image, "volume_path", "a\0b"),
        RuleCode.LOCATOR_PATH_ENCODING,
    ),
    Case(124, "same path twice", lambda image: add_pair(image, "relative_path", ".\\parent.vhdx")),
    Case(127, "second linkage", lambda image: add_pair(image, "parent_linkage2", OTHER_GUID)),
    Case(127, "second linkage zero", lambda image: add_pair(image, "parent_linkage2", str(UUID(int=0)))),
    Case(127, "second linkage no guid", lambda image: add_pair(image, "parent_linkage2", "none")),
]


@each(TOLERATED)
@pytest.mark.parametrize("strict", [False, True])
def test_child_opens_with_its_parent_and_reads_right(case: Case, strict: bool) -> None:
    child, parent = sound_child()
    expected = content_of(child, parent)
    case.wound(child)
    with vhdx.open(store_of(child), parents=[store_of(parent)], strict=strict) as disk:
        assert disk.pread(disk.size, 0) == expected
        assert codes(disk.findings) == ([] if case.code is None else [case.code])


def test_case_127_second_linkage_alone_may_match() -> None:
    child, parent = sound_child()
    add_pair(child, "parent_linkage2", locator(child).pair("parent_linkage").value)
    set_pair(child, "parent_linkage", value=OTHER_GUID)
    with vhdx.open(store_of(child), parents=[store_of(parent)]) as disk:
        assert disk.pread(disk.size, 0) == content_of(child, parent)
