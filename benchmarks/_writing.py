"""Writing jobs: one file of commands in qemu-io's words that qemu-io and `_write_job.py` both carry out.

Both processes are measured from start to end, image opened and closed. Flushes that reach the device are counted
by strace in a run of their own.
"""

import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import _pair
from _pair import Contender, need

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass
class Writing(Contender):
    """A contender that gets its image made anew before every run, outside the clock."""

    prepare: Callable[[], object] = lambda: None

    def _clean(self) -> None:
        self.prepare()


def write_job(path: Path, offsets: Iterable[int], length: int, flush_every: int | None) -> int:
    """Write a job that ends with a flush; return how many flushes it has."""
    flushes = 0
    with path.open("w") as file:
        for number, offset in enumerate(offsets, 1):
            file.write(f"write {offset} {length}\n")
            if flush_every and number % flush_every == 0:
                file.write("flush\n")
                flushes += 1
        file.write("flush\n")
    return flushes + 1


def random_offsets(count: int, size: int, length: int, seed: int = 1) -> list[int]:
    """Random multiples of the length."""
    chance = random.Random(seed)
    return [chance.randrange(size // length) * length for _ in range(count)]


def with_job(command: Sequence[str | Path], job: Path) -> list[str]:
    """A command that reads a job."""
    words = " ".join(f"'{word}'" for word in command)
    return ["sh", "-c", f"{words} < '{job}'"]


def our_command(image: Path, job: Path) -> list[str]:
    """How this library carries out a job."""
    return with_job([sys.executable, Path(__file__).resolve().with_name("_write_job.py"), image], job)


def qemu_command(image: Path, job: Path) -> list[str]:
    """How qemu-io carries out a job; writeback is the mode in which only a flush is a flush."""
    return with_job([need("qemu-io", "qemu-utils"), "-t", "writeback", "-f", "vhdx", image], job)


def create_image(path: Path, size: int, block_size: int) -> None:
    """An empty image made by QEMU, the same for both."""
    path.unlink(missing_ok=True)
    subprocess.run(
        [
            need("qemu-img", "qemu-utils"),
            *("create", "-q", "-f", "vhdx", "-o", f"subformat=dynamic,block_size={block_size}"),
            path,
            str(size),
        ],
        check=True,
    )


def device_flushes(contender: Contender, folder: Path) -> int:
    """How often a run flushes the device."""
    trace = folder / "trace"
    contender._clean()
    subprocess.run(
        [
            need("strace", "strace"),
            "-f",
            "-qq",
            "-e",
            "trace=fdatasync,fsync",
            "-o",
            trace,
            *contender.command,
        ],
        check=True,
        capture_output=True,
    )
    return len(re.findall(r"(?:fdatasync|fsync)\(", trace.read_text()))


def tell_flushes(contenders: Sequence[Contender], guest_flushes: int, folder: Path) -> None:
    """Print device flushes per flush of the job."""
    for contender in contenders:
        count = device_flushes(contender, folder)
        print(
            f"  {contender.name:58} {count} device flushes, {count / guest_flushes:.2f} per flush asked for"
        )


def run(description: str | None, bench: Callable[[Path, int, float], None]) -> None:
    """The common command line, and `--smoke`: a tiny version in a temporary folder."""
    if sys.argv[1:] != ["--smoke"]:
        _pair.main(description, bench)
        return
    with tempfile.TemporaryDirectory() as folder:
        bench(Path(folder), 1, 0.004)
