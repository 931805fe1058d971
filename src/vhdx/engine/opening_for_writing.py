"""Opening a file for writing: what must be right before it may be changed.

All of it is judged before the first byte is written: a file that is refused has not been touched.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from vhdx._units import GIB
from vhdx.engine.blocks.requests import Requests
from vhdx.engine.scan.table import judge_table
from vhdx.engine.session.header_writer import has_headroom
from vhdx.engine.session.session import WriteSession
from vhdx.engine.side_files import side_files
from vhdx.errors import ImageStateError, refusal
from vhdx.findings import Finding
from vhdx.format.constants import HEADER_FILE_OFFSETS
from vhdx.rules import RuleCode, Severity
from vhdx.storage.base import is_writable

if TYPE_CHECKING:
    from vhdx.engine.bat_table import BatTable
    from vhdx.engine.opening import Opened
    from vhdx.engine.table_summary import TableSummary
    from vhdx.engine.tuning import Tuning
    from vhdx.report import Report
    from vhdx.storage.base import ByteStore

GROWTH_CEILING: Final = GIB
"""How far past its last structure a replay may extend the file. Writers make a file longer in smaller steps."""

_UNWRITABLE: Final = frozenset((RuleCode.LOG_BEYOND_END, RuleCode.HEADER_SEQUENCE_EXHAUSTED))
"""Rules whose breach is tolerated when reading, and refused here."""


def open_for_writing(
    opened: Opened,
    bat: BatTable,
    report: Report,
    store: ByteStore,
    tuning: Tuning,
    *,
    ignore_change_tracking: bool,
) -> Requests:
    """Judge a file, and make what changes it. `store` is the file itself, without a replay's overlay.

    Raises: as `judge_for_writing`.
    """
    summary = judge_for_writing(opened, bat, report, store, ignore_change_tracking=ignore_change_tracking)
    return Requests(WriteSession(opened, summary, store, bat.pages, tuning), bat)


def judge_for_writing(
    opened: Opened, bat: BatTable, report: Report, store: ByteStore, *, ignore_change_tracking: bool
) -> TableSummary:
    """Judge everything that reading leaves to the moment it is met; return what the BAT says of the file's space.

    Raises: FormatError for the first rule broken that a writer must not build upon; ImageStateError if
    Hyper-V tracks the changes of the image; OSError (io.UnsupportedOperation for a store that takes no writes).
    """
    if not is_writable(store):
        raise io.UnsupportedOperation(
            f"{store.name}: open for reading only; a file object must be opened in mode 'r+b' to be written to"
        )
    for finding in report.findings:
        if finding.code in _UNWRITABLE:
            raise refusal(finding, store.name)
    header = opened.headers.current
    if not has_headroom(header):
        where = HEADER_FILE_OFFSETS[opened.headers.current_index]
        exhausted = Finding(RuleCode.HEADER_SEQUENCE_EXHAUSTED, "headers", where, str(header.sequence_number))
        raise refusal(exhausted, store.name)
    tracked = side_files(store)
    if tracked and not ignore_change_tracking:
        raise ImageStateError(
            f"{store.name}: Hyper-V tracks the changes of this image ({tracked[0]}); writing to it would make"
            " the next incremental backup wrong; --ignore-change-tracking writes all the same"
        )

    def judge(finding: Finding) -> None:
        if finding.severity is Severity.ERROR:
            raise refusal(finding, store.name)
        report.note(finding)

    summary = judge_table(bat, opened.block_rules, judge)
    _check_growth(opened, summary, store)
    return summary


def _check_growth(opened: Opened, summary: TableSummary, store: ByteStore) -> None:
    if opened.replay is None:
        return
    structures_end = opened.block_rules.structures_end
    ceiling = max(store.size(), summary.blocks_end, structures_end) + GROWTH_CEILING
    if opened.replay.file_size > ceiling:
        found, expected = f"a size of {opened.replay.file_size:#x}", f"<= {ceiling:#x}"
        log_offset = opened.headers.current.log_offset
        finding = Finding(RuleCode.LOG_GROWTH_LIMIT, "log", log_offset, found, expected)
        raise refusal(finding, store.name)
