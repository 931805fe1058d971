"""The two headers, and which of them is current ([MS-VHDX] 2.2.2)."""

from dataclasses import dataclass

from vhdx.format.constants import HEADER_FILE_OFFSETS
from vhdx.format.header import HEADER_SIZE, Header, check_current_header
from vhdx.report import Breach, Report
from vhdx.rules import RuleCode
from vhdx.storage.base import ByteStore, pread


@dataclass(frozen=True, slots=True)
class HeaderPair:
    """Both slots, None where a slot holds no valid header, and the index of the current one."""

    slots: tuple[Header | None, Header | None]
    current_index: int

    @property
    def current(self) -> Header:
        """The header that counts."""
        header = self.slots[self.current_index]
        assert header is not None
        return header


def slot_name(index: int) -> str:
    """What to call a header slot in a message."""
    return f"header {index + 1}"


def read_header_pair(store: ByteStore, file_size: int, report: Report) -> HeaderPair:
    """Read both headers, choose the current one and check it.

    Raises: FormatError through `report`; OSError.
    """
    breach = report.breach
    with report.of_two_copies() as copies:
        first, second = (
            Header.decode(pread(store, HEADER_SIZE, offset), slot_name(index), offset, copies.breach)
            for index, offset in enumerate(HEADER_FILE_OFFSETS)
        )
    pair = HeaderPair((first, second), _current_index(first, second, breach))
    offset = HEADER_FILE_OFFSETS[pair.current_index]
    check_current_header(pair.current, slot_name(pair.current_index), offset, file_size, breach)
    return pair


def _current_index(first: Header | None, second: Header | None, breach: Breach) -> int:
    if first is None and second is None:
        breach(RuleCode.HEADER_NONE_VALID, "headers", HEADER_FILE_OFFSETS[0])
    if first is None or second is None:
        return 0 if second is None else 1
    if first.sequence_number == second.sequence_number and first != second:
        found = f"sequence number {first.sequence_number} in both"
        breach(RuleCode.HEADER_EQUAL_SEQUENCE, "headers", HEADER_FILE_OFFSETS[0], found=found)
    return 1 if second.sequence_number > first.sequence_number else 0
