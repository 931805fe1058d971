"""Claim: a sparse disk (20 GiB, 2.6 GiB of data) is converted several times faster than by qemu-img.

Three cases: a VHDX whose blocks lie on the host with holes in them (as qemu-img makes it), the same VHDX
without holes (as it comes from Windows), and the raw disk. Peers: `qemu-img convert` with its defaults, and
with `-W -m 16`. Both get their result made durable, as ours always is.

    python benchmarks/convert_sparse.py FOLDER       needs some 20 GiB there
"""

import subprocess
from pathlib import Path

from _disks import GIB, write_sparse
from _pair import VHDX, Contender, durable, main, need, run_in_turns, version_of


def bench(work: Path, rounds: int, scale: float) -> None:
    qemu = need("qemu-img", "qemu-utils")
    print(version_of(qemu))
    raw, holey, full = work / "disk.raw", work / "holey.vhdx", work / "full.vhdx"
    write_sparse(raw, int(20 * scale * GIB), int(2.6 * scale * GIB))
    subprocess.run([qemu, "convert", "-O", "vhdx", raw, holey], check=True)
    subprocess.run(["cp", "--sparse=never", holey, full], check=True)
    cases = (
        ("sparse VHDX with host holes -> raw", holey, "raw"),
        ("sparse VHDX without host holes -> raw", full, "raw"),
        ("sparse raw -> VHDX", raw, "vhdx"),
    )
    for title, source, target_format in cases:
        ours, theirs = work / f"ours.{target_format}", work / "theirs"
        peers = []
        for flags in ((), ("-W", "-m", "16")):
            command = [qemu, "convert", *flags, "-O", target_format, str(source), str(theirs)]
            name = " ".join(("qemu-img convert", *flags, "-O", target_format, "; sync"))
            peers.append(Contender(name, durable(command, theirs), theirs))
        command = [*VHDX, "convert", "-O", target_format, str(source), str(ours)]
        run_in_turns(title, Contender("vhdx convert", command, ours), peers, rounds)


if __name__ == "__main__":
    main(__doc__, bench)
