"""What a range of a block device holds, as far as it can be told without reading it."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Extent(NamedTuple):
    """A range of a device that is alike throughout. Offsets and lengths in bytes.

    `zero` and `hole` are independent: zeroes may be allocated, and a hole of unknown content exists where a
    parent is missing (`present` and `zero` both false: reading it is an error).
    """

    offset: int
    """Virtual offset."""
    length: int
    zero: bool
    """Known to read as zeroes."""
    hole: bool
    """Owns no file space in the file that decides what is read."""
    present: bool
    """Some file of the chain decides; false at the chain's end, and below a missing parent."""
    depth: int
    """Which file decides, 0 = the leaf."""
    file_offset: int | None
    """Where the data lies in that file; None where there is no data, or not as one plain range."""

    @property
    def data(self) -> bool:
        """Has content of its own that must be read."""
        return not self.zero and not self.hole

    @property
    def unreadable(self) -> bool:
        """Lies in a parent that is not there."""
        return self.hole and not self.zero

    @property
    def end(self) -> int:
        """Virtual offset just past the range."""
        return self.offset + self.length


def _continues(a: Extent, b: Extent) -> bool:
    if a.end != b.offset or a[2:6] != b[2:6]:
        return False
    if a.file_offset is None or b.file_offset is None:
        return a.file_offset is b.file_offset
    return a.file_offset + a.length == b.file_offset


def coalesce(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Join neighbours that are alike and, for data, contiguous in the file; empty extents vanish."""
    pending: Extent | None = None
    for extent in extents:
        if not extent.length:
            continue
        if pending is None:
            pending = extent
        elif _continues(pending, extent):
            pending = pending._replace(length=pending.length + extent.length)
        else:
            yield pending
            pending = extent
    if pending is not None:
        yield pending
