"""Random reads from a server, warm and cold: `vhdx serve` against `qemu-nbd -f vhdx`, by fio's nbd engine.

Aims: 4K at depth 1 1.3x, 4K at depth 16 3x, 64K at depth 16 2.5x, 1 MiB 3x of qemu-nbd as it comes; never below
1x of it with io_uring; at most half its processor time. Cold means nothing in a folder on tmpfs.
"""

from pathlib import Path

from _disks import GIB, MIB
from _nbd import Job, chosen, dense_image, drop_caches, fio_in_turns, servers
from _pair import main

SHAPES = (
    ("4K", 1, 1),
    ("4K", 16, 1),
    ("4K", 16, 4),
    ("64K", 16, 1),
    ("1M", 4, 1),
)


def bench(work: Path, rounds: int, scale: float) -> None:
    size = max(16 * MIB, int(GIB * scale) // MIB * MIB)
    image = dense_image(work, size)
    contenders = servers(image, read_only=True)
    for block_size, depth, connections in chosen(SHAPES, scale):
        job = Job("randread", block_size, depth, connections, seconds=4 * scale)
        fio_in_turns("warm random reads", contenders, work, rounds, size, job)
        fio_in_turns("cold random reads", contenders, work, rounds, size, job, lambda: drop_caches(image))


if __name__ == "__main__":
    main(__doc__, bench)
