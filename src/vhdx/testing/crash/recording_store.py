"""A store that remembers in which order it was changed and flushed, and fails when it is told to.

    store = RecordingStore(image.build_store())
    with vhdx.open(store, "r+") as disk:
        disk.pwrite(b"...", 0)
        store.mark("written")
        disk.flush()
    store.steps                  # what happened, in order: what `CrashEnumerator` works on

A change is pending from the moment it is issued. A flush makes durable what had returned before it began, at
the moment it completes; what was still under way, or issued meanwhile, stays pending. What a failed flush
should have made durable stays pending for ever: an operating system may have dropped it, and says so once. The
length of the file alone becomes durable with the next flush that completes: it is part of a record that is written
as a whole, not content.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from vhdx._buffer import Buffer
from vhdx.storage.base import ByteStore, StoreExtent, StoreKind
from vhdx.testing.crash.pages import SECTOR_SIZE, Content


class ChangeKind(Enum):
    """What a change does to a file."""

    WRITE = "write"
    ZERO = "zero"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One call that changed a store. Bytes of the file; writes are widened to whole 512-byte sectors."""

    number: int
    kind: ChangeKind
    file_offset: int
    length: int
    """Of a truncation: the new size."""
    data: bytes
    size_before: int
    size_after: int

    def apply(self, content: Content) -> None:
        """Do it to a content."""
        match self.kind:
            case ChangeKind.WRITE:
                content.write(self.data, self.file_offset)
            case ChangeKind.ZERO:
                content.clear(self.file_offset, self.file_offset + self.length)
            case ChangeKind.TRUNCATE:
                content.truncate(self.length)
        if self.size_after > self.size_before:
            content.size = max(content.size, self.size_after)

    def __str__(self) -> str:
        if self.kind is ChangeKind.TRUNCATE:
            return f"#{self.number} truncate {self.size_before:#x} -> {self.size_after:#x}"
        growth = f", size -> {self.size_after:#x}" if self.size_after > self.size_before else ""
        return f"#{self.number} {self.kind.value} {self.length:#x} at {self.file_offset:#x}{growth}"


class StepKind(Enum):
    """What happened."""

    ISSUED = "issued"
    RETURNED = "returned"
    FLUSH_BEGUN = "flush begun"
    FLUSHED = "flushed"
    FLUSH_FAILED = "flush failed"
    MARK = "mark"


class Step(NamedTuple):
    """One thing that happened to a store."""

    kind: StepKind
    change: Change | None = None
    """The change that was issued or returned."""
    covered: tuple[Change, ...] = ()
    """What a completed flush made durable, or a failed one should have."""
    label: object = None
    """What a test marked."""


class Call(Enum):
    """The calls of a store that can be made to fail."""

    PREAD = "pread"
    PWRITE = "pwrite"
    WRITE_ZEROES = "write_zeroes"
    TRUNCATE = "truncate"
    PUNCH_HOLE = "punch_hole"
    RESERVE = "reserve"
    FLUSH = "flush"


@dataclass(slots=True)
class Fault:
    """Makes the `nth` call of one kind raise. Counts the calls; `hit` tells whether it came to that."""

    call: Call
    nth: int
    error: BaseException
    sectors_done: int = 0
    """512-byte sectors that a transfer moves before it fails; a large number: all of it."""
    seen: int = field(default=0, init=False)
    hit: bool = field(default=False, init=False)

    def due(self, call: Call) -> bool:
        """Count a call; tell whether it is the one."""
        if call is not self.call:
            return False
        self.seen += 1
        self.hit = self.hit or self.seen == self.nth
        return self.seen == self.nth


def _no_checkpoint(_: str) -> None:
    pass


class RecordingStore:
    """See the module. Safe for many threads.

    `checkpoint` is called before every call and again before a change or a flush returns: where a scheduler
    may let another thread go on. Closing it keeps everything.
    """

    def __init__(
        self,
        source: ByteStore | Buffer | Content = b"",
        name: str = "recording",
        *,
        checkpoint: Callable[[str], None] = _no_checkpoint,
        fault: Fault | None = None,
    ) -> None:
        self.name = name
        self.content = source.copy() if isinstance(source, Content) else Content.of(source)
        self.start = self.content.copy()
        self.steps: list[Step] = []
        self.checkpoint = checkpoint
        self.fault = fault
        self._returned: dict[int, Change] = {}
        """Changes that the next flush will make durable, by number."""
        self._count = 0
        self._lock = threading.Lock()

    def mark(self, label: object) -> None:
        """Put a remark of the test's own into the record."""
        self.steps.append(Step(StepKind.MARK, label=label))

    @property
    def changes(self) -> list[Change]:
        """Every change so far, in order."""
        return [step.change for step in self.steps if step.kind is StepKind.ISSUED and step.change]

    def size(self) -> int:
        """Length in bytes, now."""
        self.checkpoint("size")
        return self.content.size

    def pread_into(self, buffer: Buffer, file_offset: int) -> int:
        """Read; return how many bytes were there. Raises: what a fault holds."""
        self.checkpoint("pread")
        with memoryview(buffer) as whole, whole.cast("B") as view:
            if self.fault is not None and self.fault.due(Call.PREAD):
                with self._lock:
                    self.content.read_into(view[: self.fault.sectors_done * SECTOR_SIZE], file_offset)
                raise self.fault.error
            with self._lock:
                return self.content.read_into(view, file_offset)

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        """Write. Raises: what a fault holds, part of it done."""
        with memoryview(data) as whole, whole.cast("B") as view:
            self._change(Call.PWRITE, ChangeKind.WRITE, file_offset, len(view), bytes(view))

    def write_zeroes(self, length: int, file_offset: int) -> None:
        """Clear a range, extending the file if need be. Raises: what a fault holds, part of it done."""
        self._change(Call.WRITE_ZEROES, ChangeKind.ZERO, file_offset, length)

    can_punch = True
    can_zero_unwritten = False

    def reserve(self, length: int, file_offset: int) -> bool:  # noqa: ARG002
        """Take host space, which changes nothing here. Raises: what a fault holds."""
        self.checkpoint("reserve")
        if self.fault is not None and self.fault.due(Call.RESERVE):
            raise self.fault.error
        return True

    def punch_hole(self, length: int, file_offset: int) -> None:
        """Clear a range inside the file. Raises: what a fault holds, part of it done."""
        self._change(Call.PUNCH_HOLE, ChangeKind.ZERO, file_offset, length)

    def zero_unwritten(self, length: int, file_offset: int, *, may_punch: bool) -> bool:  # noqa: ARG002
        """There is no way but to write zeroes, or to punch."""
        return False

    def truncate(self, size: int) -> None:
        """Set the length. Raises: what a fault holds."""
        self._change(Call.TRUNCATE, ChangeKind.TRUNCATE, 0, size)

    def _change(self, call: Call, kind: ChangeKind, file_offset: int, length: int, data: bytes = b"") -> None:
        self.checkpoint(call.value)
        error: BaseException | None = None
        if self.fault is not None and self.fault.due(call):
            error = self.fault.error
            done = 0 if kind is ChangeKind.TRUNCATE else self.fault.sectors_done * SECTOR_SIZE
            length = min(length, done)
            data = data[:length]
        change = None
        if error is None or length:
            with self._lock:
                change = self._apply(kind, file_offset, length, data)
                self.steps.append(Step(StepKind.ISSUED, change))
        self.checkpoint(f"{call.value} returns")
        if change is not None:
            with self._lock:
                self._returned[change.number] = change
                self.steps.append(Step(StepKind.RETURNED, change))
        if error is not None:
            raise error

    def _apply(self, kind: ChangeKind, file_offset: int, length: int, data: bytes) -> Change:
        content, before = self.content, self.content.size
        match kind:
            case ChangeKind.WRITE:
                content.write(data, file_offset)
            case ChangeKind.ZERO:
                content.clear(file_offset, file_offset + length)
                content.size = max(before, file_offset + length) if length else before
            case ChangeKind.TRUNCATE:
                content.truncate(length)
        if kind is ChangeKind.WRITE and (file_offset % SECTOR_SIZE or length % SECTOR_SIZE):
            end = -(-(file_offset + length) // SECTOR_SIZE) * SECTOR_SIZE
            file_offset = file_offset // SECTOR_SIZE * SECTOR_SIZE
            data = content.read(end - file_offset, file_offset)
            length = len(data)
        self._count += 1
        return Change(self._count, kind, file_offset, length, data, before, content.size)

    def flush(self) -> None:
        """Make durable what has returned. Raises: what a fault holds; nothing is durable then."""
        self.checkpoint("flush")
        with self._lock:
            covered = tuple(self._returned.values())
            self.steps.append(Step(StepKind.FLUSH_BEGUN))
        failed = self.fault is not None and self.fault.due(Call.FLUSH)
        self.checkpoint("flush returns")
        with self._lock:
            for change in covered:
                self._returned.pop(change.number, None)
            kind = StepKind.FLUSH_FAILED if failed else StepKind.FLUSHED
            self.steps.append(Step(kind, covered=covered))
        if failed:
            assert self.fault is not None
            raise self.fault.error

    def extents(self, file_offset: int, length: int) -> Iterator[StoreExtent]:
        """Split a range into pages that exist and holes."""
        self.checkpoint("extents")
        with self._lock:
            end = file_offset + length
            runs = list(self.content.runs(file_offset, min(end, self.content.size)))
        position = file_offset
        for start, stop in runs:
            if start > position:
                yield StoreExtent(position, start - position, StoreKind.HOLE)
            yield StoreExtent(start, stop - start, StoreKind.DATA)
            position = stop
        if position < end:
            yield StoreExtent(position, end - position, StoreKind.HOLE)

    def fileno(self) -> int | None:
        """There is none."""
        return None

    def close(self) -> None:
        """Nothing to do."""
