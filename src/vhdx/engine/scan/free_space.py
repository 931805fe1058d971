"""The file space that nothing owns, as both scanners report it."""

from __future__ import annotations

from heapq import merge
from typing import TYPE_CHECKING, Final

from vhdx._units import MIB, align_down, align_up
from vhdx.engine.interval_set import IntervalSet
from vhdx.format.constants import HEADER_SECTION_SIZE, MAX_BLOCK_FILE_OFFSET

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vhdx.engine.block_rules import BlockRules

MAX_FREE_RUNS: Final = 1 << 16


def free_space(blocks: Iterable[tuple[int, int]], rules: BlockRules) -> IntervalSet:
    """The MiBs of a file that neither a block nor a structure begins or ends in: at most MAX_FREE_RUNS stretches.

    `blocks` are (start, end) file offsets in ascending order of their starts; they may overlap.
    """
    file_end = align_down(min(rules.file_size, MAX_BLOCK_FILE_OFFSET), MIB)
    structures = [(align_down(start, MIB), align_up(end, MIB)) for start, end in rules.structures]
    free, position = IntervalSet(), 0
    for start, end in merge([(0, HEADER_SECTION_SIZE)], structures, blocks):
        if position < min(start, file_end):
            free.add(position, min(start, file_end))
            if len(free) >= MAX_FREE_RUNS:
                return free
        position = max(position, end)
    if position < file_end:
        free.add(position, file_end)
    return free
