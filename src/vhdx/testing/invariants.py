"""What must hold for every file, however hostile: examined by opening, checking and reading it in every way.

1. Nothing but VhdxError and OSError comes out.
2. The work done is bounded by formulas of what the file really holds and of what was asked (`work_limits`).
3. Nothing is written.
4. Memory is bounded (measured when asked for, because it is slow).
5. An image in which a check finds no error reads as the reference reader reads it, its extents and ranges
   tell the truth, and a strict open refuses nothing but what a check names.
"""

import random
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final, NamedTuple

from vhdx._units import MIB
from vhdx.blockdev.device import ZERO
from vhdx.chain import Disk, open_disk
from vhdx.engine.opening import ReplayMode
from vhdx.errors import FormatError, VhdxError
from vhdx.image import Image
from vhdx.ops.check import check_image
from vhdx.ops.info import image_info
from vhdx.ops.probe import probe
from vhdx.report import Finding
from vhdx.rules import RULES, OnOpen, Severity
from vhdx.storage.base import ByteStore, StoreKind, pread, pread_zero_extended
from vhdx.testing.counting_store import CountingStore, Work, counted_checksums
from vhdx.testing.quick_reference import QuickDisk
from vhdx.testing.work_limits import (
    FileFacts,
    Limit,
    check_limit,
    facts_of,
    metadata_limit,
    open_limit,
    read_limit,
)

WHOLE_DISK: Final = 6 * MIB
"""Disks of up to so many bytes are read as a whole, larger ones in places."""
MAX_EXTENTS: Final = 4000
MEMORY_LIMIT: Final = 64 * MIB
"""Peak of one examination, what is read included, without the check's map of the file (one bit for a MiB)."""


class InvariantError(AssertionError):
    """A file made the library do what it must never do."""


class Outcome(NamedTuple):
    """What became of a file that broke no invariant."""

    kind: str
    """"refused", "opened" (with errors known to check), "clean"."""
    refusal: str
    """Rule or exception with which opening the disk failed; empty if it did not."""
    codes: Counter[str]
    """Every rule that was named by any step."""
    reference: str
    """"equal", "not compared", or why the reference reader gave up."""


class Examination:
    """One chain, leaf first, under examination. The stores must not change meanwhile."""

    def __init__(self, stores: Sequence[ByteStore], seed: int = 0, whole_disk: int = WHOLE_DISK) -> None:
        self.work = Work()
        self.whole_disk = whole_disk
        self.originals = tuple(stores)
        self.stores = [CountingStore(store, self.work) for store in stores]
        self.facts = [facts_of(store) for store in stores]
        self.chance = random.Random(f"examination {seed}")
        self.codes: Counter[str] = Counter()

    def run(self, depth: int = 0) -> Outcome:
        """Examine the file at `depth` by itself, and then the whole chain. Raises: InvariantError."""
        before = _fingerprint(self.originals[depth])
        with counted_checksums(self.work):
            tolerated = self._open_alone(depth)
            findings = self._check(depth)
            outcome = self._open_chain(depth, findings)
        self._agree(tolerated, findings)
        if _fingerprint(self.originals[depth]) != before:
            raise InvariantError("the file's content has changed")
        return outcome

    # One file

    def _open_alone(self, depth: int) -> bool:
        """Open one file in every mode; tell whether the ordinary one took it."""
        store, facts = self.stores[depth], self.facts[depth]
        with self._step("probe", Limit(1024, 4, 0, 1024)):
            probe(pread(store, 512, 0))
        opened: list[bool] = []
        modes: tuple[tuple[ReplayMode, bool], ...] = (("auto", False), ("ignore", False), ("auto", True))
        for replay, strict in modes:
            limit = check_limit(facts, self._patches(facts)) if strict else open_limit(facts)
            with self._step(f"open {replay}{' strict' * strict}", limit) as step:
                image = Image.open(store, replay=replay, strict=strict)
                step.result = image
                self._note(image.findings)
                image.close()
            opened.append(step.result is not None)
            if strict and opened[0] and step.error is None and not opened[-1]:
                raise InvariantError("a strict open failed without an error")
            if strict and not opened[0] and opened[-1]:
                raise InvariantError("a strict open took what an ordinary one refused")
            if isinstance(step.result, Image) and replay == "auto" and not strict:
                with self._step("info", check_limit(facts, self._patches(facts))):
                    image_info(step.result)
        return opened[0]

    def _check(self, depth: int) -> list[Finding] | None:
        """Check one file; None if it cannot be judged."""
        limit = check_limit(self.facts[depth], self._patches(self.facts[depth]))
        findings: list[Finding] = []
        with self._step("check", limit) as step:
            findings.extend(check_image(self.stores[depth]).findings())
            step.result = findings
        self._note(findings)
        return findings if step.error is None else None

    def _agree(self, tolerated: bool, findings: list[Finding] | None) -> None:
        """Check and open must not contradict each other."""
        if findings is None or not tolerated:
            refused = findings is None or any(
                RULES[finding.code].on_open is not OnOpen.TOLERATE for finding in findings
            )
            if not refused:
                raise InvariantError("open refuses what check finds nothing wrong with")
            if findings is None and tolerated:
                raise InvariantError("check cannot judge what open takes")

    @staticmethod
    def _patches(facts: FileFacts) -> int:
        """Sectors that a log of this size can replace, at the most."""
        return facts.log_data // 4096

    # The chain

    def _open_chain(self, depth: int, findings: list[Finding] | None) -> Outcome:
        limits = [open_limit(facts) for facts in self.facts]
        # Every store that was named is opened until the right one is met.
        limit = Limit(
            len(limits) * sum(limit.bytes_read for limit in limits),
            len(limits) * sum(limit.reads for limit in limits),
            len(limits) * sum(limit.bytes_checksummed for limit in limits),
            MIB,
        )
        with self._step("open chain", limit) as step:
            step.result = open_disk(self.stores[0], parents=self.stores[1:])
        disk = step.result
        if not isinstance(disk, Disk):
            error = step.error
            name = error.code.value if isinstance(error, FormatError) else type(error).__name__
            return Outcome("refused", name, self.codes, "not compared")
        is_used = len(disk.images) > depth
        is_clean = is_used and findings is not None and not any(map(_is_error, findings))
        reference = self._read(disk, is_clean)
        self._note(disk.findings)
        return Outcome("clean" if is_clean else "opened", "", self.codes, reference)

    def _read(self, disk: Disk, is_clean: bool) -> str:
        """Read the disk in every way; compare if it is clean."""
        quick = _reference(self.originals[: len(disk.images)]) if is_clean else "not compared"
        self._look(disk)
        for offset, length in self._requests(disk.size):
            data = self._pread(disk, offset, length)
            if data is None:
                if is_clean:
                    raise InvariantError(f"{length} bytes at {offset} cannot be read though check is clean")
                continue
            self._compare_ranges(disk, offset, data)
            if is_clean or length <= 64 * 1024:
                self._compare_extents(disk, offset, data)
            if isinstance(quick, QuickDisk):
                _compare(quick, offset, data)
        return "equal" if isinstance(quick, QuickDisk) else quick

    def _requests(self, size: int) -> Iterator[tuple[int, int]]:
        if size <= self.whole_disk:
            yield 0, size
        else:
            part = self.whole_disk // 3
            yield 0, part
            yield size - part, part
        for _ in range(6):
            near = self.chance.choice((0, size, self.chance.randrange(size) // MIB * MIB))
            offset = min(max(near + self.chance.randint(-9000, 9000), 0), size)
            yield offset, min(self.chance.choice((0, 1, 511, 5000, 70000)), size - offset)

    def _limits(self, disk: Disk, length: int) -> tuple[Limit, Limit]:
        smallest = min(image.block_size for image in disk.images)
        geometry = (length, smallest, disk.logical_sector_size, len(disk.images))
        return metadata_limit(*geometry), read_limit(*geometry)

    def _pread(self, disk: Disk, offset: int, length: int) -> bytes | None:
        with self._step(f"read {length} at {offset}", self._limits(disk, length)[1]) as step:
            step.result = disk.pread(length, offset)
        return step.result if isinstance(step.result, bytes) else None

    def _look(self, disk: Disk) -> None:
        """Walk the extents of the whole disk, as far as there is an end to it."""
        limits = [check_limit(facts, self._patches(facts)) for facts in self.facts]
        limit = Limit(
            sum(limit.bytes_read for limit in limits) + 64 * 4096 * MAX_EXTENTS,
            sum(limit.reads for limit in limits) + 64 * MAX_EXTENTS,
            0,
            MIB,
        )
        position = 0
        with self._step("extents", limit):
            for extent in islice(disk.extents(), MAX_EXTENTS):
                if extent.offset != position or extent.length <= 0:
                    raise InvariantError(f"{extent} does not go on from {position}")
                position = extent.end
            if position > disk.size:
                raise InvariantError(f"extents end at {position} of {disk.size}")

    def _compare_extents(self, disk: Disk, offset: int, data: bytes) -> None:
        with self._step("extents of a range", self._limits(disk, len(data))[0]) as step:
            step.result = list(disk.extents(offset, len(data)))
        if step.error is not None:
            raise InvariantError(f"what can be read has no extents: {step.error}")
        for extent in step.result:
            part = data[extent.offset - offset : extent.end - offset]
            if extent.zero and part.count(0) != len(part):
                raise InvariantError(f"{extent} is said to be zero and is not")
            if extent.file_offset is not None:
                stored = pread_zero_extended(
                    disk.images[extent.depth].store, extent.length, extent.file_offset
                )
                if stored != part:
                    raise InvariantError(f"{extent} does not lie where it is said to")

    def _compare_ranges(self, disk: Disk, offset: int, data: bytes) -> None:
        with (
            self._step("ranges", self._limits(disk, len(data))[0]) as step,
            disk.ranges(offset, len(data)) as ranges,
        ):
            step.result = list(ranges)
        if step.error is not None:
            raise InvariantError(f"what can be read has no ranges: {step.error}")
        pieces = [
            bytes(piece.length)
            if piece.store is ZERO
            else pread_zero_extended(piece.store, piece.length, piece.file_offset)
            for piece in step.result
        ]
        if b"".join(pieces) != data:
            raise InvariantError(f"ranges of {len(data)} bytes at {offset} hold something else")

    # Steps

    @contextmanager
    def _step(self, name: str, limit: Limit) -> Iterator["_Step"]:
        """Bound what a step does, and what it may raise."""
        step = _Step()
        self.work.clear()
        try:
            yield step
        except InvariantError:
            raise
        except (VhdxError, OSError) as error:
            step.error = error
            if isinstance(error, FormatError):
                self.codes[error.code.value] += 1
            str(error)
        except Exception as error:
            raise InvariantError(f"{name}: {type(error).__name__} escaped: {error}") from error
        breach = limit.breach(self.work)
        if breach is not None:
            raise InvariantError(f"{name}: {breach}")

    def _note(self, findings: Sequence[Finding]) -> None:
        self.codes.update(finding.code.value for finding in findings)
        for finding in findings:
            str(finding)


class _Step:
    """What a step gave: a result, or an error that is allowed."""

    def __init__(self) -> None:
        self.result: object = None
        self.error: VhdxError | OSError | None = None


def examine(
    stores: Sequence[ByteStore],
    *,
    depth: int = 0,
    seed: int = 0,
    measure_memory: bool = False,
    whole_disk: int = WHOLE_DISK,
) -> Outcome:
    """Examine a chain of files, leaf first, of which the one at `depth` is suspected.

    `seed` decides which requests are made; `whole_disk` is the size up to which disks are read as a whole.

    Raises: InvariantError.
    """
    examination = Examination(stores, seed, whole_disk)
    if not measure_memory:
        return examination.run(depth)
    tracemalloc.start()
    try:
        outcome = examination.run(depth)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A replay can claim a file of 256 TiB, whose map takes 32 MiB; counting its bits takes as much again.
    allowed = (
        MEMORY_LIMIT + 64 * MIB * ("log-dirty" in outcome.codes) + examination.facts[depth].size // MIB // 4
    )
    if peak > allowed:
        raise InvariantError(f"{peak} bytes of memory, at most {allowed} allowed")
    return outcome


def _is_error(finding: Finding) -> bool:
    return finding.severity is Severity.ERROR


def _fingerprint(store: ByteStore) -> tuple[int, int]:
    """Length and checksum of what a store holds, holes left out."""
    crc = 0
    for extent in store.extents(0, store.size()):
        if extent.kind is not StoreKind.HOLE:
            crc = zlib.crc32(pread_zero_extended(store, extent.length, extent.file_offset), crc)
    return store.size(), crc


def _reference(stores: Sequence[ByteStore]) -> QuickDisk | str:
    """A reference reader of the chain, or why there is none."""
    try:
        return QuickDisk(stores)
    except (ValueError, KeyError, StopIteration) as error:
        return f"gave up: {error}"


def _compare(quick: QuickDisk, offset: int, data: bytes) -> None:
    try:
        expected = quick.read(offset, len(data))
    except ValueError as error:
        raise InvariantError(f"the reference reader cannot read {len(data)} at {offset}: {error}") from error
    if expected != data:
        first = next(at for at, (a, b) in enumerate(zip(expected, data, strict=True)) if a != b)
        raise InvariantError(f"{len(data)} bytes at {offset} differ from the reference at {offset + first}")
