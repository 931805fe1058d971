"""What the crash kit needs to know of a writer, and the library's own as an instance of it."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, Final, Protocol, cast
from unittest import mock

import vhdx
from vhdx._buffer import Buffer
from vhdx.format.constants import HEADER_FILE_OFFSETS, REGION_TABLE_FILE_OFFSETS
from vhdx.image import Image
from vhdx.ops.check import check_image
from vhdx.rules import RuleCode, Severity
from vhdx.storage.base import ByteStore, StoreKind, pread_zero_extended
from vhdx.testing.crash_states import MediaFault
from vhdx.testing.pages import Content
from vhdx.testing.recording_store import RecordingStore
from vhdx.testing.stamps import garbage

_TOLERATED: Final = frozenset(
    {
        RuleCode.HEADER_CHECKSUM,
        RuleCode.HEADER_SIGNATURE,
        RuleCode.REGION_TABLE_CHECKSUM,
        RuleCode.REGION_TABLE_SIGNATURE,
    }
)
"""What a check may say when the medium has lost one copy of a structure that has two."""


class CrashDevice(Protocol):
    """An open disk under test."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def pread(self, length: int, offset: int) -> bytes:
        """Read."""
        ...

    def pwrite(self, data: Buffer, offset: int, *, fua: bool = False) -> None:
        """Write."""
        ...

    def write_zeroes(
        self, length: int, offset: int, *, may_unmap: bool = True, fua: bool = False, fast_only: bool = False
    ) -> None:
        """Make a range zero."""
        ...

    def trim(self, length: int, offset: int, *, fua: bool = False) -> None:
        """Give a range up."""
        ...

    def flush(self) -> None:
        """Make everything durable whose call had returned."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class Poisoned(Protocol):
    """Tells whether an exception is the writer's refusal to go on after a failure."""

    def __call__(self, error: BaseException) -> bool:
        """Judge one exception."""
        ...


class CrashSubject(Protocol):
    """A writer under test, and what it keeps in a file."""

    def open(self, store: ByteStore, sync: object = None) -> CrashDevice:
        """Open a file for writing; `sync` makes locks (engine.sync.Sync), None: those of threading."""
        ...

    def faults(self, content: Content, *, fault: MediaFault | None = None) -> Sequence[str]:
        """What is wrong with a file; nothing that a lost copy alone accounts for."""
        ...

    def is_dirty(self, content: Content) -> bool:
        """Whether opening the file has to replay something."""
        ...

    def replay_changes(self, content: Content) -> bool:
        """Whether that would change a byte of the file."""
        ...

    def media_faults(self) -> Sequence[MediaFault]:
        """Losses of the medium, one at a time, that a file must survive."""
        ...

    def is_poisoned(self, error: BaseException) -> bool:
        """Whether an exception is the refusal to go on after an earlier failure."""
        ...


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


class VhdxSubject:
    """The library's writer. `parents` are the contents of the chain below the leaf, nearest first."""

    def __init__(self, parents: Sequence[Content] = ()) -> None:
        self.parents = parents

    def open(self, store: ByteStore, sync: object = None) -> CrashDevice:
        """Open a file for writing. Raises: what `vhdx.open` does."""
        options: dict[str, Any] = {} if sync is None else {"sync": sync}
        parents = [RecordingStore(parent, f"parent {depth}") for depth, parent in enumerate(self.parents, 1)]
        device: Any = cast(Any, vhdx.open)(store, "r+", parents=parents, **options)
        return cast(CrashDevice, device)

    def faults(self, content: Content, *, fault: MediaFault | None = None) -> Sequence[str]:
        """Findings of a check that are errors or leaks."""
        tolerated: Collection[RuleCode] = _TOLERATED if fault else ()
        return [
            str(finding)
            for finding in check_image(RecordingStore(content)).findings()
            if finding.severity in (Severity.ERROR, Severity.LEAK) and finding.code not in tolerated
        ]

    def is_dirty(self, content: Content) -> bool:
        """Whether the log is in use."""
        with Image.open(RecordingStore(content)) as image:
            return image.is_dirty

    def replay_changes(self, content: Content) -> bool:
        """Whether a replay would change a byte."""
        with Image.open(RecordingStore(content)) as image:
            replay = image.opened.replay
            if replay is None:
                return False
            if replay.file_size > content.size:
                return True
            zeroes = any(content.numbers(start, end) for start, end in replay.zero_ranges)
            return zeroes or any(
                pread_zero_extended(replay.store, extent.length, extent.file_offset)
                != content.read(extent.length, extent.file_offset)
                for extent in replay.store.extents(0, content.size)
                if extent.kind is StoreKind.OVERLAY
            )

    def media_faults(self) -> Sequence[MediaFault]:
        """Either header, either region table."""
        headers = [
            MediaFault(f"header {index}", offset, garbage(4096))
            for index, offset in enumerate(HEADER_FILE_OFFSETS, 1)
        ]
        tables = [
            MediaFault(f"region table {index}", offset, garbage(4096))
            for index, offset in enumerate(REGION_TABLE_FILE_OFFSETS, 1)
        ]
        return headers + tables

    def is_poisoned(self, error: BaseException) -> bool:
        """Whether it is an ImagePoisonedError."""
        return isinstance(error, vhdx.ImagePoisonedError)
