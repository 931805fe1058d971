"""Check a 64 TiB image with 1 MiB blocks: `vhdx check` against `qemu-img check`, table empty and full.

The full one owns 64 Mi blocks in a sparse file of 64 TiB, so the folder must lie on a file system with files
that large (tmpfs, XFS; not ext4). qemu-img is run on the empty one only: it never ends on the full one in
reasonable time. Aim: below 10 s and 200 MiB.
"""

import time
from pathlib import Path

from _memory import peak_mib
from _pair import VHDX, Contender, main, need, run_in_turns
from vhdx._units import MIB, TIB
from vhdx.ops.create import create


def bench(work: Path, rounds: int, scale: float) -> None:
    qemu_img = need("qemu-img", "qemu-utils")
    size = max(MIB, int(64 * TIB * scale) // MIB * MIB)
    empty, full = work / "empty.vhdx", work / "full.vhdx"
    create(empty, size, block_size=MIB)
    create(full, size, block_size=MIB, kind="fixed")
    ours = Contender("vhdx check", [*VHDX, "check", str(empty)])
    peer = Contender("qemu-img check -f vhdx", [qemu_img, "check", "-f", "vhdx", str(empty)])
    run_in_turns("check, 64 TiB with 1 MiB blocks, empty table", ours, [peer], rounds)
    print(f"  {ours.name:58} {peak_mib(ours.command):7.1f} MiB at its peak")
    print(f"  {peer.name:58} {peak_mib(peer.command):7.1f} MiB at its peak")
    command = [*VHDX, "check", str(full)]
    start = time.perf_counter()
    peak = peak_mib(command)
    print(
        f"\nfull table of {size // MIB} blocks: {time.perf_counter() - start:.2f} s, {peak:.1f} MiB at its peak"
    )


if __name__ == "__main__":
    main(__doc__, bench)
