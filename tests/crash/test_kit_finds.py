"""The kit finds what is wrong with a writer that only the less plain crashes show."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from proof.crash.bases import child, dynamic
from proof.crash.campaign import BRIEF, THOROUGH_POINTS, run_program
from proof.crash.faults import STANDARD_PROGRAM, FaultLoop
from proof.crash.subject import VhdxSubject
from proof.crash.threads import all_programs
from proof.crash.workloads import Workload, crash_run, record, try_record
from support.units import MIB
from vhdx._buffer import Buffer
from vhdx.blockdev.extent import Extent
from vhdx.engine.header_pair import HeaderPair
from vhdx.engine.session import log_writer
from vhdx.engine.session.header_writer import HeaderWriter
from vhdx.format.guids import ZERO_GUID
from vhdx.storage.base import ByteStore, pread, pread_zero_extended
from vhdx.testing.crash import (
    Call,
    Content,
    CrashDevice,
    CrashPlan,
    CrashSubject,
    CrashTally,
    DiskShape,
    MediaFault,
    Medium,
    Operation,
    Verb,
    try_crashes,
)

SHAPE = DiskShape(512, 512, is_fixed=True)
PLACES = (0, 4096)
WRITE, FLUSH = Operation(Verb.WRITE, 0, 512), Operation(Verb.FLUSH)


def page(sequence: int, data: bytes) -> bytes:
    """One copy of a toy: a checksum over two sectors, both of which change every time."""
    body = bytes([sequence % 256]) * 504 + data
    return struct.pack("<II", sequence, zlib.crc32(body, sequence)) + body


class TwinDisk:
    """Keeps one sector in two copies."""

    size = 512

    def __init__(self, store: ByteStore, subject: "TwinSubject") -> None:
        self.store, self.subject = store, subject
        self.copies = [self._load(place) for place in PLACES]
        good = [copy for copy in self.copies if copy is not None]
        if not good:
            raise OSError("both copies are bad")
        self.sequence, self.data = max(good)
        self.is_dirty = False

    def _load(self, place: int) -> tuple[int, bytes] | None:
        raw = pread_zero_extended(self.store, 1024, place)
        sequence, checksum = struct.unpack_from("<II", raw)
        return (sequence, raw[512:]) if zlib.crc32(raw[8:], sequence) == checksum else None

    def pread(self, length: int, offset: int) -> bytes:
        return self.data[offset : offset + length]

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, 512, zero=False, hole=False, present=True, depth=0, file_offset=None)

    def pwrite(self, data: Buffer, offset: int, *, fua: bool = False) -> None:
        self.data, self.is_dirty = bytes(data), True
        if fua:
            self.flush()

    def write_zeroes(
        self, length: int, offset: int, *, may_unmap: bool = True, fua: bool = False, fast_only: bool = False
    ) -> None:
        self.pwrite(bytes(length), offset, fua=fua)

    def trim(self, length: int, offset: int, *, fua: bool = False) -> None:
        pass

    def flush(self) -> None:
        if self.is_dirty:
            self.sequence += 1
            worst_first = sorted(
                (copy or (-1, b""), place) for copy, place in zip(self.copies, PLACES, strict=True)
            )
            for _, place in reversed(worst_first) if self.subject.good_first else worst_first:
                self.store.pwrite(page(self.sequence, self.data), place)
                if self.subject.flushes_between:
                    self.store.flush()
            self.copies, self.is_dirty = [(self.sequence, self.data)] * 2, False
        self.store.flush()

    def close(self) -> None:
        self.flush()


class TwinSubject(CrashSubject):
    """The toy of two copies, right as it stands."""

    def __init__(
        self, *, flushes_between: bool = True, good_first: bool = False, leaks_until_closed: bool = False
    ) -> None:
        self.flushes_between = flushes_between
        self.good_first = good_first
        self.leaks_until_closed = leaks_until_closed
        self.loses: Sequence[MediaFault] = ()

    def open(self, store: ByteStore, sync: object = None) -> CrashDevice:
        return TwinDisk(store, self)

    def faults(
        self, content: Content, *, after_crash: bool = False, fault: MediaFault | None = None
    ) -> Sequence[str]:
        further = content.read(1024, PLACES[0])[:4] == struct.pack("<I", 2)
        return ["a leak"] if self.leaks_until_closed and after_crash and further else []

    def media_faults(self) -> Sequence[MediaFault]:
        return self.loses


def start() -> Content:
    content = Content(size=8192)
    for place in PLACES:
        content.write(page(0, bytes(512)), place)
    return content


def crashed(subject: CrashSubject, *operations: Operation, nested_limit: int = 1) -> CrashTally:
    plan = CrashPlan(nested_limit=nested_limit)
    return try_crashes(subject, SHAPE, start(), operations, initial=Content(size=512), plan=plan)


def lost_copies() -> list[MediaFault]:
    return [MediaFault(f"copy at {place}", place, b"?" * 1024) for place in PLACES]


def test_the_kit_finds_nothing_wrong_with_the_right_toy() -> None:
    subject = TwinSubject()
    subject.loses = lost_copies()
    tally = crashed(subject, WRITE, FLUSH, WRITE, FLUSH)
    assert not tally.findings, str(tally.findings[0])
    assert tally.nested


def test_the_kit_finds_two_copies_that_are_torn_at_once() -> None:
    subject = TwinSubject(flushes_between=False)
    assert crashed(subject, WRITE, FLUSH, WRITE, FLUSH, nested_limit=0).findings


def test_the_kit_finds_the_good_copy_of_two_overwritten_first() -> None:
    """Only after the medium lost a copy and, in the write that follows, the power fails."""
    subject = TwinSubject(good_first=True)
    subject.loses = lost_copies()
    assert crashed(subject, WRITE, FLUSH, WRITE, FLUSH).findings
    assert not crashed(subject, WRITE, FLUSH, WRITE, FLUSH, nested_limit=0).findings


def test_the_kit_finds_a_fault_that_the_next_close_repairs() -> None:
    """It is there after the next flush, gone after the next close."""
    subject = TwinSubject(leaks_until_closed=True)
    assert crashed(subject, WRITE, FLUSH).findings


def is_found(workload: Workload, *, seeds: int, nested_limit: int = 0) -> bool:
    """Whether any of some brief runs finds something."""
    store, first = record(workload)
    for seed in range(seeds):
        run = crash_run(workload.base, CrashTally(), limits=BRIEF, nested_limit=nested_limit, seed=seed)
        try_record(run, workload, store, first, Medium(workload.base.content))
        if run.tally.findings:
            return True
    return False


def test_the_kit_finds_a_header_lost_beside_a_pending_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second header at a close shares its flush with the truncation: without the first, the log is back."""

    def end(self: log_writer.LogWriter) -> None:
        headers = self._headers
        headers._write_other({"log_guid": ZERO_GUID})
        store = headers._store
        with monkeypatch.context() as patch:
            patch.setattr(store, "flush", lambda: None)
            headers._write_other({"log_guid": ZERO_GUID})
        self._log_guid = None

    monkeypatch.setattr(log_writer.LogWriter, "end", end)
    writes = [Operation(Verb.WRITE, block * MIB, 512) for block in (1, 4, 2)]
    workload = Workload(child(), (*writes, FLUSH), closes=True, last_only=True)
    assert is_found(workload, seeds=4)


def test_the_kit_finds_the_good_header_overwritten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    right = HeaderWriter.__init__

    def init(self: HeaderWriter, store: ByteStore, pair: HeaderPair) -> None:
        right(self, store, pair)
        if None in pair.slots:
            self._current_index = 1 - pair.current_index

    monkeypatch.setattr(HeaderWriter, "__init__", init)
    workload = Workload(dynamic(), (Operation(Verb.WRITE, MIB + 4096, 512), FLUSH), closes=True)
    assert is_found(workload, seeds=2, nested_limit=2)


def test_what_follows_a_crash_of_threads_is_crashed_in_a_thorough_run() -> None:
    program = next(all_programs())
    assert run_program(program, 2, points=THOROUGH_POINTS).nested
    assert not run_program(program, 2).nested


class ThriftyStore:
    """Leaves out what a process sees in its place already."""

    def __init__(self, store: ByteStore) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def pwrite(self, data: Buffer, file_offset: int) -> None:
        length = memoryview(data).nbytes
        if file_offset + length > self.store.size() or pread(self.store, length, file_offset) != data:
            self.store.pwrite(data, file_offset)


class ThriftySubject(VhdxSubject):
    def open(self, store: ByteStore, sync: object = None) -> CrashDevice:
        return super().open(cast(ByteStore, ThriftyStore(store)), sync)


def test_the_kit_finds_a_process_that_takes_what_a_failed_flush_lost_for_written() -> None:
    """It reads what never became durable, and empties the log that has it."""
    base = replace(dynamic(), subject=ThriftySubject())
    assert not FaultLoop(base, STANDARD_PROGRAM).run(Call.PWRITE, OSError).findings
    assert FaultLoop(base, STANDARD_PROGRAM).run(Call.FLUSH, OSError).findings
