"""What the crash kit needs to know of a writer under test."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import NamedTuple, Protocol
from unittest import mock

from vhdx._buffer import Buffer
from vhdx.blockdev.extent import Extent
from vhdx.storage.base import ByteStore
from vhdx.testing.crash.medium import MediaFault
from vhdx.testing.crash.pages import Content


class CrashDevice(Protocol):
    """An open disk under test. Offsets and lengths are bytes of the disk, whole multiples of 512."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def pread(self, length: int, offset: int) -> bytes:
        """Read."""
        ...

    def extents(self) -> Iterator[Extent]:
        """Cover the disk in order; an extent with a `file_offset` says where in the file its data stands."""
        ...

    def pwrite(self, data: Buffer, offset: int, *, fua: bool = False) -> None:
        """Write; with `fua`, return only when that is durable."""
        ...

    def write_zeroes(
        self, length: int, offset: int, *, may_unmap: bool = True, fua: bool = False, fast_only: bool = False
    ) -> None:
        """Make a range read as zeroes; unless `may_unmap`, keep its space."""
        ...

    def trim(self, length: int, offset: int, *, fua: bool = False) -> None:
        """Give up a range: whole blocks of it read as zeroes from now on, the rest stays."""
        ...

    def flush(self) -> None:
        """Make everything durable whose call had returned."""
        ...

    def close(self) -> None:
        """Make everything durable, and finish."""
        ...


class ReplayEffect(NamedTuple):
    """What opening a file for writing will have to do about its log."""

    is_dirty: bool
    replayed: Content
    """The file with the log's changes in place, the log as it was; the file itself if none changes a byte."""


class CrashSubject(Protocol):
    """A writer under test, and what it keeps in a file.

    Whoever inherits from this has to define `open` and `faults`; what the others return then is right for a writer
    without parents and without a log, on a medium that loses nothing.
    """

    @property
    def parents(self) -> Sequence[Content]:
        """Files below the one that is written, nearest first."""
        return ()

    def open(self, store: ByteStore, sync: object = None) -> CrashDevice:
        """Open a file for writing, after a crash, too; this must not change the file.

        `sync` makes the locks (`vhdx.testing.crash.Scheduler` is one); None: those of threading.
        Raises: anything, if the file is lost.
        """
        ...

    def faults(
        self, content: Content, *, after_crash: bool = False, fault: MediaFault | None = None
    ) -> Sequence[str]:
        """What is wrong with a file, apart from what a crash or a fault of the medium accounts for."""
        ...

    def replay_effect(self, content: Content, device: CrashDevice | None = None) -> ReplayEffect:  # noqa: ARG002
        """Whether the file needs a replay, and what that makes of it.

        `device`: the file, open, and nothing done to it since.
        """
        return ReplayEffect(False, content)

    def media_faults(self) -> Sequence[MediaFault]:
        """Losses of the medium, one at a time, that a file must survive."""
        return ()

    def is_poisoned(self, error: BaseException) -> bool:  # noqa: ARG002
        """Whether an exception is the refusal to go on after an earlier failure."""
        return False


@contextmanager
def fixed_entropy(seed: str) -> Iterator[None]:
    """Make `os.urandom`, and with it every new GUID, a function of a seed and of the calls before."""
    count = 0

    def urandom(length: int) -> bytes:
        nonlocal count
        count += 1
        block = blake2b(f"{seed}/{count}".encode()).digest()
        return (block * (length // len(block) + 1))[:length]

    with mock.patch("os.urandom", urandom), mock.patch("random._urandom", urandom):
        yield
