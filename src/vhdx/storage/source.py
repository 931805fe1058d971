"""The one way from whatever names a file to a store: a path, a binary file object, or a store itself."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from vhdx.storage import fileobj
from vhdx.storage.base import ByteStore
from vhdx.storage.file import FileStore

if TYPE_CHECKING:
    from collections.abc import Iterator

Source = str | os.PathLike[str] | IO[bytes] | ByteStore
"""What a disk can be opened from. A store stays the caller's: it is not closed with the disk."""


class Owned(NamedTuple):
    """A store that goes over to what is opened from it: it is closed with the disk, or when opening fails."""

    store: ByteStore


def open_store(
    source: Source | Owned, *, writable: bool = False, lock: bool = True, no_lock_ok: bool = False
) -> tuple[ByteStore, bool]:
    """Make a store of a source; tell whether whoever asked for it has to close it.

    `lock=False` takes no lock and minds nobody's; `no_lock_ok` writes where the file system has no locks.
    A store is taken as it is. Raises: ImageLockedError, OSError; TypeError for anything else.
    """
    if isinstance(source, str | os.PathLike):
        return FileStore.open(source, writable=writable, lock=lock, no_lock_ok=no_lock_ok), True
    if isinstance(source, Owned):
        return source.store, True
    if hasattr(source, "pread_into") and callable(getattr(source, "size", None)):
        return cast("ByteStore", source), False
    if not (hasattr(source, "read") and hasattr(source, "seek")):
        raise TypeError(_what_to_give(source))
    return fileobj.store_of(cast("IO[bytes]", source), lock=lock, no_lock_ok=no_lock_ok), True


@contextmanager
def reading(source: Source, *, lock: bool = True) -> Iterator[ByteStore]:
    """Use a source for reading while the context lasts. Raises: as `open_store`."""
    store, is_ours = open_store(source, lock=lock)
    try:
        yield store
    finally:
        if is_ours:
            store.close()


def _what_to_give(source: object) -> str:
    found = f"a path, a binary file object or a store is needed, not {type(source).__name__}"
    if isinstance(source, bytes | bytearray | memoryview):
        return f"{found}: io.BytesIO makes a file object of an image's bytes, os.fsdecode a path of a file's name"
    if hasattr(source, "pread"):
        return f"{found}: give what the disk was opened from"
    return found
