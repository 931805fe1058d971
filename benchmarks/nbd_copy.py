"""Copies out of a server and into one by nbdcopy: `vhdx serve` against `qemu-nbd -f vhdx`, dense and sparse.

A copy ends with a flush of what was written to. The processor time told is the server's for one copy.
"""

import functools
import subprocess
import time
from pathlib import Path

from _disks import GIB, MIB, write_dense, write_sparse
from _nbd import Measured, in_turns, servers
from _pair import main, need
from _writing import create_image
from vhdx.disks.raw import RawDevice
from vhdx.ops.convert import convert


def bench(work: Path, rounds: int, scale: float) -> None:
    nbdcopy = need("nbdcopy", "libnbd-bin")
    size = max(16 * MIB, int(2 * GIB * scale) // MIB * MIB)
    raw, image, result = work / "disk.raw", work / "disk.vhdx", work / "result"
    for kind in ("dense", "sparse"):
        if kind == "dense":
            write_dense(raw, size)
        else:
            write_sparse(raw, size, size // 4)
        with RawDevice.open(raw) as source:
            convert(source, image, format="vhdx", block_size=MIB)

        def copy_out(uri: str) -> tuple[int, Measured]:
            return copy(nbdcopy, uri, str(result))

        def copy_in(uri: str) -> tuple[int, Measured]:
            return copy(nbdcopy, str(raw), uri)

        clean = functools.partial(result.unlink, missing_ok=True)
        fresh = functools.partial(create_image, result, size, MIB)
        out_of, into = servers(image, read_only=True), servers(result)
        in_turns(f"{kind} image to raw file", out_of, work, rounds, copy_out, clean, _spell)
        in_turns(f"{kind} raw file to empty image", into, work, rounds, copy_in, fresh, _spell)
        for path in (raw, image, result):
            path.unlink()


def _spell(seconds: float) -> str:
    return f"{seconds:9.3f} s"


def copy(nbdcopy: str, source: str, target: str) -> tuple[int, Measured]:
    """One copy, timed."""
    start = time.perf_counter()
    done = subprocess.run([nbdcopy, "--flush", source, target], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"nbdcopy failed: {done.stderr}")
    return 1, Measured(time.perf_counter() - start, 0)


if __name__ == "__main__":
    main(__doc__, bench)
