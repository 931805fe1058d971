"""What a whole block allocation table says of its file's space."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vhdx.engine.interval_set import IntervalSet
    from vhdx.rules import RuleCode


@dataclass(frozen=True, slots=True)
class TableSummary:
    """What a scan of a BAT returns once every entry has been judged. Sizes and offsets in bytes of the file."""

    owned: int
    """Space of payload blocks and sector bitmaps, soft anchors included; what several own counts once."""
    blocks_end: int
    """Just past the last block, even where the file ends before it; 0 if no block owns space."""
    free: IntervalSet
    """Whole MiBs that nothing owns; of very many pieces only the first ones."""
    unlisted: Counter[RuleCode] = field(default_factory=Counter)
    """Breaches that were counted but not reported, because many others are just like them."""
