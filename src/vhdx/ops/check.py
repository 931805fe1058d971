"""Check one file: every rule of opening, every BAT entry, every overlap. Nothing is written, ever.

Findings come as they are found. The memory needed does not depend on the image, but for one bit for each MiB
of its file.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from vhdx._units import MIB
from vhdx.engine.bat_table import BatTable
from vhdx.engine.opening import Opened, open_image
from vhdx.engine.page_cache import PageCache
from vhdx.engine.scan.bitmaps import scan_bitmaps
from vhdx.engine.scan.table import scan_table
from vhdx.engine.side_files import side_file_findings
from vhdx.errors import CorruptImageError, ImageStateError
from vhdx.findings import Finding
from vhdx.format.bat import PayloadState
from vhdx.format.constants import BAT_ENTRY_SIZE, HEADER_SECTION_SIZE
from vhdx.report import Report
from vhdx.rules import RuleCode, Severity
from vhdx.storage.base import ByteStore, StoreKind, pread_zero_extended
from vhdx.storage.source import Source, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

MAX_LISTED: Final = 64
"""Findings of one rule that are listed; the others are counted."""

_PIECE_SIZE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """What a check found, in figures. Sizes in bytes. Zero where the file could not be read that far."""

    counts: Counter[RuleCode]
    """How often each rule was broken, unlisted breaches included."""
    file_size: int = 0
    """After replay of the log, if it is dirty."""
    virtual_size: int = 0
    block_count: int = 0
    allocated_blocks: int = 0
    unused_bytes: int = 0
    """File space that belongs to nothing: figure, not finding."""

    def count(self, severity: Severity) -> int:
        """Breaches of one severity."""
        return sum(number for code, number in self.counts.items() if code.severity is severity)

    @property
    def worst(self) -> Severity | None:
        """The gravest severity met; None for a file without any finding."""
        return next((severity for severity in Severity if self.count(severity)), None)


class CheckRun:
    """One check of one file: iterate over `findings()` to the end; then `summary` tells the figures."""

    def __init__(self, check: Generator[Finding, None, CheckSummary]) -> None:
        """Use `check`."""
        self._summary: CheckSummary | None = None
        self._findings = self._keep_summary(check)

    def _keep_summary(self, check: Generator[Finding, None, CheckSummary]) -> Iterator[Finding]:
        self._summary = yield from check

    def findings(self) -> Iterator[Finding]:
        """What is wrong, as it is found: at most MAX_LISTED findings of one rule. The file is checked once.

        Raises: NotVhdxError, UnsupportedFeatureError (the file cannot be judged), ImageLockedError, OSError.
        """
        return self._findings

    @property
    def summary(self) -> CheckSummary:
        """The figures. Raises: ImageStateError while the check has not come to its end."""
        if self._summary is None:
            raise ImageStateError("a check has no summary before its findings have been iterated to the end")
        return self._summary


def check(
    source: Source,
    *,
    lock: bool = True,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> CheckRun:
    """Check one file; the work is done while the findings are iterated.

    `progress(done, total)` is called now and then, in chunks of the table. `strict` stops where a strict open
    would. `lock=False` reads in spite of another process's lock.
    """
    return CheckRun(_check(source, lock=lock, strict=strict, progress=progress))


def _check(
    source: Source, *, lock: bool, strict: bool, progress: Callable[[int, int], None] | None
) -> Generator[Finding, None, CheckSummary]:
    """List the findings of a file, and count those that are not listed, too."""
    counts: Counter[RuleCode] = Counter()
    with reading(source, lock=lock) as store:
        summary = yield from _listed(_store_findings(store, strict, progress), counts)
    return replace(summary, counts=counts + summary.counts)


def _listed(
    findings: Generator[Finding, None, CheckSummary], counts: Counter[RuleCode]
) -> Generator[Finding, None, CheckSummary]:
    """Pass on MAX_LISTED findings of each rule, and count all of them."""
    while True:
        try:
            finding = next(findings)
        except StopIteration as end:
            summary: CheckSummary = end.value
            return summary
        counts[finding.code] += 1
        if counts[finding.code] <= MAX_LISTED:
            yield finding


def _store_findings(
    store: ByteStore, strict: bool, progress: Callable[[int, int], None] | None
) -> Generator[Finding, None, CheckSummary]:
    """Everything that is wrong; the summary counts only what no finding was made of."""
    report = Report(store.name, strict, limit=MAX_LISTED + 1)
    file_size = store.size()
    try:
        opened = open_image(store, report)
    except CorruptImageError as error:
        yield from report.findings
        yield error.finding
        summary = CheckSummary(Counter(), file_size)
    else:
        yield from report.findings
        if file_size % MIB:
            yield Finding(RuleCode.FILE_SIZE_ALIGNMENT, "file", None, f"{file_size} bytes")
        summary = yield from _block_findings(opened, progress)
    yield from side_file_findings(store)
    return summary


def _block_findings(
    opened: Opened, progress: Callable[[int, int], None] | None
) -> Generator[Finding, None, CheckSummary]:
    bat = BatTable(PageCache(opened.store), opened.regions.bat, opened.geometry)
    table = yield from scan_table(bat, opened.block_rules, progress)
    yield from scan_bitmaps(bat, opened.block_rules)
    yield from _padding_findings(opened)
    states = bat.count_states()
    allocated = states[PayloadState.FULLY_PRESENT] + states[PayloadState.PARTIALLY_PRESENT]
    parameters = opened.parameters
    if parameters.keeps_space and allocated < opened.geometry.block_count:
        missing = opened.geometry.block_count - allocated
        yield Finding(
            RuleCode.FIXED_NOT_ALLOCATED, "BAT", opened.regions.bat.file_offset, f"{missing} without"
        )
    return CheckSummary(
        counts=table.unlisted,
        file_size=opened.file_size,
        virtual_size=parameters.virtual_size,
        block_count=opened.geometry.block_count,
        allocated_blocks=allocated,
        unused_bytes=_unused_bytes(opened, table.owned),
    )


def _unused_bytes(opened: Opened, block_bytes: int) -> int:
    rules = opened.block_rules
    file_size = opened.file_size
    structures = sum(min(end, file_size) - start for start, end in rules.structures if start < file_size)
    return max(0, file_size - HEADER_SECTION_SIZE - structures - block_bytes)


def _padding_findings(opened: Opened) -> Iterator[Finding]:
    """Look at what the BAT region holds after the last entry that is needed."""
    region, store = opened.regions.bat, opened.store
    start = region.file_offset + opened.geometry.entry_count * BAT_ENTRY_SIZE
    for extent in store.extents(start, region.end - start):
        if extent.kind is StoreKind.HOLE:
            continue
        for at in range(extent.file_offset, extent.file_offset + extent.length, _PIECE_SIZE):
            piece = pread_zero_extended(store, min(_PIECE_SIZE, extent.file_offset + extent.length - at), at)
            if piece.count(0) != len(piece):
                yield Finding(
                    RuleCode.BAT_TRAILING_ENTRIES, "BAT region", at, "non-zero bytes after the last entry"
                )
                return
