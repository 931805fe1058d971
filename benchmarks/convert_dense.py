"""Claim: a disk full of data (2 GiB) is converted at the speed of `cp`, zeroes looked for all the same.

Peers: `cp --reflink=never --sparse=never`, which looks for nothing, and `qemu-img convert` with its defaults.
All get their result made durable.

    python benchmarks/convert_dense.py FOLDER        needs 8 GiB there
"""

import subprocess
from pathlib import Path

from _disks import GIB, write_dense
from _pair import VHDX, Contender, durable, main, need, run_in_turns, version_of


def bench(work: Path, rounds: int, scale: float) -> None:
    qemu = need("qemu-img", "qemu-utils")
    print(version_of(qemu))
    print(version_of("cp"))
    raw, image = work / "disk.raw", work / "disk.vhdx"
    write_dense(raw, int(2 * scale * GIB))
    subprocess.run([qemu, "convert", "-O", "vhdx", raw, image], check=True)
    for title, source, target_format in (
        ("dense VHDX -> raw", image, "raw"),
        ("dense raw -> VHDX", raw, "vhdx"),
    ):
        ours, theirs = work / f"ours.{target_format}", work / "theirs"
        copying = ["cp", "--reflink=never", "--sparse=never", str(source), str(theirs)]
        converting = [qemu, "convert", "-O", target_format, str(source), str(theirs)]
        peers = [
            Contender(f"{' '.join(copying[:3])}; sync", durable(copying, theirs), theirs),
            Contender(f"qemu-img convert -O {target_format}; sync", durable(converting, theirs), theirs),
        ]
        command = [*VHDX, "convert", "-O", target_format, str(source), str(ours)]
        run_in_turns(title, Contender("vhdx convert", command, ours), peers, rounds)


if __name__ == "__main__":
    main(__doc__, bench)
