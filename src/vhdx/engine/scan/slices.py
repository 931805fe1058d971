"""A block table as numpy arrays, slice by slice. Imported late, because it needs numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from vhdx.format.bat import STATE_MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vhdx.engine.bat_table import BatTable

Entries: TypeAlias = npt.NDArray[np.uint64]
Indices: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]


class Slice(NamedTuple):
    """Neighbouring chunks of the table, one row for each: its payload entries, then its sector bitmap's entry."""

    first_chunk: int
    rows: Entries

    @property
    def payload(self) -> Entries:
        """Entries of payload blocks, a row for each chunk."""
        return self.rows[:, :-1]

    @property
    def bitmaps(self) -> Entries:
        """Entries of sector bitmaps, one for each chunk."""
        return self.rows[:, -1]

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks of a chunk."""
        return len(self.rows[0]) - 1


def slices(bat: BatTable, progress: Callable[[int, int], None] | None = None) -> Iterator[Slice]:
    """Walk a table; slices of zeroes alone are left out. `progress(done, total)` counts chunks. Raises: OSError."""
    width = bat.geometry.chunk_ratio + 1
    for piece in bat.slices():
        if progress is not None:
            progress(piece.first_chunk, bat.geometry.chunk_count)
        if piece.data is None:
            continue
        entries = np.frombuffer(piece.data, "<u8")
        # The table ends with its last needed entry, which need not be the last one of its chunk.
        missing = piece.chunk_count * width - len(entries)
        if missing:
            entries = np.concatenate([entries, np.zeros(missing, "<u8")])
        yield Slice(piece.first_chunk, entries.reshape(piece.chunk_count, width))


def states(entries: Entries) -> Entries:
    """State of each entry, 0-7."""
    return entries & np.uint64(STATE_MASK)
