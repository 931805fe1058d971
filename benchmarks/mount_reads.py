"""Read a mounted image: `vhdx mount` against libvhdi's `vhdimount`, cold page cache of the mount each time.

The whole disk with dd, and random reads of 4 KiB by one process, past the page cache where the mount allows it.
Needs root (to drop caches and to mount), fuse3, libvhdi-utils. vhdimount reads VHDX, but knows no SEEK_DATA and
no writing.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _pair import VHDX, Contender, main, need, run_in_turns
from vhdx._units import KIB, MIB
from vhdx.disks.raw import RawDevice
from vhdx.ops.convert import convert

RANDOM_READER = """
import os, random, sys
chance = random.Random(1)
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
size = os.fstat(fd).st_size
for _ in range(int(sys.argv[2])):
    os.pread(fd, 4096, chance.randrange(size // 4096) * 4096)
"""


def bench(work: Path, rounds: int, scale: float) -> None:
    vhdimount = need("vhdimount", "libvhdi-utils")
    image, size = work / "disk.vhdx", max(16 * MIB, int(1024 * MIB * scale) // MIB * MIB)
    make(image, size)
    ours, theirs = work / "ours", work / "theirs"
    with (
        mounted([*VHDX, "mount", str(image), str(ours)], ours),
        mounted([vhdimount, str(image), str(theirs)], theirs),
    ):
        files = ours / "disk.raw", theirs / "vhdi1"
        drop = "echo 1 > /proc/sys/vm/drop_caches; "
        for title, command in (
            ("all of it with dd", "dd if='{}' of=/dev/null bs=1M status=none"),
            ("random 4 KiB reads", f"'{sys.executable}' -c '{RANDOM_READER}' '{{}}' {int(20_000 * scale)}"),
        ):
            contenders = [
                Contender(name, ["sh", "-c", drop + command.format(file)])
                for name, file in zip(("vhdx mount", "vhdimount"), files, strict=True)
            ]
            run_in_turns(f"{title}, {size // MIB} MiB", contenders[0], contenders[1:], rounds)


def make(image: Path, size: int) -> None:
    """A full image of random bytes."""
    raw = image.with_suffix(".raw")
    chance = random.Random(2)
    with raw.open("wb") as file:
        for _ in range(size // MIB):
            file.write(chance.randbytes(64 * KIB) * 16)
    with RawDevice.open(raw) as device:
        convert(device, image, format="vhdx")
    raw.unlink()


@contextmanager
def mounted(command: list[str], directory: Path) -> Iterator[None]:
    """Mount until the block ends."""
    if os.geteuid():
        raise SystemExit("this benchmark drops caches, which only root may")
    directory.mkdir()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


if __name__ == "__main__":
    main(__doc__, bench)
