"""Opening a file for writing: what must be right before it may be changed, and the parts that change it.

Everything here happens before the first byte is written: a file that is refused has not been touched.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from vhdx._units import GIB
from vhdx.engine.blocks.block_writer import BlockWriter
from vhdx.engine.blocks.requests import Writer
from vhdx.engine.blocks.tables import BlockTables
from vhdx.engine.scan.table import judge_table
from vhdx.engine.session.allocator import Allocator
from vhdx.engine.session.commit import Committer
from vhdx.engine.session.file_tail import end_of_content
from vhdx.engine.session.header_writer import HeaderWriter, has_headroom
from vhdx.engine.session.host_space import HostSpace
from vhdx.engine.session.in_flight import InFlight
from vhdx.engine.session.log_writer import LogWriter
from vhdx.engine.session.session import WriteSession
from vhdx.engine.side_files import side_files
from vhdx.errors import ImageStateError, refusal
from vhdx.findings import Finding
from vhdx.format.constants import HEADER_FILE_OFFSETS
from vhdx.rules import RuleCode, Severity
from vhdx.storage.base import is_block_device, is_writable

if TYPE_CHECKING:
    from vhdx._sync import Sync
    from vhdx.engine.bat_table import BatTable
    from vhdx.engine.opening import Opened
    from vhdx.engine.table_summary import TableSummary
    from vhdx.report import Report
    from vhdx.storage.base import ByteStore

GROWTH_CEILING: Final = GIB
"""How far past its last structure a replay may extend the file: writers extend in steps, none by more."""

_UNWRITABLE: Final = frozenset((RuleCode.LOG_BEYOND_END, RuleCode.HEADER_SEQUENCE_EXHAUSTED))
"""Rules whose breach is tolerated when reading."""


def open_for_writing(
    opened: Opened,
    bat: BatTable,
    report: Report,
    store: ByteStore,
    sync: Sync,
    *,
    ignore_change_tracking: bool,
) -> Writer:
    """Judge everything that reading leaves to the moment it is met, and make what changes the file.

    `store` is the file itself, without a replay's overlay.

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
    return _make_writer(opened, summary, store, bat, sync)


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


def _make_writer(
    opened: Opened, summary: TableSummary, store: ByteStore, bat: BatTable, sync: Sync
) -> Writer:
    pages, rules, keeps_space = bat.pages, opened.block_rules, opened.parameters.is_fixed
    in_flight = InFlight(sync, store.name)
    used_end = max(summary.blocks_end, rules.structures_end)
    file_size, kept_end = _length(opened, store, used_end)
    allocator = Allocator(store, file_size, used_end, summary.free, in_flight, sync, rules.grow, kept_end)
    headers = HeaderWriter(store, opened.headers)
    committer = Committer(store, pages, LogWriter(store, headers), allocator, sync)
    host_space = HostSpace(store)
    session = WriteSession(opened, store, pages, headers, allocator, committer, host_space, sync)
    tables = BlockTables(
        store, bat, rules, pages, allocator, committer, host_space, in_flight, keeps_space=keeps_space
    )
    blocks = BlockWriter(
        store, bat.geometry, tables, session, allocator, host_space, in_flight, keeps_space=keeps_space
    )
    return Writer(bat, tables, blocks, session, allocator, committer, in_flight, keeps_space=keeps_space)


def _length(opened: Opened, store: ByteStore, used_end: int) -> tuple[int, int]:
    """How long the file is once its log is in place, and how long it has to stay, in bytes."""
    if is_block_device(store):
        # Whatever a log says, and whatever it holds.
        return store.size(), 0
    return opened.file_size, end_of_content(opened.store, used_end, opened.file_size)
