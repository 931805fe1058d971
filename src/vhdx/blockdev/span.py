"""Where a range of a disk comes from, as one of its files sees it: the answer that every format gives."""

from enum import Enum
from typing import NamedTuple


class SpanKind(Enum):
    """Where a span's content comes from."""

    DATA = "this file"
    ZERO = "zeroes, says this file"
    UNALLOCATED = "zeroes, because nothing says otherwise"
    PARENT = "the parent"


class Span(NamedTuple):
    """A range whose content comes from one place. `file_offset` counts for DATA only.

    Offsets and lengths in bytes; `offset` is virtual.
    """

    kind: SpanKind
    offset: int
    length: int
    file_offset: int
