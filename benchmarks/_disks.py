"""Disks to convert: made once for a benchmark, the same every time."""

import os
import random
from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


def write_dense(path: Path, size: int) -> None:
    """A file of incompressible data."""
    with path.open("wb") as file:
        for _ in range(0, size, 8 * MIB):
            file.write(os.urandom(8 * MIB))


def write_sparse(path: Path, size: int, data: int) -> None:
    """A file with `data` bytes in runs of 16 KiB to 8 MiB, holes between them, spread as file systems do it."""
    generator = random.Random(7)
    pool = os.urandom(8 * MIB)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(fd, size)
        mean_gap = max(1, (size - data) // max(1, data // (5 * MIB // 2)))
        position = written = 0
        while written < data and position < size:
            position += generator.randrange(0, 2 * mean_gap) & ~4095
            length = generator.choice((16 << 10, 128 << 10, MIB, 4 * MIB, 8 * MIB))
            length = min(length, size - position)
            if length <= 0:
                break
            start = generator.randrange(0, 8 * MIB - length + 1) & ~511
            os.pwrite(fd, memoryview(pool)[start : start + length], position)
            position += length
            written += length
    finally:
        os.close(fd)
