"""Writes to a server: `vhdx serve` against `qemu-nbd -f vhdx`, by fio's nbd engine.

Into allocated blocks, and allocating ones: 4K each into a block of its own, of a fresh image in every run.
Aims: allocating writes 3x of qemu-nbd as it comes; all others never below 1x of it with io_uring; at most half its
processor time.
"""

import functools
from pathlib import Path

from _disks import GIB, KIB, MIB
from _nbd import Job, chosen, dense_image, fio_in_turns, servers
from _pair import main
from _writing import create_image

SHAPES = (
    ("randwrite", "4K", 1, 1),
    ("randwrite", "4K", 16, 1),
    ("randwrite", "4K", 16, 4),
    ("randwrite", "64K", 1, 1),
    ("randwrite", "64K", 16, 1),
    ("randwrite", "64K", 16, 4),
    ("write", "1M", 1, 1),
    ("write", "1M", 16, 1),
    ("write", "1M", 16, 4),
)


def bench(work: Path, rounds: int, scale: float) -> None:
    size = max(16 * MIB, int(GIB * scale) // MIB * MIB)
    contenders = servers(dense_image(work, size))
    for pattern, block_size, depth, connections in chosen(SHAPES, scale):
        job = Job(pattern, block_size, depth, connections, seconds=4 * scale)
        title = "random overwrites" if pattern == "randwrite" else "sequential overwrites"
        fio_in_turns(title, contenders, work, rounds, size, job)

    empty = work / "empty.vhdx"
    count = max(16, int(4096 * scale))
    prepare = functools.partial(create_image, empty, count * MIB, MIB)
    for flushes, depth in chosen((("", 1), ("", 16), ("--fsync=32", 1), ("--fsync=32", 16)), scale):
        extra = [f"--io_size={count * 4 * KIB}", *flushes.split()]
        job = Job(f"write:{MIB - 4 * KIB}", "4K", depth, extra=extra)  # 4 KiB in each MiB
        title = "allocating writes" + (" with flushes" if flushes else "")
        fio_in_turns(title, servers(empty), work, rounds, count * MIB, job, prepare)


if __name__ == "__main__":
    main(__doc__, bench)
