"""A writing process that is killed again and again: whatever it had flushed is there, for QEMU as for us.

    python -m proof.crash.killing FOLDER --rounds 500 [--seed 1]

The writer puts stamps into the image and says after every flush how far it came. It is killed (SIGKILL) at a
random moment; then the image is judged: no fault, every sector at least as new as the last flush that was
told, and after `qemu-img check -r all` of a copy the same bytes as through our replay. The next round goes on
with the same image.
"""

import argparse
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import vhdx
from vhdx._units import MIB
from vhdx.ops.check import check
from vhdx.ops.compare import compare
from vhdx.ops.create import create
from vhdx.rules import Severity
from vhdx.testing.crash import SECTOR_SIZE, ZERO_SECTOR, Stamp, describe_sector, stamped_sectors

_CHECKOUT = Path(__file__).parents[2]
"""Where `python -m proof...` is found."""
SIZE = 24 * MIB + 4096
BLOCK_SIZE = MIB


class DiskRequest(NamedTuple):
    """One request; `length` 0 is a flush."""

    number: int
    offset: int
    length: int
    zeroes: bool

    @property
    def sectors(self) -> range:
        """Virtual offset // 512 of what it changes."""
        return range(self.offset // SECTOR_SIZE, (self.offset + self.length) // SECTOR_SIZE)


class Part(NamedTuple):
    """What one of those who wrote at the same time did before they were killed."""

    operations: Sequence[DiskRequest]
    """All that it did, or may have done."""
    last_flush: int
    """Operations with a smaller number were there when a flush began that has returned."""


Attack = Callable[[Path, random.Random, int], Sequence[Part]]
"""Writes to an image, with stamps of this generation, until it is killed."""


def operations(seed: int, count: int) -> list[DiskRequest]:
    """What the writer does, the same for the one who judges it."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        draw = chance.random()
        if draw < 0.25:
            found.append(DiskRequest(number, 0, 0, False))
        elif draw < 0.4:
            block = chance.randrange(SIZE // BLOCK_SIZE)
            found.append(DiskRequest(number, block * BLOCK_SIZE, BLOCK_SIZE, True))
        else:
            offset = chance.randrange(SIZE - 16384) & ~511
            found.append(DiskRequest(number, offset, 512 * chance.choice((1, 3, 8, 32)), False))
    return found


def write(path: Path, seed: int, count: int, generation: int) -> None:
    """Be the writer: tell the number of every flush that has returned."""
    with vhdx.open(path, "r+") as disk:
        for operation in operations(seed, count):
            if not operation.length:
                disk.flush()
                print(operation.number, flush=True)
            elif operation.zeroes and operation.number % 2:
                disk.trim(operation.length, operation.offset)
            elif operation.zeroes:
                disk.write_zeroes(operation.length, operation.offset)
            else:
                data = stamped_sectors(operation.number, operation.offset, operation.length, generation)
                disk.pwrite(data, operation.offset)


class Judge:
    """Knows what each sector may hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.allowed: list[set[bytes]] = [{ZERO_SECTOR} for _ in range(SIZE // SECTOR_SIZE)]

    def note(self, part: Part, generation: int) -> None:
        """Take account of what a writer did, or may have done, after which flush."""
        done, last_flush = part
        for operation in done:
            for sector in operation.sectors:
                content = (
                    ZERO_SECTOR if operation.zeroes else Stamp(operation.number, sector, generation).encode()
                )
                if operation.number < last_flush:
                    self.allowed[sector] = {content}
                else:
                    self.allowed[sector].add(content)

    def examine(self) -> None:
        """Judge the image, and from then on expect what it holds. Raises: AssertionError."""
        faults = [f for f in check(self.path).findings() if f.severity in (Severity.ERROR, Severity.LEAK)]
        assert not faults, faults
        with vhdx.open(self.path) as disk:
            content = disk.pread(SIZE, 0)
        for sector, allowed in enumerate(self.allowed):
            found = content[sector * SECTOR_SIZE : (sector + 1) * SECTOR_SIZE]
            if found not in allowed:
                expected = [describe_sector(each, sector) for each in allowed]
                raise AssertionError(
                    f"sector {sector}: {describe_sector(found, sector)}, not one of {expected}"
                )
            self.allowed[sector] = {found}

    def examine_with_qemu(self) -> None:
        """Let QEMU replay a copy, and compare. Raises: AssertionError."""
        copy = self.path.with_suffix(".copy.vhdx")
        shutil.copyfile(self.path, copy)
        for options in (["-r", "all"], []):
            done = subprocess.run(
                ["qemu-img", "check", *options, str(copy)], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
        with vhdx.open(self.path) as ours, vhdx.open(copy) as theirs:
            assert not theirs.is_dirty
            difference = compare(ours, theirs)
            assert difference is None, difference
        copy.unlink()


def kill_rounds(
    folder: Path, rounds: int, *, seed: int = 1, with_qemu: bool = True, attack: Attack | None = None
) -> int:
    """Kill a writer again and again; return how often it left a dirty log. Raises: AssertionError.

    The writer is a process with the image open, unless another way to `attack` it is given.
    """
    path = folder / "killed.vhdx"
    create(path, SIZE, block_size=BLOCK_SIZE)
    judge = Judge(path)
    chance = random.Random(seed)
    dirty = 0
    for generation in range(10, 10 + rounds):
        for part in (attack or run_and_kill)(path, chance, generation):
            judge.note(part, generation)
        with vhdx.open(path) as disk:
            dirty += disk.is_dirty
        if with_qemu:
            judge.examine_with_qemu()
        judge.examine()
    return dirty


def run_and_kill(path: Path, chance: random.Random, generation: int) -> list[Part]:
    """Run a writer and kill it some time after a random flush."""
    seed, count = chance.randrange(1 << 32), 4000
    command = [
        sys.executable,
        "-m",
        "proof.crash.killing",
        "--write",
        str(path.resolve()),
        str(seed),
        str(count),
        str(generation),
    ]
    last = -1
    patience, delay = chance.randrange(1, 60), chance.random() * 0.004
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_CHECKOUT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = int(line)
            patience -= 1
            if patience == 0:
                time.sleep(delay)
                process.kill()
    assert process.returncode == -9, "the writer failed or came to its end"
    return [Part(operations(seed, count), last)]


def main() -> None:
    """Command line."""
    if sys.argv[1:2] == ["--write"]:
        path, seed, count, generation = sys.argv[2:]
        write(Path(path), int(seed), int(count), int(generation))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    has_qemu = shutil.which("qemu-img") is not None
    dirty = kill_rounds(arguments.folder, arguments.rounds, seed=arguments.seed, with_qemu=has_qemu)
    print(f"{arguments.rounds} rounds, {dirty} left a dirty log; nothing that was flushed was lost")


if __name__ == "__main__":
    main()
