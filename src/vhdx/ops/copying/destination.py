"""Where a new disk is written: a new file, an existing block device, or the caller's store."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vhdx.errors import RequestError
from vhdx.storage.base import ByteStore
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
    if getattr(store, "is_block_device", False):
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
    """What `FileStore.identity` is, or would be if the path were opened."""
    if not isinstance(target, str | bytes | os.PathLike):
        identity: tuple[int, int] | None = getattr(target, "identity", None)
        return identity
    status = _status(target)
    if status is None:
        return None
    return (status.st_rdev, 0) if stat.S_ISBLK(status.st_mode) else (status.st_dev, status.st_ino)


def refuse_same_file(target: StorePath | ByteStore, sources: list[ByteStore]) -> None:
    """Refuse a destination that is one of the files read, by whatever name.

    Raises: RequestError.
    """
    identity = _identity(target)
    for source in sources:
        if source is target or (identity is not None and _identity(source) == identity):
            raise RequestError(f"{source.name}: is read from, so it cannot be written to as well")
