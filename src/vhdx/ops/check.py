"""Check one file: every rule of opening, every BAT entry, every overlap. Nothing is written, ever.

Findings come as they are found. The memory needed does not depend on the image, but for one bit for each MiB
of its file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vhdx._units import MIB
from vhdx.disks.image import Source, open_store
from vhdx.engine.bat_table import BatTable
from vhdx.engine.opening import Opened, open_image
from vhdx.engine.page_cache import PageCache
from vhdx.engine.scan.bitmaps import scan_bitmaps
from vhdx.engine.scan.large_table import BlockScan
from vhdx.engine.side_files import side_files
from vhdx.errors import FormatError, NotVhdxError, UnsupportedFeatureError
from vhdx.findings import Finding
from vhdx.format.bat import PayloadState
from vhdx.format.constants import BAT_ENTRY_SIZE, HEADER_SECTION_SIZE
from vhdx.report import Report
from vhdx.rules import RuleCode, Severity
from vhdx.storage.base import ByteStore, StoreKind, pread_zero_extended

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LISTED: Final = 64
"""Findings of one rule that are listed; the others are counted."""

_PIECE_SIZE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """What a check found, in figures. Sizes in bytes. Zero where the file could not be read that far."""

    counts: dict[RuleCode, int]
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
    """One check. Iterate over `findings()` to the end; then `summary` tells the figures."""

    def __init__(
        self,
        source: Source,
        *,
        lock: bool = True,
        strict: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """`progress(done, total)` is called now and then, in bytes of the table.

        `strict` stops where a strict open would. `lock=False` reads in spite of another process's lock.
        """
        self._source = source
        self._lock = lock
        self._strict = strict
        self._progress = progress
        self._counts: Counter[RuleCode] = Counter()
        self.summary = CheckSummary(self._counts)

    def findings(self) -> Iterator[Finding]:
        """Check everything, listing at most MAX_LISTED findings of one rule.

        Raises: NotVhdxError, UnsupportedFeatureError (the file cannot be judged), ImageLockedError, OSError.
        """
        for finding in self._all_findings():
            self._counts[finding.code] += 1
            if self._counts[finding.code] <= MAX_LISTED:
                yield finding

    def _all_findings(self) -> Iterator[Finding]:
        store, owned = open_store(self._source, lock=self._lock)
        try:
            yield from self._store_findings(store)
            yield from _side_file_findings(store)
        finally:
            if owned:
                store.close()

    def _store_findings(self, store: ByteStore) -> Iterator[Finding]:
        report = Report(store.name, self._strict, limit=MAX_LISTED + 1)
        file_size = store.size()
        self.summary = CheckSummary(self._counts, file_size)
        try:
            opened = open_image(store, report)
        except (NotVhdxError, UnsupportedFeatureError):
            raise
        except FormatError as error:
            yield from report.findings
            yield error.finding
            return
        yield from report.findings
        if file_size % MIB:
            yield Finding(RuleCode.FILE_SIZE_ALIGNMENT, "file", None, f"{file_size} bytes")
        yield from self._block_findings(opened)

    def _block_findings(self, opened: Opened) -> Iterator[Finding]:
        bat = BatTable(PageCache(opened.store), opened.regions.bat, opened.geometry)
        scan = BlockScan(bat, opened.block_rules, self._progress)
        yield from scan.findings()
        self._counts.update(scan.unlisted)
        yield from scan_bitmaps(bat, opened.block_rules)
        yield from _padding_findings(opened)
        states = bat.count_states()
        allocated = states[PayloadState.FULLY_PRESENT] + states[PayloadState.PARTIALLY_PRESENT]
        parameters = opened.parameters
        is_fixed = parameters.leave_block_allocated and not parameters.has_parent
        if is_fixed and allocated < opened.geometry.block_count:
            missing = opened.geometry.block_count - allocated
            yield Finding(
                RuleCode.FIXED_NOT_ALLOCATED, "BAT", opened.regions.bat.file_offset, f"{missing} without"
            )
        self.summary = CheckSummary(
            self._counts,
            opened.file_size,
            parameters.virtual_size,
            opened.geometry.block_count,
            allocated,
            _unused_bytes(opened, scan.space.blocks),
        )


def _unused_bytes(opened: Opened, block_bytes: int) -> int:
    rules = opened.block_rules
    spans = zip(rules.structure_starts, rules.structure_ends, strict=True)
    inside = sum(min(end, opened.file_size) - start for start, end in spans if start < opened.file_size)
    return max(0, opened.file_size - HEADER_SECTION_SIZE - inside - block_bytes)


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


def _side_file_findings(store: ByteStore) -> Iterator[Finding]:
    for side_file in side_files(store):
        yield Finding(RuleCode.CHANGE_TRACKING, "side file", None, f"{str(side_file)!a}")


def check_image(
    source: Source,
    *,
    lock: bool = True,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> CheckRun:
    """Prepare a check of one file; see `CheckRun`."""
    return CheckRun(source, lock=lock, strict=strict, progress=progress)
