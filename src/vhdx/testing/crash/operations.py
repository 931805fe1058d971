"""Operations on a disk under test, done by a driver that marks them in the record of the store."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import product
from random import Random
from typing import Final

from vhdx.testing.crash.history import SESSION_BEGINS, Action, ActionPhase, Mark, ZeroedSectors
from vhdx.testing.crash.pages import SECTOR_SIZE
from vhdx.testing.crash.read_check import ReadMark
from vhdx.testing.crash.recording_store import Call, RecordingStore
from vhdx.testing.crash.stamps import FIRST, stamped_sectors
from vhdx.testing.crash.subject import CrashDevice, CrashSubject

MAX_WHOLE_WRITE: Final = 1 << 20
"""Larger blocks are not written as a whole: their states would take all the time there is."""


class Verb(Enum):
    """What can be asked of a disk."""

    WRITE = "write"
    FUA = "write with force unit access"
    ZERO = "zero"
    FILL = "fill with zeroes"
    """Zero without giving space up."""
    TRIM = "trim"
    ZERO_FUA = "zero with force unit access"
    TRIM_FUA = "trim with force unit access"
    READ = "read"
    FLUSH = "flush"
    REOPEN = "reopen"
    KILL = "kill"
    """The process dies without a further call of the store, and another one opens the file."""


_DURABLE: Final = frozenset({Verb.FUA, Verb.ZERO_FUA, Verb.TRIM_FUA})
_CHANGING: Final = frozenset(call.value for call in Call) - {Call.PREAD.value, Call.RESERVE.value}
"""Calls of a store before which a kill makes a difference."""


class _KilledError(BaseException):
    """The process ends here."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One request. Offset and length in bytes of the disk."""

    verb: Verb
    offset: int = 0
    length: int = 0
    killed_at: int = 0
    """The process is killed before this call of the store that changes or flushes it, counted from 1; 0: it is not.

    If it does not come to that, it is killed afterwards.
    """

    def __str__(self) -> str:
        where = f" {self.length:#x} at {self.offset:#x}" if self.length else ""
        return f"{self.verb.value}{where}{f', killed at call {self.killed_at}' if self.killed_at else ''}"


@dataclass(frozen=True, slots=True)
class DiskShape:
    """What of a disk decides what an operation means. Bytes."""

    size: int
    block_size: int
    is_fixed: bool = False
    """Trimming changes nothing."""

    @property
    def block_count(self) -> int:
        """Blocks, the last one possibly cut short."""
        return -(-self.size // self.block_size)

    def whole_blocks(self, offset: int, length: int) -> range:
        """Virtual offset // 512 of the whole blocks in a range; the disk's end ends a block."""
        end = offset + length
        first = -(-offset // self.block_size) * self.block_size
        last = end if end == self.size else end // self.block_size * self.block_size
        return range(first // SECTOR_SIZE, max(first, last) // SECTOR_SIZE)


class Driver:
    """Does operations on a device over a recording store. Several threads may use one."""

    def __init__(
        self,
        subject: CrashSubject,
        store: RecordingStore,
        shape: DiskShape,
        *,
        sync: object = None,
        first_number: int = 1,
    ) -> None:
        """Open the store for writing."""
        self.subject = subject
        self.store = store
        self.shape = shape
        self.sync = sync
        self.sessions = 1
        self._next = first_number
        self.device: CrashDevice = subject.open(store, sync)

    def perform(self, operation: Operation) -> bytes | None:
        """Do an operation; a read returns what it read. Raises: what the device does."""
        if operation.verb is Verb.READ:
            begun = len(self.store.steps)
            found = self.device.pread(operation.length, operation.offset)
            self.store.mark(ReadMark(begun, operation.offset, found))
            return found
        if operation.verb is Verb.KILL:
            self._kill()
            return None
        action, data = self._action(self._number(), operation)
        self.store.mark(Mark(ActionPhase.BEGUN, action))
        try:
            with _killed_at(self.store, operation.killed_at):
                self._call(operation, data)
            self.store.mark(Mark(ActionPhase.ENDED, action))
        except _KilledError:
            pass
        except BaseException:
            self.store.mark(Mark(ActionPhase.FAILED, action))
            raise
        if operation.killed_at:
            self._kill()
        elif operation.verb is Verb.REOPEN:
            self._open()
        return None

    def perform_all(self, operations: Iterable[Operation]) -> None:
        """Do operations one after the other. Raises: as `perform`."""
        for operation in operations:
            self.perform(operation)

    def _call(self, operation: Operation, data: bytes) -> None:
        """Ask the device for it."""
        device, offset, length = self.device, operation.offset, operation.length
        fua = operation.verb in _DURABLE
        match operation.verb:
            case Verb.WRITE | Verb.FUA:
                device.pwrite(data, offset, fua=fua)
            case Verb.ZERO | Verb.ZERO_FUA | Verb.FILL:
                device.write_zeroes(length, offset, may_unmap=operation.verb is not Verb.FILL, fua=fua)
            case Verb.TRIM | Verb.TRIM_FUA:
                device.trim(length, offset, fua=fua)
            case Verb.FLUSH:
                device.flush()
            case Verb.REOPEN:
                device.close()

    def _kill(self) -> None:
        """Go on as another process: the store keeps what is pending, the device is never heard of again."""
        self.store.mark(Mark(ActionPhase.KILLED, Action(self._number(), "kill")))
        self._open()

    def _open(self) -> None:
        self.store.mark(SESSION_BEGINS)
        self.device = self.subject.open(self.store, self.sync)
        self.sessions += 1

    def _number(self) -> int:
        number = self._next
        self._next += 1
        return number

    def _action(self, number: int, operation: Operation) -> tuple[Action, bytes]:
        offset, length = operation.offset, operation.length
        sectors: Mapping[int, bytes] = {}
        data = b""
        match operation.verb:
            case Verb.WRITE | Verb.FUA:
                data = stamped_sectors(number, offset, length, FIRST + self.sessions)
                first = offset // SECTOR_SIZE
                sectors = {
                    first + index: data[at : at + SECTOR_SIZE]
                    for index, at in enumerate(range(0, length, SECTOR_SIZE))
                }
            case Verb.ZERO | Verb.ZERO_FUA | Verb.FILL:
                zeroed = range(offset // SECTOR_SIZE, (offset + length) // SECTOR_SIZE)
                sectors = ZeroedSectors(zeroed)
            case Verb.TRIM | Verb.TRIM_FUA if not self.shape.is_fixed:
                sectors = ZeroedSectors(self.shape.whole_blocks(offset, length))
            case _:
                pass
        flushes = operation.verb in (Verb.FLUSH, Verb.REOPEN)
        return Action(number, str(operation), sectors, flushes, operation.verb in _DURABLE), data

    def close(self) -> None:
        """Close the device; like a flush, that makes everything durable. Raises: what the device does."""
        action = Action(self._number(), "close", flushes=True)
        self.store.mark(Mark(ActionPhase.BEGUN, action))
        try:
            self.device.close()
        except BaseException:
            self.store.mark(Mark(ActionPhase.FAILED, action))
            raise
        self.store.mark(Mark(ActionPhase.ENDED, action))


@contextmanager
def _killed_at(store: RecordingStore, number: int) -> Iterator[None]:
    """Let no call pass that changes or flushes a store, from the one with this number on; 0: let all pass."""
    if not number:
        yield
        return
    usual, count = store.checkpoint, 0

    def checkpoint(label: str) -> None:
        nonlocal count
        count += label in _CHANGING
        if count >= number:
            raise _KilledError
        usual(label)

    store.checkpoint = checkpoint
    try:
        yield
    finally:
        store.checkpoint = usual


def block_operations(shape: DiskShape, block: int) -> list[Operation]:
    """What can be done to one block: part, whole, across its end, zero, trim, force unit access."""
    start = block * shape.block_size
    length = min(shape.block_size, shape.size - start)
    part = min(8 * SECTOR_SIZE, length)
    if length > MAX_WHOLE_WRITE:
        whole = Operation(Verb.WRITE, start + length // 2, MAX_WHOLE_WRITE // 8)
    else:
        whole = Operation(Verb.WRITE, start, length)
    across = min(16 * SECTOR_SIZE, shape.size - start - length + 8 * SECTOR_SIZE)
    return [
        Operation(Verb.WRITE, start + min(4096, length - part), part),
        whole,
        Operation(Verb.WRITE, start + length - 8 * SECTOR_SIZE, across),
        Operation(Verb.ZERO, start, length),
        Operation(Verb.TRIM, start, length),
        Operation(Verb.FUA, start + min(6144, length - part), part),
    ]


def _durable_zeroes(shape: DiskShape, block: int) -> list[Operation]:
    """What else can be done to one block: part of it zeroed, or all of it given up, with force unit access."""
    start = block * shape.block_size
    length = min(shape.block_size, shape.size - start)
    return [
        Operation(Verb.ZERO_FUA, start, min(8 * SECTOR_SIZE, length)),
        Operation(Verb.TRIM_FUA, start, length),
    ]


def short_sequences(shape: DiskShape, blocks: Sequence[int], length: int) -> Iterator[tuple[Operation, ...]]:
    """Every sequence of exactly `length` operations on some blocks, flushes and reopenings.

    Sequences of three are too many to have zeroes with force unit access in them, too.
    """
    single = [operation for block in blocks for operation in block_operations(shape, block)]
    if length < 3:
        single += [operation for block in blocks for operation in _durable_zeroes(shape, block)]
    single += [Operation(Verb.FLUSH), Operation(Verb.REOPEN)]
    yield from product(single, repeat=length)


def random_sequence(shape: DiskShape, length: int, seed: int, unit: int = 4096) -> tuple[Operation, ...]:
    """A sequence of random operations, at multiples of 512 bytes; most are short and near block ends."""
    rng = Random(seed)
    verbs = [Verb.WRITE] * 6 + [Verb.FUA, Verb.ZERO, Verb.ZERO, Verb.FILL, Verb.TRIM, Verb.TRIM]
    verbs += [Verb.FLUSH, Verb.FLUSH, Verb.ZERO_FUA, Verb.TRIM_FUA]
    found: list[Operation] = []
    while len(found) < length:
        verb = rng.choice((Verb.REOPEN, Verb.KILL)) if rng.random() < 0.08 else rng.choice(verbs)
        killed_at = rng.randrange(1, 12) if rng.random() < 0.04 else 0
        if verb in (Verb.FLUSH, Verb.REOPEN, Verb.KILL):
            found.append(Operation(verb, killed_at=killed_at))
            continue
        block = rng.randrange(shape.block_count)
        start = block * shape.block_size
        end = min(start + shape.block_size, shape.size)
        is_large = verb is Verb.FILL and shape.block_size > MAX_WHOLE_WRITE
        if verb in (Verb.TRIM, Verb.TRIM_FUA) or (rng.random() < 0.15 and not is_large):
            offset, stop = start, end
        else:
            at = rng.choice((start, end - 2 * unit, start + rng.randrange((end - start) // unit) * unit))
            offset = max(0, at + rng.choice((0, 0, SECTOR_SIZE, -SECTOR_SIZE)))
            stop = min(shape.size, offset + rng.choice((SECTOR_SIZE, unit, unit, 3 * unit)))
        found.append(Operation(verb, offset, stop - offset, killed_at))
    return tuple(found)
