"""Where a new disk is written: a new file, an existing block device, or the caller's store."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vhdx.errors import RequestError
from vhdx.storage import descriptor
from vhdx.storage.base import ByteStore, identity_of, is_block_device
from vhdx.storage.file import FileStore
from vhdx.storage.new_file import NewFile

StorePath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class Destination(NamedTuple):
    """A store to fill. `capacity` is its fixed length in bytes, or None if it is empty and grows."""

    store: ByteStore
    capacity: int | None


@contextmanager
def open_destination(target: StorePath | ByteStore, *, overwrite: bool) -> Iterator[Destination]:
    """Open what is to be written; a new file appears under its name only if the block ends well.

    A store is the caller's: it is neither closed nor cleaned up. `overwrite` is needed for a file that
    exists, a store that is not empty, and a block device.

    Raises: FileExistsError, RequestError, ImageLockedError, OSError.
    """
    if not isinstance(target, str | bytes | os.PathLike):
        yield _use_store(target, overwrite=overwrite)
    elif _is_block_device(target):
        _check_overwrite(os.fsdecode(target), overwrite=overwrite)
        with FileStore.open(target, writable=True, no_lock_ok=True) as store:
            yield Destination(store, store.size())
    else:
        with NewFile(target, overwrite=overwrite) as new:
            yield Destination(new.store, None)


def _use_store(store: ByteStore, *, overwrite: bool) -> Destination:
    size = store.size()
    if size:
        _check_overwrite(store.name, overwrite=overwrite)
    if is_block_device(store):
        return Destination(store, size)
    if size:
        store.truncate(0)
    return Destination(store, None)


def _check_overwrite(name: str, *, overwrite: bool) -> None:
    if not overwrite:
        raise RequestError(f"{name}: holds something; its content is replaced only with --force (overwrite)")


def _status(path: StorePath) -> os.stat_result | None:
    try:
        return Path(os.fsdecode(path)).stat()
    except OSError:
        return None


def _is_block_device(path: StorePath) -> bool:
    status = _status(path)
    return status is not None and stat.S_ISBLK(status.st_mode)


def _identity(target: StorePath | ByteStore) -> tuple[int, int] | None:
    """`FileFacts.identity` of a store, or of the store that a path would be opened as."""
    if not isinstance(target, str | bytes | os.PathLike):
        return identity_of(target)
    status = _status(target)
    return None if status is None else descriptor.identity_of(status)


def refuse_same_file(target: StorePath | ByteStore, sources: Iterable[ByteStore]) -> None:
    """Refuse a destination that is one of the files read, by whatever name.

    Raises: RequestError.
    """
    identity = _identity(target)
    for source in sources:
        if source is target or (identity is not None and _identity(source) == identity):
            raise RequestError(f"{source.name}: is read from, so it cannot be written to as well")
