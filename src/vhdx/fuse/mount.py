"""Mounting files at a directory, and unmounting them without losing what was flushed.

libfuse's loop runs in a thread, with every signal blocked, so that the caller keeps its main thread and its
signals. libfuse and its helper say on stderr why they fail: it is listened to while the mount is made.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vhdx.errors import MountError
from vhdx.fuse.gate import Gate
from vhdx.fuse.unmounting import find_helper, unmount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vhdx.fuse.files import DiskFile

SUBTYPE: Final = "vhdx"
_MAX_THREADS: Final = 10
_UNCHANGING_SECONDS: Final = 3600
_READ_AHEAD_KIB: Final = 1024


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

        `on_end` is called, from another thread, when the directory has been unmounted. Raises: MountError with
        nothing mounted; OSError for a directory that cannot be used.
        """
        check_directory(self.directory)
        check_fuse()
        self._on_end = on_end
        options = _options(source, writable=writable, allow_other=allow_other)
        directory_mode, file_mode = (0o555, 0o444) if allow_other else (0o500, 0o400)
        modes = directory_mode, file_mode | (0o200 if writable else 0)
        with _listening_to_stderr() as said:
            # A daemon thread: if the mount is detached while in use, its loop ends with the process.
            thread = threading.Thread(target=self._run, args=(options, modes), daemon=True, name="fuse")
            thread.start()
            while not self._mounted.wait(0.02) and not self._ended.is_set():
                pass
        if self._ended.is_set() and not self._mounted.is_set():
            raise self._refusal(said(), allow_other=allow_other)
        _pass_on(said())
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
        except BaseException as error:  # told by whoever waits
            self._failure = error
        finally:
            _ignore_broken_pipes()
            self._ended.set()
            self._on_end()

    def _refusal(self, said: str, *, allow_other: bool) -> MountError:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"libfuse gives no reason ({self._failure})"
        advice = ""
        if allow_other and "user_allow_other" in reason:
            advice = "; add the line user_allow_other to /etc/fuse.conf, or leave out --allow-other"
        return MountError(f"{self.directory}: cannot be mounted: {reason}{advice}")

    def unmount(self) -> bool:
        """Unmount unless it is busy; whether nothing is mounted any more. `on_end` is called a little later."""
        if not self._is_in_place():
            return True
        try:
            unmount(self.directory)
        except OSError:
            return not self._is_in_place()
        return True

    def detach(self) -> None:
        """Unmount although it is busy; no call is answered any more when this returns.

        Whoever still has a file open gets errors. What they had flushed is safe once the device is closed.
        """
        try:
            if self._is_in_place():
                unmount(self.directory, detach=True)
        finally:
            self._gate.shut()

    def _is_in_place(self) -> bool:
        """Whether it is this mount, and no later one, that is at the directory."""
        try:
            return Path(self.directory).stat().st_dev == self._device_number
        except OSError as error:
            return error.errno == errno.ENOTCONN


def _ignore_broken_pipes() -> None:
    """Ignore SIGPIPE again, as Python does: at its end libfuse sets it to end the process, whatever it was before."""
    if signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN:
        import ctypes

        # Python lets only the main thread change what a signal does.
        ctypes.CDLL(None).signal(ctypes.c_int(signal.SIGPIPE), ctypes.c_void_p(int(signal.SIG_IGN)))


def check_directory(directory: str) -> None:
    """Raises: MountError, OSError if nothing can be mounted at a directory."""
    try:
        with os.scandir(directory) as entries:
            is_empty = next(entries, None) is None
    except FileNotFoundError:
        raise MountError(
            f"{directory}: there is no such directory; make it first: mkdir {directory}"
        ) from None
    except NotADirectoryError:
        raise MountError(f"{directory}: not a directory; name an empty one to mount at") from None
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        raise MountError(
            f"{directory}: a mount whose process has died is still there; remove it: fusermount3 -u {directory}"
        ) from None
    if not is_empty:
        what = "something is mounted there already" if os.path.ismount(directory) else "it is not empty"
        raise MountError(f"{directory}: {what}, and would be hidden; name an empty directory")
    if hasattr(os, "geteuid") and os.geteuid() and not os.access(directory, os.W_OK):
        raise MountError(
            f"{directory}: you may not write to it, as mounting needs; name a directory of yours"
        )


def check_fuse() -> None:
    """Raises: MountError, with what to install, if FUSE cannot be used here."""
    if sys.platform == "win32":
        raise MountError(
            "mounting needs FUSE, which Windows lacks; use 'vhdx serve', or 'vhdx convert' to raw"
        )
    if sys.platform == "linux":
        _check_linux()
        _prefer_libfuse3()
    try:
        from vhdx.fuse import binding  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "mfusepy":
            raise
        raise MountError("mounting needs the package mfusepy; install it: pip install 'vhdx[fuse]'") from None
    except (OSError, AttributeError) as error:
        raise MountError(f"mounting needs libfuse; install it: {_install_libfuse()} ({error})") from None


def _check_linux() -> None:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise MountError(
            "mounting needs /dev/fuse, which is not there; load the module (modprobe fuse), or start the"
            " container with --device /dev/fuse --cap-add SYS_ADMIN"
        ) from None
    except OSError as error:
        raise MountError(f"mounting needs /dev/fuse, which cannot be opened: {error.strerror}") from None
    if os.geteuid() and find_helper() is None:
        raise MountError("mounting as a user needs fusermount3; install it: apt install fuse3")


def _install_libfuse() -> str:
    return "apt install fuse3" if sys.platform == "linux" else "see https://macfuse.github.io"


def _prefer_libfuse3() -> None:
    """Let the binding take libfuse 3 where both are: the older one knows no SEEK_DATA."""
    from ctypes.util import find_library

    if not {"FUSE_LIBRARY_NAME", "FUSE_LIBRARY_PATH"} & os.environ.keys() and find_library("fuse3"):
        os.environ["FUSE_LIBRARY_NAME"] = "fuse3"


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
        # Nothing changes, so what the kernel has once read stays right.
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


@contextmanager
def _listening_to_stderr() -> Iterator[Callable[[], str]]:
    """Collect what is written to descriptor 2, by whatever code, until the block ends."""
    collected = bytearray()
    with tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: collected.decode(errors="replace")
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            collected += file.read()


def _pass_on(said: str) -> None:
    if said:
        os.write(2, said.encode(errors="replace"))


class _OnceEach:
    """Passes on each of a bounded number of messages once: a failing medium would flood its reader."""

    def __init__(self, report: Callable[[str], None], limit: int = 64) -> None:
        self._report = report
        self._limit = limit
        self._seen: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._seen and len(self._seen) < self._limit:
            self._seen.add(text)
            self._report(text)
