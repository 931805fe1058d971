"""A store over a file or a block device: positional reads and writes on one descriptor."""

import errno
import io
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Final

from vhdx import _host
from vhdx._buffer import Buffer
from vhdx._units import MAX_FILE_OFFSET
from vhdx.storage import descriptor, durable, fileobj, libc, locking
from vhdx.storage.base import StoreExtent, StoreKind
from vhdx.storage.holes import next_data
from vhdx.storage.seeking import SeekingTransfer

_ZEROES: Final = bytes(1 << 20)
_READ_AHEAD_STEP: Final = 128 << 10
_WRITE_BEHIND_LENGTH: Final = 256 << 10
"""Writes of so many bytes and more are on their way to the device before the next flush asks for them."""
_NO_WRITE_BEHIND: Final = _host.UNSUPPORTED | {errno.EPERM, errno.EACCES}
"""A sandbox that forbids the call says so by the last two: no device does, and the data is in the file already."""
_HAVE_PREADV: Final = _host.HAVE_PREADV
_HAVE_PREAD: Final = _host.HAVE_PREAD
_PUNCH: Final = libc.FALLOC_PUNCH_HOLE | libc.FALLOC_KEEP_SIZE
_ZERO: Final = libc.FALLOC_ZERO_RANGE | libc.FALLOC_KEEP_SIZE
_ZERO_MODES: Final = (_PUNCH, _ZERO) if _host.HAVE_FALLOCATE else ()


class FileStore:
    """A file or a block device. See `ByteStore` for the contract of the methods.

    Attributes: `name` (for messages), `path` (None if it was not opened by one that holds everywhere),
    `identity` (two stores with the same one are the same file: device and inode, or a device's number),
    `writable`, `is_block_device`, `is_locked`, `lock_warning` (None, or a sentence for the user).

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
        # One device may have several names; no file has inode 0.
        self.identity: tuple[int, int] | None = (
            (getattr(status, "st_rdev", 0), 0) if self.is_block_device else (status.st_dev, status.st_ino)
        )
        self._lock = lock
        self._owned_object: IO[bytes] | None = None
        self._zero_modes: tuple[int, ...] = () if self.is_block_device else _ZERO_MODES
        self._has_write_behind = _host.HAVE_SYNC_FILE_RANGE
        self._seeking = None if _HAVE_PREAD else SeekingTransfer(fd, writable=writable)
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

    @staticmethod
    def from_fileobj(
        file_object: IO[bytes], *, lock: bool = True, no_lock_ok: bool = False, close_object: bool = False
    ) -> "FileStore | fileobj.FileObjectStore":
        """Use the caller's binary file object, which stays open unless `close_object` is true.

        An object that stands directly on a descriptor gives a FileStore on a duplicate of it, any other one
        a FileObjectStore. Its position is not kept, and it must not be used while the store is open.

        Raises: ImageLockedError, OSError (io.UnsupportedOperation for an object that can only be written or
        only appended to), TypeError for a text file.
        """
        fileobj.check_binary(file_object)
        fd = fileobj.descriptor_of(file_object)
        if fd is None:
            return fileobj.FileObjectStore(file_object, close_object=close_object)
        fileobj.check_descriptor(fd, file_object)
        name, writable = fileobj.name_of(file_object), fileobj.is_writable(file_object)
        if writable:
            file_object.flush()
        # A duplicate, because the caller may close the object, and another file then get its number.
        fd = os.dup(fd)
        try:
            descriptor.check_kind(os.fstat(fd), name)
            held = None
            if lock:
                held = locking.lock_file(fd, name, writable=writable, no_lock_ok=no_lock_ok)
            path = fileobj.path_of(file_object)
            store = FileStore(fd, name=name, path=path, writable=writable, lock=held)
        except BaseException:
            os.close(fd)
            raise
        store._owned_object = file_object if close_object else None
        return store

    @property
    def is_locked(self) -> bool:
        """Whether other programs are kept from using the file in a way that contradicts this one."""
        return self._lock is not None and self._lock.is_held

    @property
    def lock_warning(self) -> str | None:
        """Why the file could not be locked; None if it is, or if no lock was asked for."""
        return None if self._lock is None else self._lock.warning

    def size(self) -> int:
        """Length in bytes, now. Raises: OSError, ValueError."""
        if self._fd < 0:
            raise self._closed()
        if not self.is_block_device:
            return os.fstat(self._fd).st_size
        return self._seeking.size() if self._seeking else os.lseek(self._fd, 0, os.SEEK_END)

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        """Read into a buffer; return how many bytes were there. Raises: OSError, ValueError."""
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
        """Read up to `length` bytes, fewer only at the end of the file. Raises: OSError, ValueError."""
        if _HAVE_PREADV and self._fd >= 0:
            try:
                data = os.pread(self._fd, length, file_offset)
            except (OSError, OverflowError):
                data = b""  # judged below, where it happens again
            if len(data) == length:
                return data
        buffer = bytearray(length)
        count = self.pread_into(buffer, file_offset)
        return bytes(buffer[:count])

    def _pread_rest(self, buffer: Buffer, file_offset: int, done: int, error: Exception | None = None) -> int:
        """Go on after a short transfer, or judge a failed one, until the buffer is full or the file ends."""
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
        """Write all of `data`. Raises: OSError (EFBIG past what offsets can say), ValueError."""
        self._check_writable()
        with memoryview(data) as whole:
            length = whole.nbytes
            self._check_range(file_offset, length)
            # One call is nearly always all, and takes the buffer as it is.
            done = self._write_some(whole, file_offset) if length else 0
            if done < length:
                with whole.cast("B") as view:
                    while done < length:
                        with view[done:] as rest:
                            done += self._write_some(rest, file_offset + done)
        self.write_behind(length, file_offset)

    def _write_some(self, view: memoryview, file_offset: int) -> int:
        try:
            if self._seeking is not None:
                count = self._seeking.write(view, file_offset)
            else:
                count = os.pwrite(self._fd, view, file_offset)
        except OSError as error:
            raise self._named(error) from None
        if not count:  # not known to happen; going on would be an endless loop
            raise OSError(errno.EIO, "the system wrote nothing and gave no reason", self.name)
        return count

    def write_behind(self, length: int, file_offset: int) -> None:
        """Let the system begin to write a long range to the device, where it can; only a flush makes it durable.

        A flush then finds less to wait for, and memory does not fill with what is not written yet. Nothing is
        done for a short range. Raises: OSError.
        """
        if length >= _WRITE_BEHIND_LENGTH and self._has_write_behind:
            try:
                libc.start_writeback(self._fd, file_offset, length)
            except OSError as error:
                if error.errno not in _NO_WRITE_BEHIND:
                    raise self._named(error) from None
                self._has_write_behind = False

    def truncate(self, size: int) -> None:
        """Set the length in bytes. Raises: OSError (EINVAL on a block device), ValueError."""
        self._check_writable()
        self._check_range(0, size)
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise self._named(error) from None

    def write_zeroes(self, length: int, file_offset: int) -> None:
        """Punch a hole where the file system can, else write zeroes. Raises: OSError, ValueError."""
        self._check_writable()
        self._check_range(file_offset, length)
        if not length:
            return
        end = file_offset + length
        inside = min(end, self.size()) - file_offset
        if inside > 0 and not self.zero_unwritten(inside, file_offset, may_punch=True):
            with memoryview(_ZEROES) as zeroes:
                for position in range(file_offset, file_offset + inside, len(zeroes)):
                    self.pwrite(zeroes[: file_offset + inside - position], position)
        if inside < length and self.size() < end:
            # One byte, not a truncate: that could cut off what another thread has appended meanwhile.
            self.pwrite(b"\0", end - 1)

    def reserve(self, length: int, file_offset: int) -> None:
        """Take host space for a range of the file, which keeps its content, where the system has a way.

        Raises: OSError (ENOSPC), ValueError.
        """
        self._check_writable()
        self._check_range(file_offset, length)
        if _host.HAVE_FALLOCATE and not self.is_block_device:
            try:
                libc.fallocate(self._fd, 0, file_offset, length)
            except OSError as error:
                if error.errno not in _host.UNSUPPORTED:
                    raise self._named(error) from None

    @property
    def can_punch(self) -> bool:
        """Whether `punch_hole` gives host space back: what a file system lacks shows when it is first asked."""
        return _PUNCH in self._zero_modes

    @property
    def can_zero_unwritten(self) -> bool:
        """Whether `zero_unwritten` has a way, with the same reservation."""
        return bool(self._zero_modes)

    def read_ahead(self, length: int, file_offset: int) -> None:
        """Ask the system to bring a range into memory, where it can be asked; it may do less. Raises: ValueError."""
        if self._fd < 0:
            raise self._closed()
        if _host.HAVE_FADVISE:
            # The kernel cuts each call down to about as much as one request to the disk can fetch.
            for at in range(file_offset, file_offset + length, _READ_AHEAD_STEP):
                step = min(_READ_AHEAD_STEP, file_offset + length - at)
                with suppress(OSError):
                    os.posix_fadvise(self._fd, at, step, os.POSIX_FADV_WILLNEED)

    def punch_hole(self, length: int, file_offset: int) -> None:
        """Give host space back where the file system takes it; nothing is done where it does not.

        The range lies in the file, and reads as zeroes afterwards or as before. Raises: OSError, ValueError.
        """
        self._check_writable()
        self._check_range(file_offset, length)
        self._fallocate(_PUNCH, length, file_offset)

    def zero_unwritten(self, length: int, file_offset: int, *, may_punch: bool) -> bool:
        """Make a range inside the file read as zeroes without writing it; false where there is no way.

        The range keeps its host space unless `may_punch`. Raises: OSError, ValueError.
        """
        self._check_writable()
        self._check_range(file_offset, length)
        modes = (_PUNCH, _ZERO) if may_punch else (_ZERO,)
        return any(self._fallocate(mode, length, file_offset) for mode in modes)

    def _fallocate(self, mode: int, length: int, file_offset: int) -> bool:
        """Whether the file system did it, or there was nothing to do."""
        if not length:
            return True
        if mode not in self._zero_modes:
            return False
        try:
            libc.fallocate(self._fd, mode, file_offset, length)
        except OSError as error:
            if error.errno not in _host.UNSUPPORTED:
                raise self._named(error) from None
            self._zero_modes = tuple(other for other in self._zero_modes if other != mode)
            return False
        return True

    def flush(self) -> None:
        """Make everything written so far durable; nothing to do if not writable. Raises: OSError, ValueError.

        After a failure the data may be lost although a second flush succeeds: never retry.
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
        """Tell data from holes as the file system knows them. Raises: OSError, ValueError."""
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
        """The descriptor. Raises: ValueError."""
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
            owned, self._owned_object = self._owned_object, None
            try:
                os.close(fd)
            finally:
                if owned is not None:
                    owned.close()

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

    def _check_range(self, file_offset: int, length: int) -> None:
        if file_offset < 0 or length < 0:
            raise OSError(errno.EINVAL, "negative offset or length", self.name)
        if file_offset + length > MAX_FILE_OFFSET:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self.name)
