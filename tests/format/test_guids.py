"""GUIDs: their bytes on disk and their text in locators."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhdx.format import guids

ON_DISK = {
    guids.BAT_REGION: "66 77 C2 2D 23 F6 00 42 9D 64 11 5E 9B FD 4A 08",
    guids.METADATA_REGION: "06 A2 7C 8B 90 47 9A 4B B8 FE 57 5F 05 0F 88 6E",
    guids.FILE_PARAMETERS: "37 67 A1 CA 36 FA 43 4D B3 B6 33 F0 AA 44 E7 6B",
    guids.VIRTUAL_DISK_SIZE: "24 42 A5 2F 1B CD 76 48 B2 11 5D BE D8 3B F4 B8",
    guids.LOGICAL_SECTOR_SIZE: "1D BF 41 81 6F A9 09 47 BA 47 F2 33 A8 FA AB 5F",
    guids.PHYSICAL_SECTOR_SIZE: "C7 48 A3 CD 5D 44 71 44 9C C9 E9 88 52 51 C5 56",
    guids.VIRTUAL_DISK_ID: "AB 12 CA BE E6 B2 23 45 93 EF C3 09 E0 00 C7 46",
    guids.PARENT_LOCATOR: "2D 5F D3 A8 0B B3 4D 45 AB F7 D3 D8 48 34 AB 0C",
    guids.VHDX_LOCATOR_TYPE: "B7 EF 4A B0 9E D1 81 4A B7 89 25 B8 E9 44 59 13",
}


@pytest.mark.parametrize("guid", ON_DISK, ids=str)
def test_assigned_guid_has_its_published_bytes(guid: UUID) -> None:
    assert guid.bytes_le == bytes.fromhex(ON_DISK[guid])


@given(st.uuids())
def test_guid_text_reads_back(guid: UUID) -> None:
    text = guids.guid_text(guid)
    assert len(text) == 38
    assert text == text.lower()
    assert guids.parse_guid_text(text) == guid
    assert guids.parse_guid_text(text.upper()) == guid
    assert guids.parse_guid_text(text[1:-1]) == guid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "{83ed0ec3-24c8-49a6-a959-5e4bd1288b9b",
        "83ed0ec3-24c8-49a6-a959-5e4bd1288b9b}",
        "{{83ed0ec3-24c8-49a6-a959-5e4bd1288b9b}}",
        "83ed0ec324c849a6a9595e4bd1288b9b",
        "urn:uuid:83ed0ec3-24c8-49a6-a959-5e4bd1288b9b",
        "{83ed0ec3-24c8-49a6-a959-5e4bd1288b9g}",
        "{83ed0ec32-4c8-49a6-a959-5e4bd1288b9b}",
        "{83ed0ec3-24c8-49a6-a959-5e4bd1288b\u0669b}",
        "{83ed0ec3-24c8-49a6-a959-5e4bd1288_9b}",
        " 83ed0ec3-24c8-49a6-a959-5e4bd1288b9b",
    ],
)
def test_text_that_is_no_guid_is_not_read_as_one(text: str) -> None:
    assert guids.parse_guid_text(text) is None
