"""A new file that appears under its name only when it is complete and durable."""

import errno
import os
import stat
import sys
from typing import Final

from vhdx import _host
from vhdx.storage import descriptor, durable, libc, locking
from vhdx.storage.file import FileStore
from vhdx.storage.replaced_file import ReplacedFile

_NAME_MAX: Final = 255
_ATTEMPTS: Final = 100


class NewFile:
    """Context manager: write to a temporary beside the final name, then rename it.

        with NewFile("disk.vhdx") as new:
            new.store.pwrite(...)

    `store` is a writable, locked FileStore; closing it before the block ends is allowed. When the block ends well,
    the content is flushed, the temporary takes the final name, and the directory is flushed. When it ends with any
    exception, the temporary is removed and the final name is as it was. `overwrite=True` replaces a regular file that
    nobody uses; it keeps its content until the rename, and its owner, mode and extended attributes go over to the new
    one. Of a symbolic link the target is replaced, and the link stays.

    Attributes: `path` (the final name), `temporary_path`, `store`, `is_complete`.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        overwrite: bool = False,
        no_lock_ok: bool = True,
    ) -> None:
        """Name the file; nothing is made before the block is entered.

        `no_lock_ok` allows file systems that cannot lock: nobody else knows the temporary's name.
        """
        self.path = os.fsdecode(path)
        self.overwrite = overwrite
        self.temporary_path = ""
        self.is_complete = False
        self._no_lock_ok = no_lock_ok
        self._final = self.path
        self._store: FileStore | None = None
        self._sync_fd = -1
        self._replaced: ReplacedFile | None = None

    @property
    def store(self) -> FileStore:
        """Where to write. Raises: ValueError outside the block."""
        if self._store is None:
            raise ValueError(f"{self.path}: the new file has not been opened")
        return self._store

    def __enter__(self) -> "NewFile":
        """Make the temporary. Raises: FileExistsError, OSError, ImageLockedError."""
        self._final = os.path.realpath(self.path) if self.overwrite else self.path
        try:
            if self._check_destination() and sys.platform != "win32":
                self._replaced = ReplacedFile(self._final, self.path)
            fd = self._make_temporary()
            try:
                self._sync_fd = os.dup(fd)  # to flush by: the user may close the store before the block ends
                lock = locking.lock_file(fd, self.path, writable=True, no_lock_ok=self._no_lock_ok)
                self._store = FileStore(
                    fd, name=self.path, path=self.temporary_path, writable=True, lock=lock
                )
            except BaseException:
                if self._store is None:
                    os.close(fd)
                raise
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Complete or discard the file. Raises: FileExistsError if the name was taken meanwhile; OSError."""
        if kind is not None:
            self._discard()
            return
        try:
            if self._replaced is not None:
                self._replaced.hand_down(self._sync_fd)
            durable.sync_data(self._sync_fd)
            self._close()
            self._commit()
            self.is_complete = True
            self._release()
        except BaseException:
            self._discard()
            raise
        durable.sync_directory(os.path.dirname(self._final) or os.curdir)

    def _check_destination(self) -> bool:
        """Whether there is a file to be replaced. Raises: FileExistsError, OSError if it may not be."""
        try:
            status = os.lstat(self._final)
        except FileNotFoundError:
            return False
        if not self.overwrite:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.path)
        if not stat.S_ISREG(status.st_mode):
            descriptor.check_kind(status, self.path)
            raise OSError(errno.EINVAL, "is a block device, which cannot be replaced by a file", self.path)
        return True

    def _make_temporary(self) -> int:
        directory, name = os.path.split(self._final)
        suffix_length = len("..XXXXXX.partial")
        while len(os.fsencode(name)) > _NAME_MAX - suffix_length:
            name = name[:-1]
        flags = descriptor.BASE_FLAGS | os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        for _ in range(_ATTEMPTS):
            temporary = os.path.join(directory, f".{name}.{os.urandom(3).hex()}.partial")
            # Set before the file exists, so that an interrupt between the two lines leaves no file behind.
            self.temporary_path = temporary
            try:
                # In place of another file: nobody else may open it before it has that one's mode.
                return os.open(temporary, flags, 0o666 if self._replaced is None else 0o600)
            except FileExistsError:
                self.temporary_path = ""
            except OSError as error:
                self.temporary_path = ""
                raise OSError(error.errno, error.strerror, self.path) from None
        raise FileExistsError(errno.EEXIST, "no free name for a temporary file", self.path)

    def _commit(self) -> None:
        """Give the temporary its name, in one step where the system has one."""
        if self.overwrite:
            os.replace(self.temporary_path, self._final)
            return
        for rename in (_link, _rename_noreplace):
            try:
                rename(self.temporary_path, self._final)
            except FileExistsError:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.path) from None
            except OSError as error:
                if error.errno not in _host.UNSUPPORTED | {errno.EPERM, errno.EMLINK, errno.EACCES}:
                    raise
            else:
                return
        # On Windows, rename refuses an existing target. Elsewhere a file made between the next two lines is replaced.
        self._check_destination()
        os.rename(self.temporary_path, self._final)

    def _close(self) -> None:
        store, fd, self._sync_fd = self._store, self._sync_fd, -1
        try:
            if store is not None:
                store.close()
        finally:
            if fd >= 0:
                os.close(fd)

    def _discard(self) -> None:
        """Remove the temporary. Its errors are dropped: the one that led here is raised by the caller."""
        try:
            self._close()
        except OSError:
            pass
        if self.temporary_path and not self.is_complete:
            try:
                os.unlink(self.temporary_path)
            except OSError:
                pass
        self._release()

    def _release(self) -> None:
        """Let others open the file that was to be replaced, or has been."""
        if self._replaced is not None:
            self._replaced.release()


def _link(temporary: str, final: str) -> None:
    if not _host.HAVE_LINK:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    os.link(temporary, final)
    os.unlink(temporary)


def _rename_noreplace(temporary: str, final: str) -> None:
    if not _host.HAVE_RENAME_NOREPLACE:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    libc.rename_noreplace(temporary, final)
