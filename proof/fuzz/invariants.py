"""What must hold for every file, however hostile: examined by opening, checking and reading it in every way.

1. Nothing but VhdxError and OSError comes out.
2. The work done is bounded by formulas of what the file really holds and of what was asked (`work_limits`).
3. Nothing is written.
4. Memory is bounded (measured when asked for, because it is slow).
5. An image in which a check finds no error reads as the reference reader reads it, its extents and ranges
   tell the truth, and a strict open refuses nothing but what a check names.
"""

import tracemalloc
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from proof.fuzz.disk_invariants import DiskExamination
from proof.fuzz.examination_steps import ExaminationStep, InvariantError, Steps, counted_checksums
from proof.fuzz.work_limits import Limit, check_limit, open_limit, patched_sectors
from vhdx._units import MIB
from vhdx.disks.chain import open_disk
from vhdx.disks.image import Image
from vhdx.engine.opening import ReplayMode
from vhdx.errors import FormatError
from vhdx.findings import Finding
from vhdx.format.constants import MAX_BLOCK_FILE_OFFSET
from vhdx.ops.check import check
from vhdx.ops.dump import dump
from vhdx.ops.info import info
from vhdx.ops.probe import probe
from vhdx.rules import OnOpen, Severity
from vhdx.storage.base import ByteStore, StoreKind, pread, pread_zero_extended

__all__ = ["Examination", "ExaminationResult", "InvariantError", "examine"]

WHOLE_DISK: Final = 6 * MIB
"""Disks of up to so many bytes are read as a whole, larger ones in places."""
MEMORY_LIMIT: Final = 64 * MIB
"""Peak of one examination, what is read included, without the check's map of the file (one bit for a MiB)."""


class ExaminationResult(NamedTuple):
    """What became of a file that broke no invariant."""

    kind: str
    """"refused", "opened" (with errors known to check), "clean"."""
    refusal: str
    """Rule or exception with which opening the disk failed; empty if it did not."""
    codes: Counter[str]
    """Every rule that was named by any step."""
    reference: str
    """"equal", "not compared", or why the reference reader gave up."""


class Examination(Steps):
    """One chain, leaf first, under examination. The stores must not change meanwhile."""

    def __init__(self, stores: Sequence[ByteStore], seed: int = 0, whole_disk: int = WHOLE_DISK) -> None:
        super().__init__(stores)
        self._reading = DiskExamination(self, seed, whole_disk)

    def run(self, depth: int = 0) -> ExaminationResult:
        """Examine the file at `depth` by itself, and then the whole chain. Raises: InvariantError."""
        before = _fingerprint(self.originals[depth])
        with counted_checksums(self.work):
            tolerated = self._open_alone(depth)
            findings = self._check(depth)
            self._dump(depth)
            outcome = self._open_chain(depth, findings)
        self._agree(tolerated, findings)
        if _fingerprint(self.originals[depth]) != before:
            raise InvariantError("the file's content has changed")
        return outcome

    def _open_alone(self, depth: int) -> bool:
        """Open one file in every mode; tell whether the ordinary one took it."""
        store, facts = self.stores[depth], self.facts[depth]
        with self.step("probe", Limit(1024, 4, 0, 1024)):
            probe(pread(store, 512, 0))
        opened: list[bool] = []
        modes: tuple[tuple[ReplayMode, bool], ...] = (("auto", False), ("ignore", False), ("auto", True))
        for replay, strict in modes:
            limit = check_limit(facts, patched_sectors(facts)) if strict else open_limit(facts)
            with self.step(f"open {replay}{' strict' * strict}", limit) as step:
                image = Image.open(store, replay=replay, strict=strict)
                step.result = image
                self.note(image.findings)
                image.close()
            opened.append(step.result is not None)
            if strict and not opened[0] and opened[-1]:
                raise InvariantError("a strict open took what an ordinary one refused")
            if isinstance(step.result, Image) and replay == "auto" and not strict:
                with self.step("info", check_limit(facts, patched_sectors(facts))):
                    info(step.result)
        return opened[0]

    def _dump(self, depth: int) -> None:
        """Show every structure, sound or not."""
        table = check_limit(self.facts[depth], patched_sectors(self.facts[depth]))
        # Regions are shown as they are on disk, and once more as they are after replay.
        limit = Limit(3 * table.bytes_read, 3 * table.reads, 4 * table.bytes_checksummed, MIB)
        with self.step("dump", limit):
            for structure in dump(self.stores[depth]):
                self.note(structure.findings)
                str(structure)

    def _check(self, depth: int) -> list[Finding] | None:
        """Check one file; None if it cannot be judged."""
        limit = check_limit(self.facts[depth], patched_sectors(self.facts[depth]))
        findings: list[Finding] = []
        with self.step("check", limit) as step:
            findings.extend(check(self.stores[depth]).findings())
            step.result = findings
        self.note(findings)
        return findings if step.error is None else None

    def _agree(self, tolerated: bool, findings: list[Finding] | None) -> None:
        """Check and open must not contradict each other."""
        if findings is None:
            if tolerated:
                raise InvariantError("check cannot judge what open takes")
        elif not tolerated and all(finding.code.on_open is OnOpen.TOLERATE for finding in findings):
            raise InvariantError("open refuses what check finds nothing wrong with")

    def _open_chain(self, depth: int, findings: list[Finding] | None) -> ExaminationResult:
        limits = [open_limit(facts) for facts in self.facts]
        # Every store that was named is opened until the right one is met.
        limit = Limit(
            len(limits) * sum(limit.bytes_read for limit in limits),
            len(limits) * sum(limit.reads for limit in limits),
            len(limits) * sum(limit.bytes_checksummed for limit in limits),
            MIB,
        )
        with self.step("open chain", limit) as step:
            step.result = open_disk(self.stores[0], parents=self.stores[1:])
        disk = step.result if step.error is None else None
        if disk is None:
            return ExaminationResult("refused", _name_of(step), self.codes, "not compared")
        is_used = len(disk.images) > depth
        is_clean = is_used and findings is not None and not any(map(_is_error, findings))
        reference = self._reading.run(disk, is_clean=is_clean)
        self.note(disk.findings)
        return ExaminationResult("clean" if is_clean else "opened", "", self.codes, reference)


def examine(
    stores: Sequence[ByteStore],
    *,
    depth: int = 0,
    seed: int = 0,
    measure_memory: bool = False,
    whole_disk: int = WHOLE_DISK,
) -> ExaminationResult:
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
    claimed = MAX_BLOCK_FILE_OFFSET if "log-dirty" in outcome.codes else examination.facts[depth].size
    allowed = MEMORY_LIMIT + min(claimed, MAX_BLOCK_FILE_OFFSET) // MIB // 4
    if peak > allowed:
        raise InvariantError(f"{peak} bytes of memory, at most {allowed} allowed")
    return outcome


def _name_of(step: ExaminationStep) -> str:
    """What a step was refused by."""
    return step.error.code.value if isinstance(step.error, FormatError) else type(step.error).__name__


def _is_error(finding: Finding) -> bool:
    return finding.severity is Severity.ERROR


def _fingerprint(store: ByteStore) -> tuple[int, int]:
    """Length and checksum of what a store holds, holes left out."""
    crc = 0
    for extent in store.extents(0, store.size()):
        if extent.kind is not StoreKind.HOLE:
            crc = zlib.crc32(pread_zero_extended(store, extent.length, extent.file_offset), crc)
    return store.size(), crc
