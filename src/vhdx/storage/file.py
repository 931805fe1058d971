"""A store over a file or a block device: positional reads and writes on one descriptor."""

import errno
import io
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from typing import Final

from vhdx import _host
from vhdx._buffer import Buffer
from vhdx._handles import Handle, disown_in_children
from vhdx._units import MAX_FILE_OFFSET
from vhdx.storage import descriptor, durable, locking, zeroes
from vhdx.storage.base import StoreExtent, StoreKind
from vhdx.storage.hints import WRITE_BEHIND_LENGTH, FileHints
from vhdx.storage.holes import next_data
from vhdx.storage.seeking import SeekingTransfer
from vhdx.storage.zeroing import FileSpace

_HAVE_PREADV: Final = _host.HAVE_PREADV
_HAVE_PREAD: Final = _host.HAVE_PREAD


class FileStore(Handle):
    """A file or a block device, which offers every optional protocol of `base`.

    `close` must not run while another thread is inside a call: the system may have given the descriptor's
    number to another file by the time that call uses it.
    """

    def __init__(
        self,
        fd: int,
        *,
        name: str,
        path: str | None = None,
        writable: bool = False,
        lock: locking.FileLock | None = None,
    ) -> None:
        """Take over an open descriptor, which is closed with the store.

        Raises: OSError if it is neither a regular file nor a block device.
        """
        self._fd = -1
        status = os.fstat(fd)
        descriptor.check_kind(status, name)
        self.name = name
        self.path = path
        self.writable = writable
        self.is_block_device = stat.S_ISBLK(status.st_mode)
        self.identity = descriptor.identity_of(status)
        self._lock = lock
        self._space = FileSpace(fd, name, is_block_device=self.is_block_device)
        self._hints = FileHints(fd, name)
        self._seeking = None if _HAVE_PREAD else SeekingTransfer(fd, writable=writable)
        disown_in_children(self)
        self._fd = fd

    @classmethod
    def open(
        cls,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        writable: bool = False,
        lock: bool = True,
        no_lock_ok: bool = False,
        dir_fd: int | None = None,
        follow_symlinks: bool = True,
        name: str | None = None,
    ) -> "FileStore":
        """Open an existing file or block device, locked before its first byte is read.

        Reading leaves content, mtime and ctime alone, and atime where the system allows. `lock=False` takes
        no lock and minds none. `no_lock_ok` lets a file be written whose file system cannot lock. `dir_fd`
        is the directory that a relative path starts from. `name` replaces the path in messages.

        Raises: ImageLockedError; OSError, also for a directory, FIFO, socket or character device;
        io.UnsupportedOperation for `dir_fd` where the system has none (`_host.HAVE_DIR_FD`).
        """
        text = os.fsdecode(path)
        if dir_fd is not None and not _host.HAVE_DIR_FD:
            raise io.UnsupportedOperation("this system opens no files relative to a directory's descriptor")
        shown = name or text
        if sys.platform == "win32":
            fd, held = locking.open_locked(
                text, shown, writable=writable, lock=lock, follow_symlinks=follow_symlinks
            )
        else:
            fd = descriptor.open_descriptor(
                text, writable=writable, dir_fd=dir_fd, follow_symlinks=follow_symlinks
            )
            held = None
        try:
            if lock and held is None:
                held = locking.lock_file(fd, shown, writable=writable, no_lock_ok=no_lock_ok)
            known_path = text if dir_fd is None else None
            return cls(fd, name=shown, path=known_path, writable=writable, lock=held)
        except BaseException:
            os.close(fd)
            raise

    @property
    def lock_warning(self) -> str | None:
        return None if self._lock is None else self._lock.warning

    def size(self) -> int:
        if self._fd < 0:
            raise self._closed()
        if not self.is_block_device:
            return os.fstat(self._fd).st_size
        return self._seeking.size() if self._seeking else os.lseek(self._fd, 0, os.SEEK_END)

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        if not _HAVE_PREADV or file_offset < 0:  # to the system call, -1 is the current position
            return self._pread_rest(buffer, file_offset, 0)
        try:
            count = os.preadv(self._fd, (buffer,), file_offset)
        except (OSError, OverflowError) as error:
            return self._pread_rest(buffer, file_offset, 0, error)
        # The common kinds are told apart because making a memoryview takes a fifth of a small read's time.
        if count == (len(buffer) if type(buffer) is bytearray else memoryview(buffer).nbytes):
            return count
        return self._pread_rest(buffer, file_offset, count)

    def pread(self, length: int, file_offset: int) -> bytes:
        if _HAVE_PREADV and self._fd >= 0:
            try:
                data = os.pread(self._fd, length, file_offset)
            except (OSError, OverflowError):
                data = b""  # pread_into meets the same error, and reports it
            if len(data) == length:
                return data
        buffer = bytearray(length)
        count = self.pread_into(buffer, file_offset)
        return bytes(buffer[:count])

    def _pread_rest(self, buffer: Buffer, file_offset: int, done: int, error: Exception | None = None) -> int:
        """Finish a read of which `done` bytes were transferred, or whose first call raised `error`.

        Offsets past what the system takes lie past the end of every file: they are no error.
        """
        if self._fd < 0:
            raise self._closed()
        if file_offset > MAX_FILE_OFFSET:
            return 0
        self._check_range(file_offset, 0)
        with memoryview(buffer) as whole, whole.cast("B") as view:
            wanted = min(len(view), MAX_FILE_OFFSET - file_offset)
            if error is not None and wanted == len(view):
                raise self._named(error)
            while done < wanted:
                with view[done:wanted] as rest:
                    count = self._read_some(rest, file_offset + done)
                if not count:
                    break
                done += count
        return done

    def _read_some(self, view: memoryview, file_offset: int) -> int:
        try:
            if _HAVE_PREADV:
                return os.preadv(self._fd, (view,), file_offset)
            if self._seeking is not None:
                return self._seeking.read(view, file_offset)
            data = os.pread(self._fd, len(view), file_offset)
        except OSError as error:
            raise self._named(error) from None
        view[: len(data)] = data
        return len(data)

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        self._check_writable()
        with memoryview(data) as whole:
            length = whole.nbytes
            self._check_range(file_offset, length)
            # One call nearly always writes all, and takes the buffer without a cast to bytes.
            done = self._write_some(whole, file_offset) if length else 0
            if done < length:
                with whole.cast("B") as view:
                    while done < length:
                        with view[done:] as rest:
                            done += self._write_some(rest, file_offset + done)
        if length >= WRITE_BEHIND_LENGTH:
            self.write_behind(length, file_offset)

    def _write_some(self, view: memoryview, file_offset: int) -> int:
        try:
            if self._seeking is not None:
                count = self._seeking.write(view, file_offset)
            else:
                count = os.pwrite(self._fd, view, file_offset)
        except OSError as error:
            raise self._named(error) from None
        if not count:  # not known to happen; to try again might never end
            raise OSError(errno.EIO, "the system wrote nothing and gave no reason", self.name)
        return count

    def write_behind(self, length: int, file_offset: int) -> None:
        if self._fd < 0:
            raise self._closed()
        self._hints.write_behind(length, file_offset)

    def truncate(self, size: int) -> None:
        """As every store; on a block device EINVAL is raised."""
        self._check_writable()
        self._check_range(0, size)
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise self._named(error) from None

    def write_zeroes(self, length: int, file_offset: int) -> None:
        """As every store: by a hole where the file system can make one, else by writing."""
        self._check_change(length, file_offset)
        if not length:
            return
        end = file_offset + length
        inside = min(end, self.size()) - file_offset
        if inside > 0 and not self._space.zero_unwritten(inside, file_offset, may_punch=True):
            zeroes.write_zeroes(self.pwrite, inside, file_offset)
        if inside < length and self.size() < end:
            # Not by truncate, which could cut off what another thread has appended since the size was asked.
            self.pwrite(b"\0", end - 1)

    @property
    def can_punch(self) -> bool:
        return self._space.can_punch

    @property
    def can_zero_unwritten(self) -> bool:
        return self._space.can_zero_unwritten

    def reserve(self, length: int, file_offset: int) -> bool:
        self._check_change(length, file_offset)
        return self._space.reserve(length, file_offset)

    def punch_hole(self, length: int, file_offset: int) -> None:
        self._check_change(length, file_offset)
        self._space.punch_hole(length, file_offset)

    def zero_unwritten(self, length: int, file_offset: int, *, may_punch: bool) -> bool:
        self._check_change(length, file_offset)
        return self._space.zero_unwritten(length, file_offset, may_punch=may_punch)

    def read_ahead(self, length: int, file_offset: int) -> None:
        if self._fd < 0:
            raise self._closed()
        self._hints.read_ahead(length, file_offset)

    def flush(self) -> None:
        """As every store; does nothing if the store is not writable.

        After a failed flush the system may have dropped the data, and a second flush succeed: never retry.
        """
        if self._fd < 0:
            raise self._closed()
        if not self.writable:
            return
        try:
            durable.sync_data(self._fd)
        except OSError as error:
            raise self._named(error) from None

    def extents(self, file_offset: int, length: int) -> Iterator[StoreExtent]:
        if self._fd < 0:
            raise self._closed()
        return self._extents(file_offset, file_offset + length)

    def _extents(self, position: int, end: int) -> Iterator[StoreExtent]:
        file_end = min(end, self.size())
        may_seek = _host.HAVE_SEEK_HOLE and not self.is_block_device
        while position < file_end:
            data, hole = next_data(self.fileno(), position, file_end) if may_seek else (position, file_end)
            if data > position:
                yield StoreExtent(position, data - position, StoreKind.HOLE)
            if hole > data:
                yield StoreExtent(data, hole - data, StoreKind.DATA)
            position = hole
        if position < end:
            yield StoreExtent(position, end - position, StoreKind.HOLE)

    def fileno(self) -> int:
        if self._fd < 0:
            raise self._closed()
        return self._fd

    def close(self) -> None:
        """Release the locks and close the descriptor. Raises: OSError, with the store closed all the same."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            if self._lock is not None:
                self._lock.release()
        finally:
            os.close(fd)

    def disown(self) -> None:
        """Close the descriptor and nothing else: the locks are the parent process's, too."""
        fd, self._fd, self._lock = self._fd, -1, None
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> "FileStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            self._fd = -1
            os.close(fd)
            warnings.warn(
                f"{self.name}: the store was not closed", ResourceWarning, source=self, stacklevel=1
            )

    def __repr__(self) -> str:
        state = "closed" if self._fd < 0 else "writable" if self.writable else "read-only"
        return f"<FileStore {self.name!r} {state}>"

    def _named(self, error: Exception) -> Exception:
        """The same error, which then says which file it is about."""
        if isinstance(error, OSError) and error.filename is None:
            error.filename = self.name
        return error

    def _closed(self) -> ValueError:
        return ValueError(f"{self.name}: the store is closed")

    def _check_writable(self) -> None:
        if self._fd < 0:
            raise self._closed()
        if not self.writable:
            raise io.UnsupportedOperation(f"{self.name}: not open for writing")

    def _check_change(self, length: int, file_offset: int) -> None:
        self._check_writable()
        self._check_range(file_offset, length)

    def _check_range(self, file_offset: int, length: int) -> None:
        if file_offset < 0 or length < 0:
            raise OSError(errno.EINVAL, "negative offset or length", self.name)
        if file_offset + length > MAX_FILE_OFFSET:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self.name)
