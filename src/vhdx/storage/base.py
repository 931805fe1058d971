"""Where an image's bytes live: the one protocol that every reader and writer in the project uses.

A store is a flat run of bytes with a length. It knows nothing of VHDX. Everything that one operating
system lacks (positional reads, hole seeking, O_NOATIME, hole punching, durable flushes) is dealt with in
the stores, chosen once at import, so that no caller asks which system it is on.

Contracts that every store keeps:

* Offsets are absolute file offsets in bytes. Calls may come from several threads at once.
* `pread_into` fills the whole buffer or as much as lies before the end of the store, loops over short
  transfers, and returns the count. It never returns short for another reason.
* Bytes past the end that are brought into being by `pwrite` or `truncate` read as zeroes.
* `flush` returns only when everything whose call had returned before it began is on stable storage.
* A failed call raises OSError (a closed store: ValueError), and leaves the store usable.
"""

import errno
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from typing import NamedTuple, Protocol, cast

from vhdx._buffer import Buffer


class StoreKind(Enum):
    """What stands behind a range of a store."""

    DATA = "data"
    """Bytes of the operating system's file, at the same offset: `fileno()` may be used on them."""
    HOLE = "hole"
    """Not allocated on the host, or past the end: reads as zeroes without being read."""
    OVERLAY = "overlay"
    """Held elsewhere (in memory): only `pread_into` gives the right bytes."""


class StoreExtent(NamedTuple):
    """A range of a store, all of one kind. Offset and length in bytes."""

    file_offset: int
    length: int
    kind: StoreKind


class ByteStore(Protocol):
    """A file, a piece of memory, or a view of either. See the module's contract."""

    name: str
    """What to call it in a message: usually a path."""

    def size(self) -> int:
        """Length in bytes, now."""
        ...

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        """Read at `file_offset` into a writable C-contiguous buffer; return how many bytes were there."""
        ...

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        """Write all of `data` at `file_offset`, extending the store if needed."""
        ...

    def truncate(self, size: int) -> None:
        """Set the length in bytes, up or down."""
        ...

    def write_zeroes(self, length: int, file_offset: int) -> None:
        """Make a range read as zeroes, giving its host space back where that is possible."""
        ...

    def flush(self) -> None:
        """Make everything written so far durable."""
        ...

    def extents(self, file_offset: int, length: int) -> Iterator[StoreExtent]:
        """Split a range by what stands behind it; adjacent extents may be of one kind."""
        ...

    def fileno(self) -> int | None:
        """Descriptor for sendfile, copy_file_range and the like; None where there is none."""
        ...

    def close(self) -> None:
        """Give up the store's resources; calling it twice does nothing."""
        ...


def pread(store: ByteStore, length: int, file_offset: int) -> bytes:
    """Read up to `length` bytes; shorter only at the end of the store."""
    buffer = bytearray(length)
    count = store.pread_into(buffer, file_offset)
    return bytes(buffer) if count == length else bytes(memoryview(buffer)[:count])


class Readable(Protocol):
    """What is read like a store."""

    name: str

    def pread_into(self, buffer: Buffer, file_offset: int, /) -> int:
        """As `ByteStore.pread_into`."""
        ...


def read_fully(store: Readable, view: memoryview, file_offset: int) -> None:
    """Fill a view of bytes. Raises: OSError, also (EIO) if the store ends before the view is full."""
    if store.pread_into(view, file_offset) != len(view):
        raise shrunk(store.name)


def shrunk(name: str) -> OSError:
    """The error of a file that ends before bytes that it had when it was opened."""
    return OSError(errno.EIO, "the file has become shorter while it was open", name)


def both_ends(store: ByteStore, length: int) -> tuple[bytes, bytes]:
    """Read the first and the last `length` bytes; they overlap in a short store. Raises: OSError."""
    return pread(store, length, 0), pread(store, length, max(store.size() - length, 0))


def reader_of(store: ByteStore) -> Callable[[int, int], bytes]:
    """The quickest way to read `bytes` from a store: (length, file offset) to what is there, as `pread`.

    A store may offer a method `pread` of its own where that saves a copy.
    """
    own: Callable[[int, int], bytes] | None = getattr(store, "pread", None)
    return partial(pread, store) if own is None else own


class View(Protocol):
    """Of a store that shows another one, `base`, with changes."""

    base: ByteStore

    def is_plain(self, file_offset: int, length: int, /) -> bool:
        """Whether a range stands in `base` just as the view shows it. Raises: OSError, ValueError."""
        ...


def base_of(store: ByteStore) -> ByteStore:
    """The store that a view shows; every other store itself."""
    return cast("View", store).base if hasattr(store, "is_plain") else store


def plain_store(store: ByteStore, file_offset: int, length: int) -> ByteStore | None:
    """The store whose descriptor, if it has one, gives the bytes of a range as `store` shows them.

    None if `pread_into` alone gives them. Raises: OSError, ValueError.
    """
    if not hasattr(store, "is_plain"):
        return store
    view = cast("View", store)
    return view.base if view.is_plain(file_offset, length) else None


def read_ahead(store: ByteStore, length: int, file_offset: int) -> None:
    """Say that a range will be read soon: a hint, for stores that have a method `read_ahead` of their own."""
    own: Callable[[int, int], None] | None = getattr(store, "read_ahead", None)
    if own is not None:
        own(length, file_offset)


def pread_zero_extended(store: ByteStore, length: int, file_offset: int) -> bytes:
    """Read `length` bytes, with zeroes for what lies past the end of the store."""
    buffer = bytearray(length)
    store.pread_into(buffer, file_offset)
    return bytes(buffer)
