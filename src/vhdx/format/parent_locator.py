"""The parent locator: who a differencing image's parent is and where it may be ([MS-VHDX] 2.6.2.6).

Every string in it is chosen by whoever made the file. This module only reads; what may be followed is the
business of `vhdx.disks.parents`.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from vhdx._text import quoted, quoted_all
from vhdx.format.guids import VHDX_LOCATOR_TYPE, ZERO_GUID, guid_text, parse_guid_text
from vhdx.report import Breach
from vhdx.rules import RuleCode

_HEADER: Final = struct.Struct("<16sHH")
_ENTRY: Final = struct.Struct("<IIHH")
assert _HEADER.size == 20
assert _ENTRY.size == 12

MAX_ENTRIES: Final = 256
"""Hardening (OpenVMM has the same limit): the strings may overlap, so the count bounds the work."""

LINKAGE: Final = "parent_linkage"
LINKAGE2: Final = "parent_linkage2"
PATH_KEYS: Final = ("relative_path", "volume_path", "absolute_win32_path")
"""In the order in which they are to be tried ([MS-VHDX] 2.6.2.6.3)."""

_KNOWN_KEYS: Final = frozenset((LINKAGE, LINKAGE2, *PATH_KEYS))
_STRUCTURE: Final = "parent locator"


@dataclass(frozen=True, slots=True)
class ParentLocator:
    """A parent's identity and the paths under which it may be found."""

    linkage: UUID
    """The parent's DataWriteGuid."""
    linkage2: UUID | None = None
    """A second acceptable DataWriteGuid: during a merge, and in files that Windows touched."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """By key, in the order in which they are to be tried; may hold unpaired surrogates."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Entries whose meaning is not known."""

    @property
    def linkages(self) -> frozenset[UUID]:
        """Every DataWriteGuid by which the parent may be recognised; never the zero GUID."""
        return frozenset(guid for guid in (self.linkage, self.linkage2) if guid not in (None, ZERO_GUID))

    @classmethod
    def decode(cls, item: bytes, file_offset: int, breach: Breach) -> "ParentLocator":
        """Read the whole metadata item. Raises: FormatError through `breach`."""
        strings = _decode_strings(item, file_offset, breach)
        if LINKAGE not in strings:
            breach(
                RuleCode.LOCATOR_LINKAGE_MISSING,
                _STRUCTURE,
                file_offset,
                found=f"keys {quoted_all(sorted(strings))}",
            )
        linkage = parse_guid_text(strings[LINKAGE])
        if linkage is None:
            breach(RuleCode.LOCATOR_LINKAGE_INVALID, _STRUCTURE, file_offset, found=quoted(strings[LINKAGE]))
        assert linkage is not None
        paths: dict[str, str] = {key: strings[key] for key in PATH_KEYS if key in strings}
        if not paths:
            breach(
                RuleCode.LOCATOR_NO_PATH, _STRUCTURE, file_offset, found=f"keys {quoted_all(sorted(strings))}"
            )
        return cls(
            linkage,
            parse_guid_text(strings.get(LINKAGE2, "")),
            paths,
            {key: value for key, value in strings.items() if key not in _KNOWN_KEYS},
        )

    def encode(self) -> bytes:
        """Write the item as Windows lays it out: header, entries, strings one after the other."""
        strings = {LINKAGE: guid_text(self.linkage)}
        if self.linkage2 is not None:
            strings[LINKAGE2] = guid_text(self.linkage2)
        return encode_strings({**strings, **self.paths, **self.unknown})


def encode_strings(strings: Mapping[str, str]) -> bytes:
    """Write a locator item of the VHDX type from its keys and values."""
    entries, heap = bytearray(), bytearray()
    heap_offset = _HEADER.size + _ENTRY.size * len(strings)
    for key, value in strings.items():
        raw_key, raw_value = (text.encode("utf-16-le", "surrogatepass") for text in (key, value))
        key_offset = heap_offset + len(heap)
        heap += raw_key + raw_value
        entries += _ENTRY.pack(key_offset, key_offset + len(raw_key), len(raw_key), len(raw_value))
    return _HEADER.pack(VHDX_LOCATOR_TYPE.bytes_le, 0, len(strings)) + bytes(entries) + bytes(heap)


def _decode_strings(item: bytes, file_offset: int, breach: Breach) -> dict[str, str]:
    if len(item) < _HEADER.size:
        breach(
            RuleCode.LOCATOR_TRUNCATED, _STRUCTURE, file_offset, found=f"{len(item)} bytes", expected=">= 20"
        )
    locator_type, _, count = _HEADER.unpack_from(item)
    if UUID(bytes_le=locator_type) != VHDX_LOCATOR_TYPE:
        breach(RuleCode.LOCATOR_TYPE, _STRUCTURE, file_offset, found=str(UUID(bytes_le=locator_type)))
    heap_offset = _HEADER.size + count * _ENTRY.size
    if heap_offset > len(item):
        found = f"{count} entries in {len(item)} bytes"
        breach(RuleCode.LOCATOR_TRUNCATED, _STRUCTURE, file_offset, found=found)
    if count > MAX_ENTRIES:
        breach(
            RuleCode.LOCATOR_COUNT,
            _STRUCTURE,
            file_offset + 18,
            found=str(count),
            expected=f"<= {MAX_ENTRIES}",
        )
    strings: dict[str, str] = {}
    for index in range(count):
        entry_offset = _HEADER.size + index * _ENTRY.size
        where = f"parent locator entry {index}"
        pair = _decode_entry(item, entry_offset, heap_offset, where, file_offset + entry_offset, breach)
        if pair is None:
            continue
        key, value = pair
        if strings.get(key, value) != value:
            breach(
                RuleCode.LOCATOR_DUPLICATE_KEY,
                where,
                file_offset + entry_offset,
                found=f"{quoted(key)} twice",
            )
        strings[key] = value
    return strings


def _decode_entry(
    item: bytes, entry_offset: int, heap_offset: int, where: str, file_offset: int, breach: Breach
) -> tuple[str, str] | None:
    """One key and its value; None if the entry is to be ignored."""
    key_at, value_at, key_length, value_length = _ENTRY.unpack_from(item, entry_offset)
    raw_key = _slice(item, key_at, key_length, heap_offset)
    key = None if raw_key is None else _decode_text(raw_key)
    if key is None:
        found = f"key of {key_length} bytes at {key_at:#x}"
        breach(RuleCode.LOCATOR_UNKNOWN_STRING, where, file_offset, found=found)
        return None
    raw_value = _slice(item, value_at, value_length, heap_offset)
    if raw_value is None:
        code = RuleCode.LOCATOR_STRING_RANGE if key in _KNOWN_KEYS else RuleCode.LOCATOR_UNKNOWN_STRING
        found = f"value of {quoted(key)}, {value_length} bytes at {value_at:#x}"
        breach(code, where, file_offset, found=found, expected=f"{heap_offset:#x} to {len(item):#x}")
        return None
    value = _decode_text(raw_value)
    if value is None or (key == LINKAGE and not value.isprintable()):
        breach(_encoding_code(key), where, file_offset, found=f"value of {quoted(key)}")
        return None
    return key, value


def _encoding_code(key: str) -> RuleCode:
    if key == LINKAGE:
        return RuleCode.LOCATOR_STRING_ENCODING
    return RuleCode.LOCATOR_PATH_ENCODING if key in PATH_KEYS else RuleCode.LOCATOR_UNKNOWN_STRING


def _slice(item: bytes, offset: int, length: int, heap_offset: int) -> bytes | None:
    if length == 0 or length % 2 or offset < heap_offset or offset + length > len(item):
        return None
    return item[offset : offset + length]


def _decode_text(raw: bytes) -> str | None:
    """Text of a string, unpaired surrogates kept (Windows file names have them); None if it has a NUL."""
    text = raw.decode("utf-16-le", "surrogatepass")
    return None if "\0" in text else text
