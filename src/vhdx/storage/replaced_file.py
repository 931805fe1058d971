"""An existing file whose name a new one is to take: nobody may be using it; its owner and mode stay with the name."""

import errno
import os
import stat
from contextlib import suppress

from vhdx._mounts import is_mount_point
from vhdx._processes import listed, writers_of_file
from vhdx.errors import ImageLockedError
from vhdx.storage import block_devices, descriptor, locking


class ReplacedFile:
    """A regular file, locked as a writer would lock it, so that nobody opens it before it has been replaced.

    Without that, a process that has the file open would go on writing to a file that has no name any more. Windows
    itself replaces no file that is open, and would not replace this one.
    """

    def __init__(self, path: str, name: str) -> None:
        """Lock the file. `path` has no links in it; `name` is for messages.

        A file system that cannot lock is no obstacle.
        Raises: ImageLockedError if somebody uses the file; OSError, also for what cannot be replaced.
        """
        self.path = path
        self._name = name
        if is_mount_point(path):
            raise OSError(
                errno.EBUSY,
                "is mounted over (a bind mount), so that no new file can take its name; write to another name, and"
                " copy that file over this one with cp",
                name,
            )
        self._fd = descriptor.open_descriptor(path, follow_symlinks=False)
        try:
            self._status = os.fstat(self._fd)
            self._lock = locking.lock_file(self._fd, name, writable=True, no_lock_ok=True)
            self._refuse_users_without_locks()
        except BaseException:
            os.close(self._fd)
            raise

    def _refuse_users_without_locks(self) -> None:
        """Raises: ImageLockedError."""
        identity = descriptor.identity_of(self._status)
        writers = writers_of_file(identity)
        if writers:
            raise ImageLockedError(
                f"{self._name}: the file is in use by another process that has it open for writing:"
                f" {listed(writers)}; close the program that uses it and try again",
                writers,
            )
        loops = block_devices.loop_devices_on(identity)
        if loops:
            raise ImageLockedError(
                f"{self._name}: the file is the content of {', '.join(loops)}; unmount what is on it, and detach it:"
                f" losetup -d {loops[0]}"
            )

    def hand_down(self, fd: int) -> None:
        """Give owner, group, extended attributes and mode to a new file, which nobody but its owner may open yet.

        Raises: OSError if the new file cannot have the same owner and group.
        """
        new = os.fstat(fd)
        owner, group = self._status.st_uid, self._status.st_gid
        if (new.st_uid, new.st_gid) != (owner, group):
            try:
                os.fchown(fd, owner, group)
            except PermissionError:
                raise PermissionError(
                    errno.EPERM,
                    f"belongs to user {owner} and group {group}, which a new file in its place could not",
                    self._name,
                ) from None
        _copy_attributes(self._fd, fd)
        os.fchmod(fd, stat.S_IMODE(self._status.st_mode))

    def release(self) -> None:
        """Give the file up; calling it twice does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                self._lock.release()
            finally:
                os.close(fd)


def _copy_attributes(source: int, target: int) -> None:
    """Make the extended attributes the same, access lists among them. Some may be changed by the system alone."""
    if not hasattr(os, "listxattr"):
        return
    try:
        wanted = {name: os.getxattr(source, name) for name in os.listxattr(source)}
        inherited = set(os.listxattr(target)) - set(wanted)  # such as an access list that the folder gives
    except OSError:
        return
    for name in inherited:
        with suppress(OSError):
            os.removexattr(target, name)
    for name, value in wanted.items():
        with suppress(OSError):
            os.setxattr(target, name, value)
