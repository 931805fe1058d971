"""Where an image's bytes live: what every store does, and what a store may offer beside.

A store is a flat run of bytes with a length. It knows nothing of VHDX. What one operating system lacks
(positional reads, hole seeking, O_NOATIME, hole punching, durable flushes) is dealt with inside the stores, so
that no caller asks which system it runs on.

`ByteStore` is what every store does. Its contract:

* Offsets are absolute file offsets in bytes. Calls may come from several threads at once.
* `pread_into` fills the whole buffer, or as much as lies before the end of the store, and returns the count. A
  transfer that the system cuts short is continued, so a count that is too small always means the end of the store.
* Bytes past the end that are brought into being by `pwrite` or `truncate` read as zeroes.
* `flush` returns only when everything whose call had returned before it began is on stable storage.
* A failed call raises OSError (a closed store: ValueError), and leaves the store usable.

A store that can do more says so by having the members of one of the optional protocols: `QuickReads`, `ReadAhead`,
`WriteBehind`, `SpaceControl`, `View`, or single attributes of `FileFacts`. Callers do not look for these members:
they use the functions at the end of this file, which also answer for a store that has none of them.
"""

import errno
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from typing import Final, NamedTuple, Protocol, cast

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


# -- what a store may offer ------------------------------------------------------------------------------------


class QuickReads(Protocol):
    """Of a store that can read into an object of its own making faster than into a buffer."""

    def pread(self, length: int, file_offset: int, /) -> bytes:
        """Read up to `length` bytes; shorter only at the end of the store. Raises: OSError, ValueError."""
        ...


class ReadAhead(Protocol):
    """Of a store that can begin to fetch what will be read."""

    def read_ahead(self, length: int, file_offset: int, /) -> None:
        """Begin to bring a range into memory, as much of it as is cheap, and wait for nothing.

        Raises: ValueError if the store is closed; an error of the system is no error of a hint.
        """
        ...


class WriteBehind(Protocol):
    """Of a store that is a file, and can be asked to begin writing to its device before a flush."""

    def write_behind(self, length: int, file_offset: int, /) -> None:
        """Begin to bring a range that was written by other means than `pwrite` onto the device.

        A flush then finds less to wait for; only the flush makes the range durable. Raises: OSError.
        """
        ...


class SpaceControl(Protocol):
    """Of a store whose host can be asked to take space for a range, or to take it back.

    A store offers all five members or none. A range that is given to them lies inside the store, except for
    `reserve`.
    """

    @property
    def can_punch(self) -> bool:
        """Whether `punch_hole` has a way. What the file system lacks may show only when it is asked once."""
        ...

    @property
    def can_zero_unwritten(self) -> bool:
        """Whether `zero_unwritten` has a way. What the file system lacks may show only when it is asked once."""
        ...

    def reserve(self, length: int, file_offset: int, /) -> bool:
        """Take host space for a range, so that a later write into it cannot fail for lack of space.

        What the range holds stays; a range past the end may make the store longer. False, with nothing changed,
        where there is no way to take the space. Raises: OSError (ENOSPC), ValueError.
        """
        ...

    def punch_hole(self, length: int, file_offset: int, /) -> None:
        """Give the host space of a range back; nothing is done where there is no way.

        The range reads as zeroes afterwards if something was done. Raises: OSError, ValueError.
        """
        ...

    def zero_unwritten(self, length: int, file_offset: int, /, *, may_punch: bool) -> bool:
        """Make a range read as zeroes without writing zeroes; false where there is no way.

        The range keeps its host space unless `may_punch`. Raises: OSError, ValueError.
        """
        ...


class FileFacts(Protocol):
    """Of a store that is a file or a device of this system. Each attribute may be offered without the others."""

    @property
    def path(self) -> str | None:
        """Where the file can be found by name; None if no name is known that holds everywhere."""
        ...

    @property
    def identity(self) -> tuple[int, int] | None:
        """What two stores have in common that are one file: device and inode, or a device's number and 0."""
        ...

    @property
    def is_block_device(self) -> bool:
        """Whether the store is a device, whose length cannot be changed."""
        ...

    @property
    def writable(self) -> bool:
        """Whether the store takes changes; if not, every change raises io.UnsupportedOperation."""
        ...

    @property
    def lock_warning(self) -> str | None:
        """A sentence for the user if the file could not be locked; None if it is, or if no lock was wanted."""
        ...


class View(Protocol):
    """Of a store that shows another one, with changes."""

    base: ByteStore

    def is_plain(self, file_offset: int, length: int, /) -> bool:
        """Whether a range stands in `base` just as the view shows it. Raises: OSError, ValueError."""
        ...


class _NoSpaceControl:
    """Answers for a store whose host cannot be asked."""

    can_punch = False
    can_zero_unwritten = False

    def reserve(self, length: int, file_offset: int, /) -> bool:  # noqa: ARG002
        return False

    def punch_hole(self, length: int, file_offset: int, /) -> None:
        pass

    def zero_unwritten(self, length: int, file_offset: int, /, *, may_punch: bool) -> bool:  # noqa: ARG002
        return False


_NO_SPACE_CONTROL: Final = _NoSpaceControl()


# -- using a store ---------------------------------------------------------------------------------------------


def pread(store: ByteStore, length: int, file_offset: int) -> bytes:
    """Read up to `length` bytes; shorter only at the end of the store."""
    buffer = bytearray(length)
    count = store.pread_into(buffer, file_offset)
    return bytes(buffer) if count == length else bytes(memoryview(buffer)[:count])


class Readable(Protocol):
    """What is read like a store."""

    @property
    def name(self) -> str | None:
        """What to call it in a message."""
        ...

    def pread_into(self, buffer: Buffer, file_offset: int, /) -> int:
        """As `ByteStore.pread_into`."""
        ...


def read_fully(store: Readable, view: memoryview, file_offset: int) -> None:
    """Fill a view of bytes. Raises: OSError, also (EIO) if the store ends before the view is full."""
    if store.pread_into(view, file_offset) != len(view):
        raise shrunk(store.name)


def shrunk(name: str | None) -> OSError:
    """The error of a file that ends before bytes that it had when it was opened."""
    return OSError(errno.EIO, "the file has become shorter while it was open", name)


def both_ends(store: ByteStore, length: int) -> tuple[bytes, bytes]:
    """Read the first and the last `length` bytes; they overlap in a short store. Raises: OSError."""
    return pread(store, length, 0), pread(store, length, max(store.size() - length, 0))


def pread_zero_extended(store: ByteStore, length: int, file_offset: int) -> bytes:
    """Read `length` bytes, with zeroes for what lies past the end of the store."""
    buffer = bytearray(length)
    store.pread_into(buffer, file_offset)
    return bytes(buffer)


def reader_of(store: ByteStore) -> Callable[[int, int], bytes]:
    """The quickest way to read `bytes` from a store: (length, file offset) to what is there, as `pread`.

    To be asked for once, and kept.
    """
    if hasattr(store, "pread"):
        return cast("QuickReads", store).pread
    return partial(pread, store)


def read_ahead(store: ByteStore, length: int, file_offset: int) -> None:
    """Say that a range will be read soon; see `ReadAhead`."""
    if hasattr(store, "read_ahead"):
        cast("ReadAhead", store).read_ahead(length, file_offset)


def write_behind(store: ByteStore, length: int, file_offset: int) -> None:
    """Say that a range was written by other means than `pwrite`; see `WriteBehind`. Raises: OSError."""
    if hasattr(store, "write_behind"):
        cast("WriteBehind", store).write_behind(length, file_offset)


def space_control(store: ByteStore) -> SpaceControl:
    """What the store offers of `SpaceControl`; of a store without it one that has no way to do anything."""
    return cast("SpaceControl", store) if hasattr(store, "punch_hole") else _NO_SPACE_CONTROL


def path_of(store: ByteStore) -> str | None:
    """`FileFacts.path`; None for a store that is no file."""
    return cast("FileFacts", store).path if hasattr(store, "path") else None


def identity_of(store: ByteStore) -> tuple[int, int] | None:
    """`FileFacts.identity`; None for a store that is no file."""
    return cast("FileFacts", store).identity if hasattr(store, "identity") else None


def is_same_file(one: ByteStore, other: ByteStore) -> bool:
    """Whether two stores are known to hold the same bytes at the same offsets, by whatever name."""
    identity = identity_of(one)
    return one is other or (identity is not None and identity == identity_of(other))


def is_block_device(store: ByteStore) -> bool:
    """`FileFacts.is_block_device`; false for a store that is no file."""
    return hasattr(store, "is_block_device") and cast("FileFacts", store).is_block_device


def is_writable(store: ByteStore) -> bool:
    """`FileFacts.writable`; true for a store that does not say."""
    return not hasattr(store, "writable") or cast("FileFacts", store).writable


def lock_warning_of(store: ByteStore) -> str | None:
    """`FileFacts.lock_warning`; None for a store that is no file."""
    return cast("FileFacts", store).lock_warning if hasattr(store, "lock_warning") else None


def base_of(store: ByteStore) -> ByteStore:
    """The store that a view shows; every other store itself."""
    return cast("View", store).base if hasattr(store, "is_plain") else store


def plain_store(store: ByteStore, file_offset: int, length: int) -> ByteStore | None:
    """The store whose descriptor, if it has one, gives the bytes of a range as `store` shows them.

    None if `pread_into` alone gives them; see `View`. Raises: OSError, ValueError.
    """
    if not hasattr(store, "is_plain"):
        return store
    view = cast("View", store)
    return view.base if view.is_plain(file_offset, length) else None
