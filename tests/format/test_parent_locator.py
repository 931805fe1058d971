"""Parent locators: what they say, and every way in which one can be wrong."""

import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.breaches import assert_refused, tolerated
from vhdx.format.guids import ZERO_GUID, guid_text
from vhdx.format.parent_locator import PATH_KEYS, ParentLocator
from vhdx.report import Report
from vhdx.rules import RuleCode
from vhdx.testing import LocatorFields, LocatorPair

LINKAGE = UUID("83ed0ec3-24c8-49a6-a959-5e4bd1288b9b")
BASE = 0x210028


def sound(*more: tuple[str, str]) -> LocatorFields:
    return LocatorFields.of(
        [("parent_linkage", guid_text(LINKAGE)), ("relative_path", ".\\parent.vhdx"), *more]
    )


def decode(fields: LocatorFields, report: Report) -> ParentLocator:
    return ParentLocator.decode(fields.encode(), BASE, report.breach)


texts = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=20)


@given(
    st.uuids(),
    st.none() | st.uuids(),
    st.dictionaries(st.sampled_from(PATH_KEYS), texts, min_size=1),
    st.dictionaries(texts.map(lambda text: "x" + text), texts, max_size=3),
)
def test_locator_reads_back(
    linkage: UUID, linkage2: UUID | None, paths: dict[str, str], unknown: dict[str, str]
) -> None:
    locator = ParentLocator(linkage, linkage2, paths, unknown)
    report = Report()
    found = ParentLocator.decode(locator.encode(), BASE, report.breach)
    assert found == locator
    assert list(found.paths) == [key for key in PATH_KEYS if key in paths]
    assert report.findings == []


def test_encoded_locator_is_laid_out_as_the_kit_lays_it_out() -> None:
    locator = ParentLocator(LINKAGE, None, {"relative_path": ".\\parent.vhdx"}, {"other": "kept"})
    assert locator.encode() == sound(("other", "kept")).encode()


def test_paths_are_tried_relative_then_volume_then_absolute() -> None:
    pairs = [("absolute_win32_path", "\\\\?\\c:\\p"), ("volume_path", "\\\\?\\Volume{0}\\p")]
    found = decode(sound(*pairs), Report())
    assert list(found.paths) == ["relative_path", "volume_path", "absolute_win32_path"]


@pytest.mark.parametrize("spelling", [str(LINKAGE), f"{{{LINKAGE}}}", f"{{{str(LINKAGE).upper()}}}"])
def test_linkage_is_read_in_every_spelling(spelling: str) -> None:
    fields = sound()
    fields.pair("parent_linkage").value = spelling
    assert decode(fields, Report()).linkage == LINKAGE


def test_second_linkage_counts_unless_zero_or_no_guid() -> None:
    second = UUID(int=77)
    cases = [(guid_text(second), {LINKAGE, second}), (guid_text(ZERO_GUID), {LINKAGE}), ("junk", {LINKAGE})]
    for text, linkages in cases:
        report = Report(strict=True)
        assert decode(sound(("parent_linkage2", text)), report).linkages == linkages
        assert report.findings == []


def test_zero_linkage_recognises_no_parent() -> None:
    fields = sound()
    fields.pair("parent_linkage").value = guid_text(ZERO_GUID)
    assert decode(fields, Report()).linkages == frozenset()


def test_path_with_unpaired_surrogates_is_kept() -> None:
    fields = sound()
    fields.pair("relative_path").value = b"\x00\xd8a\x00"
    assert decode(fields, Report(strict=True)).paths == {"relative_path": "\ud800a"}


@pytest.mark.parametrize("length", [0, 1, 19])
def test_item_too_short_for_its_head_is_refused(length: int) -> None:
    item = sound().encode()[:length]
    assert_refused(
        lambda report: ParentLocator.decode(item, BASE, report.breach),
        RuleCode.LOCATOR_TRUNCATED,
        ["parent locator", "0x210028", f"{length} bytes"],
    )


def wounded(**fields: object) -> LocatorFields:
    locator = sound(("unknown", "value"))
    for name, value in fields.items():
        setattr(locator, name, value)
    return locator


def wounded_pair(which: str, /, **fields: object) -> LocatorFields:
    locator = sound(("unknown", "value"))
    pair = locator.pair(which)
    for name, value in fields.items():
        setattr(pair, name, value)
    return locator


def without(key: str) -> LocatorFields:
    locator = sound()
    locator.drop(key)
    return locator


@pytest.mark.parametrize(
    ("fields", "code", "name"),
    [
        (wounded(locator_type=UUID(int=3)), RuleCode.LOCATOR_TYPE, str(UUID(int=3))),
        (wounded(count=65535), RuleCode.LOCATOR_TRUNCATED, "65535 entries"),
        (wounded(count=257, trailing=bytes(4000)), RuleCode.LOCATOR_COUNT, "257"),
        (without("parent_linkage"), RuleCode.LOCATOR_LINKAGE_MISSING, "relative_path"),
        (wounded_pair("parent_linkage", value="junk"), RuleCode.LOCATOR_LINKAGE_INVALID, "junk"),
        (wounded_pair("parent_linkage", value_length=0), RuleCode.LOCATOR_STRING_RANGE, "parent_linkage"),
        (wounded_pair("parent_linkage", value_length=75), RuleCode.LOCATOR_STRING_RANGE, "75 bytes"),
        (wounded_pair("parent_linkage", value_offset=0), RuleCode.LOCATOR_STRING_RANGE, "0x0"),
        (wounded_pair("parent_linkage", value_offset=54), RuleCode.LOCATOR_STRING_RANGE, "0x36"),
        (wounded_pair("parent_linkage", value_offset=1 << 31), RuleCode.LOCATOR_STRING_RANGE, "0x80000000"),
        (wounded_pair("relative_path", value_length=65534), RuleCode.LOCATOR_STRING_RANGE, "relative_path"),
        (
            wounded_pair("parent_linkage", value=guid_text(LINKAGE) + "\0"),
            RuleCode.LOCATOR_STRING_ENCODING,
            "parent_linkage",
        ),
        (
            wounded_pair("parent_linkage", value=b"\x00\xd8" * 38),
            RuleCode.LOCATOR_STRING_ENCODING,
            "parent_linkage",
        ),
        (
            sound(("relative_path", ".\\another.vhdx")),
            RuleCode.LOCATOR_DUPLICATE_KEY,
            "relative_path",
        ),
        (
            sound(("parent_linkage", guid_text(UUID(int=1)))),
            RuleCode.LOCATOR_DUPLICATE_KEY,
            "parent_linkage",
        ),
    ],
)
def test_locator_is_refused_for_what_it_says(fields: LocatorFields, code: RuleCode, name: str) -> None:
    assert_refused(lambda report: decode(fields, report), code, ["parent locator", name])


@pytest.mark.parametrize(
    "fields",
    [
        wounded_pair("unknown", key_length=0),
        wounded_pair("unknown", key_length=7),
        wounded_pair("unknown", key_offset=0),
        wounded_pair("unknown", key_offset=55),
        wounded_pair("unknown", key_offset=1 << 31),
        wounded_pair("unknown", key="a\0b"),
        wounded_pair("unknown", value_length=0),
        wounded_pair("unknown", value_length=1),
        wounded_pair("unknown", value_offset=20),
        wounded_pair("unknown", value="a\0b"),
    ],
)
def test_unreadable_entry_that_is_not_known_is_noted_and_ignored(fields: LocatorFields) -> None:
    assert tolerated(lambda report: decode(fields, report)) == [RuleCode.LOCATOR_UNKNOWN_STRING]
    found = decode(fields, Report())
    assert (found.linkage, found.unknown) == (LINKAGE, {})


def test_path_with_a_nul_is_noted_and_not_used() -> None:
    fields = sound(("volume_path", "\\\\?\\Volume{0}\\p"))
    fields.pair("relative_path").value = "parent\0.vhdx"
    assert tolerated(lambda report: decode(fields, report)) == [RuleCode.LOCATOR_PATH_ENCODING]
    assert list(decode(fields, Report()).paths) == ["volume_path"]


def test_locator_without_any_path_is_noted() -> None:
    assert tolerated(lambda report: decode(without("relative_path"), report)) == [RuleCode.LOCATOR_NO_PATH]


def test_same_key_with_the_same_value_is_no_contradiction() -> None:
    fields = sound(("relative_path", ".\\parent.vhdx"))
    assert decode(fields, Report(strict=True)).paths == {"relative_path": ".\\parent.vhdx"}


def test_strings_may_overlap_each_other() -> None:
    fields = sound()
    fields.pairs.append(LocatorPair("other", "value", key_offset=struct.calcsize("<16sHH") + 36))
    assert decode(fields, Report(strict=True)).linkage == LINKAGE


def test_256_entries_are_not_too_many() -> None:
    fields = sound(*[(f"key {n}", "value") for n in range(254)])
    assert len(decode(fields, Report(strict=True)).unknown) == 254
