"""What must hold for reading a disk: the same bytes by every way, and the reference's if its files are clean."""

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from proof.fuzz.examination_steps import InvariantError, Steps
from proof.fuzz.work_limits import (
    Limit,
    check_limit,
    metadata_limit,
    patched_sectors,
    read_limit,
    walk_limit,
)
from vhdx._units import MIB
from vhdx.blockdev.device import ZERO
from vhdx.disks.chain import Disk
from vhdx.storage.base import ByteStore, pread_zero_extended
from vhdx.testing.image import QuickDisk

MAX_EXTENTS: Final = 4000


class DiskExamination:
    """Reads a disk in every way. Disks of up to `whole_disk` bytes are read as a whole, others in places."""

    def __init__(self, steps: Steps, seed: int, whole_disk: int) -> None:
        self.steps = steps
        self.whole_disk = whole_disk
        self.chance = random.Random(f"examination {seed}")

    def run(self, disk: Disk, *, is_clean: bool) -> str:
        """Read the disk in every way; compare if it is clean."""
        quick = _reference(self.steps.originals[: len(disk.images)]) if is_clean else "not compared"
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

    @staticmethod
    def _geometry(disk: Disk) -> tuple[int, int, int]:
        smallest = min(image.block_size for image in disk.images)
        return smallest, disk.logical_sector_size, len(disk.images)

    def _pread(self, disk: Disk, offset: int, length: int) -> bytes | None:
        with self.steps.step(f"read {length} at {offset}", read_limit(length, *self._geometry(disk))) as step:
            step.result = disk.pread(length, offset)
        return step.result if isinstance(step.result, bytes) else None

    def _look(self, disk: Disk) -> None:
        """Walk the extents of the whole disk, as far as there is an end to it."""
        position = count = 0
        with self.steps.step("extents", None) as step:
            for extent in islice(disk.extents(), MAX_EXTENTS):
                if extent.offset != position or extent.length <= 0:
                    raise InvariantError(f"{extent} does not go on from {position}")
                position, count = extent.end, count + 1
        if position > disk.size or (step.error is None and position < disk.size and count < MAX_EXTENTS):
            raise InvariantError(f"extents end at {position} of {disk.size}")
        tables = [check_limit(facts, patched_sectors(facts)) for facts in self.steps.facts]
        walking = walk_limit(position, count, *self._geometry(disk))
        reads = sum(table.reads for table in tables) + walking.reads
        size = sum(table.bytes_read for table in tables) + walking.bytes_read
        self.steps.bound("extents", Limit(size, reads, 0, MIB))

    def _compare_extents(self, disk: Disk, offset: int, data: bytes) -> None:
        with self.steps.step("extents of a range", metadata_limit(len(data), *self._geometry(disk))) as step:
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
            self.steps.step("ranges", metadata_limit(len(data), *self._geometry(disk))) as step,
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
