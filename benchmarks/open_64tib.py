"""Open a 64 TiB image with 1 MiB blocks and say what it is: `vhdx info` against `qemu-img info`.

The image is empty; its table of 64 Mi entries (513 MiB) is a hole of the file. Aim: 20x, below 40 MiB.
"""

from pathlib import Path

from _memory import peak_mib
from _pair import VHDX, Contender, main, need, run_in_turns
from vhdx._units import MIB, TIB
from vhdx.ops.create import create


def bench(work: Path, rounds: int, scale: float) -> None:
    qemu_img = need("qemu-img", "qemu-utils")
    image = work / "image.vhdx"
    create(image, max(MIB, int(64 * TIB * scale) // MIB * MIB), block_size=MIB)
    ours = Contender("vhdx info", [*VHDX, "info", str(image)])
    peer = Contender("qemu-img info -f vhdx", [qemu_img, "info", "-f", "vhdx", str(image)])
    run_in_turns("open + info, 64 TiB with 1 MiB blocks", ours, [peer], rounds)
    for contender in (ours, peer):
        print(f"  {contender.name:58} {peak_mib(contender.command):7.1f} MiB at its peak")


if __name__ == "__main__":
    main(__doc__, bench)
