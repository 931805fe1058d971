"""Judge every entry of a BAT: the door to the two scanners.

Most tables are small and sound. `small_table` sees that without numpy, whose import takes longer than the rest of
opening an image. Every other table goes through `large_table`, whose findings are the only ones that are reported.
Both judge by the same rules, those of a single look-up (`engine.block_rules`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdx.engine.bat_table import NUMPY_THRESHOLD_BLOCKS
from vhdx.engine.scan.small_table import summary_if_sound

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from vhdx.engine.bat_table import BatTable
    from vhdx.engine.block_rules import BlockRules
    from vhdx.engine.table_summary import TableSummary
    from vhdx.findings import Finding


def scan_table(
    bat: BatTable, rules: BlockRules, progress: Callable[[int, int], None] | None = None
) -> Generator[Finding, None, TableSummary]:
    """Yield every breach of a rule in a BAT; return what the table says of the file's space.

    `progress(done, total)` is called now and then, in chunks. Raises: OSError.
    """
    if bat.geometry.block_count < NUMPY_THRESHOLD_BLOCKS:
        summary = summary_if_sound(bat, rules)
        if summary is not None:
            return summary
    from vhdx.engine.scan.large_table import scan_large_table

    return (yield from scan_large_table(bat, rules, progress))


def judge_table(bat: BatTable, rules: BlockRules, judge: Callable[[Finding], None]) -> TableSummary:
    """Scan a BAT and give every finding to `judge`, which may raise to end the scan. Raises: OSError."""
    scan = scan_table(bat, rules)
    while True:
        try:
            finding = next(scan)
        except StopIteration as end:
            summary: TableSummary = end.value
            return summary
        judge(finding)
