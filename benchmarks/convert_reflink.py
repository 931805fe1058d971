"""Claim: where files can share blocks (XFS, btrfs), converting copies next to nothing.

Makes an XFS in a file and mounts it, so it has to run as root, with xfsprogs. Peer: `qemu-img convert -W -m
16`, on the same mount; its result is made durable, as ours is.

    python benchmarks/convert_reflink.py FOLDER      needs some 10 GiB there
"""

import subprocess
from pathlib import Path

from _disks import GIB, write_dense, write_sparse
from _pair import VHDX, Contender, durable, main, need, run_in_turns, version_of


def bench(work: Path, rounds: int, scale: float) -> None:
    qemu = need("qemu-img", "qemu-utils")
    mkfs = need("mkfs.xfs", "xfsprogs")
    disk, mount = work / "xfs.img", work / "mount"
    mount.mkdir()
    with disk.open("wb") as file:
        file.truncate(int(16 * max(scale, 0.1) * GIB))
    subprocess.run([mkfs, "-q", "-m", "reflink=1", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, mount], check=True)
    try:
        _bench_mounted(mount, qemu, rounds, scale)
    finally:
        subprocess.run(["umount", mount], check=True)


def _bench_mounted(mount: Path, qemu: str, rounds: int, scale: float) -> None:
    print(version_of(qemu))
    dense, sparse, image = mount / "dense.raw", mount / "sparse.raw", mount / "sparse.vhdx"
    write_dense(dense, int(2 * scale * GIB))
    write_sparse(sparse, int(20 * scale * GIB), int(2.6 * scale * GIB))
    subprocess.run([qemu, "convert", "-O", "vhdx", sparse, image], check=True)
    sparse.unlink()
    for title, source, target_format in (
        ("dense raw -> VHDX on XFS", dense, "vhdx"),
        ("sparse VHDX -> raw on XFS", image, "raw"),
    ):
        ours, theirs = mount / f"ours.{target_format}", mount / "theirs"
        command = [qemu, "convert", "-W", "-m", "16", "-O", target_format, str(source), str(theirs)]
        peer = Contender(
            f"qemu-img convert -W -m 16 -O {target_format}; sync", durable(command, theirs), theirs
        )
        command = [*VHDX, "convert", "-O", target_format, str(source), str(ours)]
        run_in_turns(title, Contender("vhdx convert", command, ours), [peer], rounds)


if __name__ == "__main__":
    main(__doc__, bench)
