"""Reads from a server, warm and cold: `vhdx serve` against `qemu-nbd -f vhdx`, by fio's nbd engine.

Aims: 4K at depth 1 1.3x, 4K at depth 16 3x, 64K at depth 16 2.5x, 1 MiB 3x of qemu-nbd as it comes; never below
1x of it with io_uring; at most half its processor time.
"""

from pathlib import Path

from _disks import GIB, MIB, write_dense
from _nbd import Job, in_turns, ours, peers
from _pair import main, need
from vhdx.ops.convert import convert
from vhdx.raw import RawDevice

JOBS = (
    ("4K", 1, 1),
    ("4K", 16, 1),
    ("4K", 16, 4),
    ("64K", 16, 1),
    ("1M", 4, 1),
)


def bench(work: Path, rounds: int, scale: float) -> None:
    fio, qemu_nbd = need("fio", "fio"), need("qemu-nbd", "qemu-utils")
    size = max(16 * MIB, int(GIB * scale) // MIB * MIB)
    raw, image = work / "disk.raw", work / "disk.vhdx"
    write_dense(raw, size)
    with RawDevice.open(raw) as source:
        convert(source, image, format="vhdx", block_size=2 * MIB)
    raw.unlink()
    seconds = max(0.5, 4 * min(1.0, scale))
    for cold in ((), (image,)):
        for block_size, depth, jobs in JOBS:
            heat = "cold" if cold else "warm"
            title = f"{heat} random reads of {block_size}, depth {depth}, {jobs} connection(s)"
            job = Job("randread", block_size, depth, seconds, jobs)
            in_turns(title, ours(image), peers(qemu_nbd, image), fio, work, size, job, rounds, cold)


if __name__ == "__main__":
    main(__doc__, bench)
