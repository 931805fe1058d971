"""Where the bytes of a virtual range lie in one file: the read path's one decision, and it touches no byte.

Every state of a block has its arm here; `format.bat.CONTENT` says what each means ([MS-VHDX] 2.5.1.1).
"""

from collections.abc import Callable, Iterator
from typing import assert_never

from vhdx.blockdev.span import Span, SpanKind
from vhdx.engine.bat_table import BatTable, BlockRun
from vhdx.engine.block_rules import BlockRules
from vhdx.findings import Finding
from vhdx.format.bat import (
    CONTENT,
    MAX_ENTRY_WITHOUT_SPACE,
    ContentSource,
    PayloadState,
    entry_file_offset,
    entry_state,
    is_bitmap_present,
)
from vhdx.format.constants import BITMAP_BLOCK_SIZE
from vhdx.format.sector_bitmap import runs
from vhdx.rules import RuleCode


class ReadPlan:
    """Plans reads of one file. Every entry that a plan meets is judged by the rules of blocks."""

    def __init__(
        self,
        bat: BatTable,
        rules: BlockRules,
        read_bitmap: Callable[[int, int], bytes],
        judge: Callable[[Finding], None],
    ) -> None:
        """`read_bitmap(length, file_offset)` reads the file's metadata; `judge` raises for a finding, or keeps it."""
        self._bat = bat
        self._rules = rules
        self._read_bitmap = read_bitmap
        self._report = judge
        self._geometry = rules.geometry

    def spans(self, offset: int, length: int) -> Iterator[Span]:
        """Split a range inside the disk into spans, in order.

        Raises: CorruptImageError when a span is reached whose BAT entry breaks a rule; OSError.
        """
        if not length:
            return
        block_size = self._geometry.block_size
        end = offset + length
        first = offset // block_size
        for run in self._bat.runs(first, (end - 1) // block_size - first + 1):
            start = max(offset, run.first_block * block_size)
            stop = min(end, (run.first_block + run.length) * block_size)
            yield from self._run_spans(run, start, stop - start)

    def _run_spans(self, run: BlockRun, offset: int, length: int) -> Iterator[Span]:
        self._judge(run)
        skipped = offset - run.first_block * self._geometry.block_size
        file_offset = entry_file_offset(run.entry) + skipped
        content = CONTENT[entry_state(run.entry)]
        match content:
            case ContentSource.FILE:
                yield self._data(run.first_block, offset, length, file_offset)
            case ContentSource.BITMAP:
                yield from self._partial(run.first_block, offset, length, file_offset)
            case ContentSource.ZERO:
                yield Span(SpanKind.ZERO, offset, length, 0)
            case ContentSource.TRANSPARENT:
                kind = SpanKind.PARENT if self._geometry.has_parent else SpanKind.UNALLOCATED
                yield Span(kind, offset, length, 0)
            case ContentSource.INVALID:
                raise AssertionError("the rules of blocks refuse reserved states")
            case _:
                assert_never(content)

    def _partial(self, block: int, offset: int, length: int, file_offset: int) -> Iterator[Span]:
        if not self._geometry.has_parent:
            # Tolerated with a finding: what other readers do is to take the whole block from the file.
            yield self._data(block, offset, length, file_offset)
            return
        sector_size = self._geometry.logical_sector_size
        first_sector, last_sector = offset // sector_size, (offset + length - 1) // sector_size
        bits_file_offset, first_bit = self._bitmap_place(block, first_sector)
        sector_count = last_sector - first_sector + 1
        bits = self._read_bitmap((first_bit + sector_count + 7) // 8, bits_file_offset)
        position, end = offset, offset + length
        sector = first_sector
        for present, count in runs(bits, first_bit, sector_count):
            sector += count
            stop = min(end, sector * sector_size)
            if present:
                yield self._data(block, position, stop - position, file_offset + position - offset)
            else:
                yield Span(SpanKind.PARENT, position, stop - position, 0)
            position = stop

    def _bitmap_place(self, block: int, sector: int) -> tuple[int, int]:
        """File offset of the bitmap byte, and bit in it, of a sector of a partially present block."""
        chunk = block // self._geometry.chunk_ratio
        entry = self._bat.bitmap_entry(chunk)
        if not is_bitmap_present(entry):
            self._report(self._rules.missing_bitmap(chunk, entry, block))
        for finding in self._rules.bitmap_findings(chunk, entry):
            self._report(finding)
        byte, bit = divmod(sector % (BITMAP_BLOCK_SIZE * 8), 8)
        return entry_file_offset(entry) + byte, bit

    def _data(self, block: int, offset: int, length: int, file_offset: int) -> Span:
        if file_offset + length > self._rules.file_size:
            found = f"{file_offset:#x} to {file_offset + length:#x}"
            where = self._rules.name_of_block(block)
            expected = f"an end at or below {self._rules.file_size:#x}"
            self._report(Finding(RuleCode.BLOCK_TRUNCATED, where, file_offset, found, expected))
        return Span(SpanKind.DATA, offset, length, file_offset)

    def _judge(self, run: BlockRun) -> None:
        """Judge the entries of a run.

        A block that the end of the file cuts off is no fault here: a span that needs the missing part is refused.
        """
        if self._is_plain(run):
            return
        block_size = self._geometry.block_size
        advance = block_size if entry_state(run.entry) == PayloadState.FULLY_PRESENT else 0
        count = run.length if advance else 1
        for index in range(count):
            for finding in self._rules.payload_findings(run.first_block + index, run.entry + index * advance):
                if finding.code is not RuleCode.BLOCK_TRUNCATED:
                    self._report(finding)

    def _is_plain(self, run: BlockRun) -> bool:
        """Whether a whole run can be seen to be right at once."""
        if run.entry <= MAX_ENTRY_WITHOUT_SPACE:
            return True
        file_offset = entry_file_offset(run.entry)
        if run.entry - file_offset != PayloadState.FULLY_PRESENT:
            return False
        return self._rules.is_clear(file_offset, file_offset + run.length * self._geometry.block_size)
