"""`vhdx info` on a small image, against `qemu-img info` and a bare Python. Aim: below 60 ms."""

import sys
from pathlib import Path

from _pair import VHDX, Contender, main, need, run_in_turns
from vhdx._units import GIB
from vhdx.ops.create import create


def bench(work: Path, rounds: int, scale: float) -> None:
    del scale
    qemu_img = need("qemu-img", "qemu-utils")
    image = work / "image.vhdx"
    create(image, GIB)
    ours = Contender("vhdx info", [*VHDX, "info", str(image)])
    peer = Contender("qemu-img info -f vhdx", [qemu_img, "info", "-f", "vhdx", str(image)])
    bare = Contender("python -c pass", [sys.executable, "-c", "pass"])
    run_in_turns("info on a small image", ours, [peer, bare], rounds)


if __name__ == "__main__":
    main(__doc__, bench)
