"""Random reads through the library: vhdx against pyvhdi (libvhdi, C) and dissect.hypervisor (Python).

One process, a warm dynamic image, 4 KiB and 64 KiB at random multiples of 512 bytes (seeded). The last column is
os.pread on the file itself: what a read costs before any library. Aim: 1.5x pyvhdi, 5x dissect.
"""

import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pyvhdi
from dissect.hypervisor.disk import vhdx as dissect_vhdx

import vhdx
from _pair import main
from vhdx._units import KIB, MIB
from vhdx.ops.create import create

_READS = 20_000
Read = Callable[[int, int], object]


def bench(work: Path, rounds: int, scale: float) -> None:
    size = max(4 * MIB, int(512 * MIB * scale) // MIB * MIB)
    path = work / "image.vhdx"
    create(path, size, block_size=2 * MIB)
    with vhdx.open(path, "r+") as disk:
        for offset in range(0, size, MIB):
            disk.pwrite(os.urandom(MIB), offset)
    theirs = pyvhdi.file()
    theirs.open(str(path))
    with vhdx.open(path) as ours, path.open("rb") as raw, path.open("rb") as file:
        dissect = dissect_vhdx.VHDX(file)

        def read_dissect(length: int, offset: int) -> object:
            dissect.seek(offset)
            return dissect.read(length)

        readers: dict[str, Read] = {
            "vhdx": ours.pread,
            "pyvhdi": theirs.read_buffer_at_offset,
            "dissect": read_dissect,
            "os.pread": lambda length, offset: os.pread(raw.fileno(), length, offset),
        }
        for length in (4 * KIB, 64 * KIB):
            _compare(readers, length, size, rounds, int(_READS * min(1, max(scale, 0.01))))
    theirs.close()


def _compare(readers: dict[str, Read], length: int, size: int, rounds: int, count: int) -> None:
    generator = random.Random(length)
    offsets = [generator.randrange((size - length) // 512) * 512 for _ in range(count)]
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for turn in range(rounds + 1):
        for name, read in readers.items():
            start = time.perf_counter()
            for offset in offsets:
                read(length, offset)
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - start)
    print(f"\nrandom reads of {length // KIB} KiB ({rounds} rounds of {count})")
    for name, figures in seconds.items():
        ratio = statistics.median(other / mine for other, mine in zip(figures, seconds["vhdx"], strict=True))
        mine = statistics.median(figures) / count * 1e6
        print(f"  {name:10} {mine:8.2f} us a read   vhdx is {ratio:.2f}x as fast")


if __name__ == "__main__":
    main(__doc__, bench)
