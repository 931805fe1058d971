"""Claim: sequential 1 MiB writes into an empty dynamic image (1 GiB) take half of QEMU's time.

Peers: `qemu-io -t writeback` with the same commands, and `qemu-img bench -w -s 1M` one and 16 requests deep; all
end with a flush. Image: blocks of 2 and 32 MiB, made by qemu-img.

    python benchmarks/write_sequential.py FOLDER
"""

from functools import partial
from pathlib import Path

from _pair import durable, need, run_in_turns, version_of
from _writing import GIB, MIB, Writing, create_image, our_command, qemu_command, run, tell_flushes, write_job


def bench(work: Path, rounds: int, scale: float) -> None:
    print(version_of(need("qemu-io", "qemu-utils")))
    count = max(8, int(1024 * scale))
    for block_size in (2 * MIB, 32 * MIB):
        image, job = work / "image.vhdx", work / "job"
        write_job(job, range(0, count * MIB, MIB), MIB, None)
        prepare = partial(create_image, image, 4 * GIB, block_size)
        ours = Writing("vhdx", our_command(image, job), prepare=prepare)
        peers = [Writing("qemu-io -t writeback", qemu_command(image, job), prepare=prepare)]
        for depth in (1, 16):
            options = ["-w", "-t", "writeback", "-s", "1M", "-d", str(depth)]
            command = [
                need("qemu-img", "qemu-utils"),
                "bench",
                "-f",
                "vhdx",
                *options,
                "-c",
                str(count),
                str(image),
            ]
            peers.append(
                Writing(f"qemu-img bench {' '.join(options)}; sync", durable(command, image), prepare=prepare)
            )
        title = f"{count} sequential writes of 1 MiB into an empty image, blocks of {block_size // MIB} MiB"
        run_in_turns(title, ours, peers, rounds)
        tell_flushes([ours, *peers], 1, work)


if __name__ == "__main__":
    run(__doc__, bench)
