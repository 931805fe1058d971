"""The end of a file, past its last structure: nothing but zeroes, or bytes that somebody left there.

Zeroes mean nothing: they are the growth that a killed writer left behind, or the sector that disk2vhd appends. The
next session may cut them off. Anything else stays where it is.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from vhdx.storage.base import StoreKind, pread_zero_extended

if TYPE_CHECKING:
    from vhdx.storage.base import ByteStore

_MAX_READ: Final = 1 << 20
_MAX_EXTENTS: Final = 256
_PIECE: Final = 64 << 10


def end_of_content(store: ByteStore, start: int, end: int) -> int:
    """File offset just past the last piece of [start, end) that may hold something; 0 if none does.

    Holes are not read, and of the rest at most 1 MiB is: what lies behind that counts as content. Raises: OSError.
    """
    content_end, budget, seen = 0, _MAX_READ, start
    for extent in islice(store.extents(start, max(0, end - start)), _MAX_EXTENTS):
        seen = extent.file_offset + extent.length
        if extent.kind is StoreKind.HOLE:
            continue
        if extent.length > budget:
            content_end, budget = seen, 0
            continue
        budget -= extent.length
        for at in range(extent.file_offset, seen, _PIECE):
            length = min(_PIECE, seen - at)
            if pread_zero_extended(store, length, at).count(0) != length:
                content_end = at + length
    return content_end if seen >= end else end
