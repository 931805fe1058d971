"""Mounting files at a directory, and unmounting them without losing what was flushed.

libfuse's loop runs in a thread, with every signal blocked, so that the caller keeps its main thread and its signals.

libfuse and its helper, a process of its own, say why they refuse a mount in one way only: by writing to descriptor 2.
Redirecting a descriptor concerns all threads of a process, so that is left to the program; `vhdx mount` does it.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vhdx.errors import MountError
from vhdx.fuse.gate import Gate
from vhdx.fuse.requirements import check_directory, check_fuse
from vhdx.fuse.unmounting import find_helper, unmount

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vhdx.fuse.files import DiskFile

SUBTYPE: Final = "vhdx"
_MAX_THREADS: Final = 10
_UNCHANGING_SECONDS: Final = 3600
_READ_AHEAD_KIB: Final = 1024


class RefusedMountError(MountError):
    """libfuse has refused to mount, and has written the reason to descriptor 2."""


class Mount:
    """Files at a directory, until somebody unmounts it. Made by `start`."""

    def __init__(self, files: Sequence[DiskFile], directory: str, report: Callable[[str], None]) -> None:
        """`report` is told, from any thread, of what goes wrong in a call."""
        self.files = files
        self.directory = os.path.realpath(directory)
        self._report = _OnceEach(report)
        self._gate = Gate()
        self._mounted = threading.Event()
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._on_end: Callable[[], None] = lambda: None
        self._device_number = -1

    def start(
        self,
        source: str,
        *,
        writable: bool = False,
        allow_other: bool = False,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Mount, and return when the files are there. `source` is what the system's tables call it.

        `on_end` is called, from another thread, when the directory has been unmounted. Raises, with nothing mounted:
        MountError, and as one of its kind RefusedMountError; OSError for a directory that cannot be used.
        """
        check_directory(self.directory)
        check_fuse()
        self._on_end = on_end
        options = _options(source, writable=writable, allow_other=allow_other)
        directory_mode, file_mode = (0o555, 0o444) if allow_other else (0o500, 0o400)
        modes = directory_mode, file_mode | (0o200 if writable else 0)
        # A daemon thread: if the mount is detached while in use, its loop ends with the process.
        thread = threading.Thread(target=self._run, args=(options, modes), daemon=True, name="fuse")
        thread.start()
        while not self._mounted.wait(0.02) and not self._ended.is_set():
            pass
        if self._ended.is_set() and not self._mounted.is_set():
            raise RefusedMountError(
                f"{self.directory}: cannot be mounted: libfuse gives no reason but on stderr ({self._failure})"
            ) from self._failure
        self._device_number = Path(self.directory).stat().st_dev
        _read_ahead(self._device_number)

    def _run(self, options: dict[str, Any], modes: tuple[int, int]) -> None:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            from vhdx.fuse.binding import Binding, Operations

            operations = Operations(
                self.files, self._gate, modes=modes, report=self._report, mounted=self._mounted.set
            )
            Binding(operations, self.directory, **options)
        except BaseException as error:  # `start` raises it, if it still waits
            self._failure = error
        finally:
            _ignore_broken_pipes()
            self._ended.set()
            self._on_end()

    def unmount(self) -> bool:
        """Unmount unless somebody uses a file; return whether nothing is mounted any more.

        `on_end` is called a little later.
        """
        if not self._is_in_place():
            return True
        try:
            unmount(self.directory)
        except OSError:
            return not self._is_in_place()
        return True

    def detach(self) -> None:
        """Unmount although somebody uses a file; no call is answered any more when this returns.

        Programs that still have a file open get errors. What they had flushed is safe once the device is closed.
        """
        try:
            if self._is_in_place():
                unmount(self.directory, detach=True)
        finally:
            self._gate.shut()

    def _is_in_place(self) -> bool:
        """Whether this mount, and no later one, is at the directory."""
        try:
            return Path(self.directory).stat().st_dev == self._device_number
        except OSError as error:
            return error.errno == errno.ENOTCONN


def _ignore_broken_pipes() -> None:
    """Put back what libfuse changes for the whole process when its loop ends: Python ignores SIGPIPE.

    libfuse sets SIGPIPE to end the process, whatever the setting was before.
    """
    if signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN:
        import ctypes

        # Python lets only the main thread change what a signal does.
        ctypes.CDLL(None).signal(ctypes.c_int(signal.SIGPIPE), ctypes.c_void_p(int(signal.SIG_IGN)))


def _options(source: str, *, writable: bool, allow_other: bool) -> dict[str, Any]:
    """What libfuse is told; every key is an option of `mount -o`."""
    from vhdx.fuse.binding import library_version

    version = library_version()
    options: dict[str, Any] = {
        "foreground": True,
        "fsname": source.replace("\\", "\\\\").replace(",", "\\,"),
        "default_permissions": True,
        "allow_other": allow_other,
        "ro": not writable,
    }
    if sys.platform == "linux":
        options["subtype"] = SUBTYPE
        # The helper unmounts if this process is killed.
        options["auto_unmount"] = find_helper() is not None
    if not writable:
        # Nothing changes, so the kernel need not read again what it has read once.
        options |= {"kernel_cache": True, "attr_timeout": _UNCHANGING_SECONDS}
        options["entry_timeout"] = _UNCHANGING_SECONDS
    if version >= (3, 0):
        options["max_idle_threads"] = _MAX_THREADS  # 3.14's own default is one that it complains of
    if version >= (3, 12):
        options["max_threads"] = _MAX_THREADS
    return options


def _read_ahead(device: int) -> None:
    """Let the kernel read ahead further than FUSE's 128 KiB, where this user may tell it to."""
    knob = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    try:
        knob.write_text(str(_READ_AHEAD_KIB), encoding="ascii")
    except OSError:
        pass


class _OnceEach:
    """Reports each message once, and a bounded number of messages: a failing medium would repeat them for ever."""

    def __init__(self, report: Callable[[str], None], limit: int = 64) -> None:
        self._report = report
        self._limit = limit
        self._seen: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._seen and len(self._seen) < self._limit:
            self._seen.add(text)
            self._report(text)
