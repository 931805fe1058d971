"""Stores over the caller's own file objects, with or without a descriptor behind them."""

import errno
import io
import os
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

from vhdx._buffer import Buffer
from vhdx._handles import Handle
from vhdx.storage import descriptor, locking, zeroes
from vhdx.storage.base import StoreExtent, StoreKind
from vhdx.storage.file import FileStore


def store_of(
    file_object: IO[bytes], *, lock: bool = True, no_lock_ok: bool = False
) -> "FileStore | FileObjectStore":
    """Make a store of the caller's binary file object, which stays open when the store is closed.

    An object that stands directly on a descriptor gives a FileStore on a duplicate of it, any other object a
    FileObjectStore. The object's position is not kept, and it must not be used while the store is open.

    Raises: ImageLockedError, OSError (io.UnsupportedOperation for an object that can only be written or
    only appended to), TypeError for a text file.
    """
    _check_binary(file_object)
    fd = _descriptor_of(file_object)
    if fd is None:
        return FileObjectStore(file_object)
    _check_modes(fd, file_object)
    name, writable = _name_of(file_object), _is_writable(file_object)
    if writable:
        file_object.flush()
    # A duplicate, because the caller may close the object, and another file then get its number.
    fd = os.dup(fd)
    try:
        descriptor.check_kind(os.fstat(fd), name)
        held = None
        if lock:
            held = locking.lock_file(fd, name, writable=writable, no_lock_ok=no_lock_ok)
        return FileStore(fd, name=name, path=_path_of(file_object), writable=writable, lock=held)
    except BaseException:
        os.close(fd)
        raise


def _descriptor_of(file_object: IO[bytes]) -> int | None:
    """Descriptor whose bytes are the object's own, or None.

    `fileno()` alone does not tell: a GzipFile has the compressed file's.
    """
    inner: Any = file_object
    if not isinstance(inner, io.IOBase):
        inner = getattr(inner, "file", inner)  # tempfile's wrapper
    if isinstance(inner, io.BufferedReader | io.BufferedWriter | io.BufferedRandom):
        inner = inner.raw
    return inner.fileno() if isinstance(inner, io.FileIO) else None


def _check_binary(file_object: object) -> None:
    if isinstance(file_object, io.TextIOBase):
        raise TypeError("a binary file object is needed, not a text file")


def _path_of(file_object: IO[bytes]) -> str | None:
    """Path that a file object says it was opened by."""
    name = getattr(file_object, "name", None)
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else None


def _name_of(file_object: IO[bytes]) -> str:
    """What to call a file object in messages."""
    name = getattr(file_object, "name", None)
    return f"descriptor {name}" if isinstance(name, int) else _path_of(file_object) or "file object"


def _is_writable(file_object: IO[bytes]) -> bool:
    """Whether the object takes writes."""
    writable = getattr(file_object, "writable", None)
    return bool(writable()) if callable(writable) else False


def _check_modes(fd: int, file_object: IO[bytes]) -> None:
    """Refuse an object that is open for writing or for appending alone. Raises: io.UnsupportedOperation."""
    name = _name_of(file_object)
    if not file_object.readable():
        raise io.UnsupportedOperation(f"{name}: must be open for reading as well as for writing")
    if sys.platform != "win32":
        import fcntl

        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:  # Linux then appends, whatever the offset says
            raise io.UnsupportedOperation(f"{name}: must not be open for appending")


class FileObjectStore(Handle):
    """A store over any seekable binary file object, one call at a time.

    Nothing else may use the object while the store is open. It stays open when the store is closed.
    """

    def __init__(self, file_object: IO[bytes]) -> None:
        self.name = _name_of(file_object)
        self.writable = _is_writable(file_object)
        self._object: IO[bytes] | None = file_object
        self._lock = threading.Lock()

    def _open_object(self, *, for_writing: bool = False) -> IO[bytes]:
        if self._object is None:
            raise ValueError(f"{self.name}: the store is closed")
        if for_writing and not self.writable:
            raise io.UnsupportedOperation(f"{self.name}: not open for writing")
        return self._object

    def _check_offset(self, file_offset: int) -> None:
        if file_offset < 0:  # some objects would count from their end
            raise OSError(errno.EINVAL, "negative offset", self.name)

    def size(self) -> int:
        with self._lock:
            return _seek_end(self._open_object())

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        with self._lock, memoryview(buffer) as whole, whole.cast("B") as view:
            source = self._open_object()
            self._check_offset(file_offset)
            if file_offset >= _seek_end(source):
                return 0
            source.seek(file_offset)
            done = 0
            while done < len(view):
                count = _read_some(source, view, done)
                if not count:
                    break
                done += count
            return done

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        with self._lock, memoryview(data) as whole, whole.cast("B") as view:
            self._write(view, file_offset)

    def _write(self, view: memoryview, file_offset: int) -> None:
        target = self._open_object(for_writing=True)
        if not view:
            return
        self._check_offset(file_offset)
        target.seek(file_offset)
        done = 0
        while done < len(view):
            done += target.write(view[done:]) or 0

    def truncate(self, size: int) -> None:
        with self._lock:
            target = self._open_object(for_writing=True)
            self._check_offset(size)
            target.truncate(size)
            if _seek_end(target) < size:  # io.BytesIO only shrinks
                self._write(memoryview(b"\0"), size - 1)

    def write_zeroes(self, length: int, file_offset: int) -> None:
        with self._lock:
            self._open_object(for_writing=True)
            self._check_offset(file_offset)
            zeroes.write_zeroes(self._write, length, file_offset)

    def flush(self) -> None:
        """Flush the object; whether that makes anything durable is up to the object."""
        with self._lock:
            self._open_object().flush()

    def extents(self, file_offset: int, length: int) -> Iterator[StoreExtent]:
        """As every store: all of the file object is data."""
        inside = max(0, min(length, self.size() - file_offset))
        if inside:
            yield StoreExtent(file_offset, inside, StoreKind.DATA)
        if length > inside:
            yield StoreExtent(file_offset + inside, length - inside, StoreKind.HOLE)

    def fileno(self) -> int | None:
        return None

    def close(self) -> None:
        """Let go of the object, which stays open."""
        with self._lock:
            self._object = None


def _seek_end(file_object: IO[bytes]) -> int:
    """Go to the end of an object, and tell where that is."""
    # `seek` of an mmap returns None before Python 3.13.
    position: int | None = file_object.seek(0, os.SEEK_END)
    return file_object.tell() if position is None else position


def _read_some(source: Any, view: memoryview, start: int) -> int:
    readinto = getattr(source, "readinto", None)
    with view[start:] as rest:
        if readinto is not None:
            count = readinto(rest)
        else:
            data = source.read(len(rest))
            count = None if data is None else len(data)
            if count:
                rest[:count] = data
    if count is None:
        raise BlockingIOError("a file object that does not wait for its data cannot be used")
    return int(count)
