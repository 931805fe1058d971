"""Locks among our own stores."""

import errno
import fcntl
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from vhdx import _host, _processes
from vhdx.errors import ImageLockedError
from vhdx.storage import locking
from vhdx.storage.file import FileStore

ofd = pytest.mark.skipif(not _host.HAVE_OFD_LOCKS, reason="OFD locks are switched off")


def _locks_on(path: Path) -> set[int]:
    """Bytes that the kernel says are locked."""
    inode, found = path.stat().st_ino, set[int]()
    for line in Path("/proc/locks").read_text().splitlines():
        match = re.search(rf"OFDLCK .* READ .*:{inode} (\d+) (\d+)$", line)
        if match:
            found.update(range(int(match[1]), int(match[2]) + 1))
    return found


@ofd
def test_reader_and_writer_hold_the_bytes_that_qemu_holds(image: Path) -> None:
    with FileStore.open(image):
        assert _locks_on(image) == {100, 201, 203}
    with FileStore.open(image, writable=True):
        assert _locks_on(image) == {100, 101, 103, 201, 203}
    assert _locks_on(image) == set()


def test_two_readers_coexist_and_each_keeps_a_writer_away(image: Path) -> None:
    with FileStore.open(image):
        with FileStore.open(image), pytest.raises(ImageLockedError):
            FileStore.open(image, writable=True)
        with pytest.raises(ImageLockedError):
            FileStore.open(image, writable=True)


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_writer_excludes_writers_and_readers_even_in_one_process(
    image: Path, first: bool, second: bool
) -> None:
    with FileStore.open(image, writable=first):
        with pytest.raises(ImageLockedError, match="already open in this process") as caught:
            FileStore.open(image, writable=second)
        assert str(image) in str(caught.value)
        assert "dirty" not in str(caught.value)
        assert ("--force-share" in str(caught.value)) == (not second)
    FileStore.open(image, writable=second).close()


@pytest.mark.parametrize("writable", [False, True])
def test_store_without_lock_minds_nobody_and_hinders_nobody(image: Path, writable: bool) -> None:
    with FileStore.open(image, writable=True), FileStore.open(image, writable=writable, lock=False) as loose:
        assert loose.lock_warning is None
    with FileStore.open(image, writable=writable, lock=False):
        FileStore.open(image, writable=True).close()


def test_refused_lock_leaves_nothing_locked(image: Path) -> None:
    with FileStore.open(image), image.open("r+b") as other:
        with pytest.raises(ImageLockedError):
            locking.lock_file(other.fileno(), "other", writable=True)
        FileStore.open(image).close()  # would fail if the refused writer had kept byte 101


def test_closing_another_descriptor_of_the_file_keeps_the_lock(image: Path) -> None:
    with FileStore.open(image, writable=True):
        image.read_bytes()  # opens and closes it, which drops a process's POSIX locks
        with pytest.raises(ImageLockedError):
            FileStore.open(image)


@ofd
@pytest.mark.parametrize(
    ("byte", "reader_may", "writer_may"),
    [
        (100, True, True),
        (101, False, False),
        (102, True, True),
        (103, False, False),
        (200, False, False),
        (201, True, False),
        (202, True, True),
        (203, True, False),
    ],
)
def test_each_byte_of_another_process_excludes_whom_it_contradicts(
    image: Path, byte: int, reader_may: bool, writer_may: bool
) -> None:
    with image.open("rb") as other:
        fcntl.fcntl(
            other.fileno(), fcntl.F_OFD_SETLK, locking._FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0)
        )
        for writable, may in ((False, reader_may), (True, writer_may)):
            if may:
                FileStore.open(image, writable=writable).close()
            else:
                with pytest.raises(ImageLockedError):
                    FileStore.open(image, writable=writable)


@ofd
def test_exclusive_lock_of_another_program_is_a_conflict(image: Path) -> None:
    with image.open("r+b") as other:
        fcntl.lockf(other, fcntl.LOCK_EX)  # a POSIX lock of this process, and so another owner's
        with pytest.raises(ImageLockedError, match="already open in this process"):
            FileStore.open(image)
    FileStore.open(image).close()


_HOLD = """
import sys
from vhdx.storage.file import FileStore
store = FileStore.open(sys.argv[1], writable=sys.argv[2] == "w")
print("open", flush=True)
sys.stdin.read()
"""


def test_lock_is_seen_by_another_process_and_dies_with_its_owner(image: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _HOLD, image, "w"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
            with pytest.raises(ImageLockedError):
                FileStore.open(image)
        finally:
            process.kill()
    FileStore.open(image, writable=True).close()


def _close_in_child(store: FileStore) -> None:
    store.close()


def test_forked_child_that_closes_its_copy_leaves_the_parent_s_lock(image: Path) -> None:
    with FileStore.open(image, writable=True) as store:
        child = multiprocessing.get_context("fork").Process(target=_close_in_child, args=(store,))
        child.start()
        child.join()
        assert child.exitcode == 0
        with pytest.raises(ImageLockedError):
            FileStore.open(image)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_file_system_without_locks_is_read_with_a_warning_and_written_only_if_allowed(
    image: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "fcntl", refuse)
        patch.setattr(fcntl, "flock", refuse)
        patch.setattr(os, "set_blocking", lambda *_: None)
        with FileStore.open(image) as store:
            assert store.lock_warning is not None
            assert "not locked" in store.lock_warning
        with pytest.raises(ImageLockedError, match="--no-lock"):
            FileStore.open(image, writable=True)
        with FileStore.open(image, writable=True, no_lock_ok=True) as store:
            assert store.lock_warning is not None


def test_other_lock_errors_pass_through_and_leave_no_descriptor(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "fcntl", fail)
    monkeypatch.setattr(fcntl, "flock", fail)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Input/output"):
        FileStore.open(image)
    assert len(os.listdir("/proc/self/fd")) == before


@ofd
def test_two_writers_that_start_at_once_never_both_succeed(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second one runs just before the first asks its questions: locks come first, so it must see them.
    real, outcome = locking._is_held_elsewhere, list[str]()

    def let_the_other_go_first(fd: int, byte: int) -> bool:
        if not outcome:
            outcome.append("started")
            try:
                FileStore.open(image, writable=True).close()
                outcome.append("second won")
            except ImageLockedError:
                outcome.append("second refused")
        return real(fd, byte)

    monkeypatch.setattr(locking, "_is_held_elsewhere", let_the_other_go_first)
    FileStore.open(image, writable=True).close()
    assert outcome == ["started", "second refused"]


@ofd
def test_whole_file_locks_serve_where_there_are_no_ofd_locks(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_host, "HAVE_OFD_LOCKS", False)
    with FileStore.open(image), FileStore.open(image), pytest.raises(ImageLockedError):
        FileStore.open(image, writable=True)
    with FileStore.open(image, writable=True), pytest.raises(ImageLockedError):
        FileStore.open(image)


@ofd
def test_holder_of_a_lock_is_named_and_one_that_only_has_the_file_open_is_not(image: Path) -> None:
    program = (
        "from vhdx.storage.file import FileStore\n"
        "store = FileStore.open({path!r}, {how})\n"
        "print('ready', flush=True)\n"
        "input()"
    )
    how = ["writable=True", "lock=False"]
    with ExitStack() as stack:
        running = [stack.enter_context(_running(program.format(path=str(image), how=each))) for each in how]
        with pytest.raises(ImageLockedError) as caught:
            FileStore.open(image)
        (holder,) = caught.value.holders
        assert holder.pid == running[0].pid
        assert f"in use by another process that has it open for writing: {holder}" in str(caught.value)
        assert pickle.loads(pickle.dumps(caught.value)).holders == caught.value.holders


@ofd
def test_holder_without_a_visible_lock_is_looked_for_among_all_that_have_the_file_open(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _processes.read_text
    monkeypatch.setattr(_processes, "read_text", lambda path: "" if "fdinfo" in path else real(path))
    with FileStore.open(image, writable=True), pytest.raises(ImageLockedError) as caught:
        FileStore.open(image)
    assert [holder.pid for holder in caught.value.holders] == [os.getpid()]


@contextmanager
def _running(program: str) -> Iterator["subprocess.Popen[str]"]:
    """A Python program that has said that it is ready, and ends when its stdin is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
        process.kill()
