"""What a scan of the whole block table says of the file: which part of it nobody owns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from vhdx.engine.interval_set import IntervalSet


class FileSpace(NamedTuple):
    """Who owns the space of a file. File offsets in bytes."""

    free: IntervalSet
    """Owned neither by a block nor by a structure, below `blocks_end`."""
    blocks_end: int
    """Just past the last block or sector bitmap; 0 if there is none."""
