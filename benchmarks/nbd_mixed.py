"""Reads and flushed writes together: `vhdx serve` against `qemu-nbd -f vhdx`, by fio's nbd engine.

70 % random 4K reads, 30 % random 4K writes into allocated blocks, flushes among them, depth 16. What counts besides
the requests is how long the slowest percent of the reads takes.
"""

from pathlib import Path

from _disks import GIB, MIB
from _nbd import Job, dense_image, fio_in_turns, servers
from _pair import main


def bench(work: Path, rounds: int, scale: float) -> None:
    size = max(16 * MIB, int(GIB * scale) // MIB * MIB)
    contenders = servers(dense_image(work, size))
    for connections in (1, 4):
        extra = ["--rwmixread=70", "--fsync=32"]
        job = Job("randrw", "4K", 16, connections, seconds=4 * scale, extra=extra)
        fio_in_turns("70 % reads, 30 % writes, flushes", contenders, work, rounds, size, job)


if __name__ == "__main__":
    main(__doc__, bench)
