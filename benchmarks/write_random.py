"""Claim: random 4 KiB writes into an empty dynamic image take a third of qemu-io's time when every write is flushed,
a twentieth when every 64th is; and overwriting allocated blocks costs what it costs QEMU.

Peers: `qemu-io -t writeback` with the same commands on standard input; for overwrites also `qemu-img bench -w`, which
reads no commands. Image: 16 GiB in blocks of 2 MiB, made by qemu-img.

    python benchmarks/write_random.py FOLDER
"""

import subprocess
from pathlib import Path

from _pair import need, run_in_turns, version_of
from _writing import (
    GIB,
    KIB,
    MIB,
    Writing,
    create_image,
    our_command,
    qemu_command,
    random_offsets,
    run,
    tell_flushes,
    write_job,
)

LENGTH = 4 * KIB
BLOCK_SIZE = 2 * MIB


def bench(work: Path, rounds: int, scale: float) -> None:
    print(version_of(need("qemu-io", "qemu-utils")))
    for flush_every, count in ((1, 2000), (64, 4000)):
        allocating(work, rounds, max(64, int(count * scale)), flush_every)
    for flush_every, count in ((64, 20_000), (4096, 100_000)):
        overwriting(work, rounds, max(512, int(count * scale)), flush_every)


def allocating(work: Path, rounds: int, count: int, flush_every: int) -> None:
    job = work / "job"
    flushes = write_job(job, random_offsets(count, 16 * GIB, LENGTH), LENGTH, flush_every)
    contenders = []
    for name, command in (("vhdx", our_command), ("qemu-io -t writeback", qemu_command)):
        image = work / f"{name[:4]}.vhdx"
        contenders.append(
            Writing(
                name,
                command(image, job),
                prepare=lambda image=image: create_image(image, 16 * GIB, BLOCK_SIZE),  # type: ignore[misc]
            )
        )
    title = f"{count} random 4 KiB writes into an empty image, a flush after every {flush_every}"
    run_in_turns(title, contenders[0], contenders[1:], rounds)
    tell_flushes(contenders, flushes, work)


def overwriting(work: Path, rounds: int, count: int, flush_every: int) -> None:
    image, job = work / "full.vhdx", work / "job"
    size = 256 * MIB
    create_image(image, size, BLOCK_SIZE)
    write_job(job, range(0, size, MIB), MIB, None)
    subprocess.run(our_command(image, job), check=True)
    step = 37 * LENGTH
    flushes = write_job(
        job, ((number * step) % (size - LENGTH) for number in range(count)), LENGTH, flush_every
    )
    bench_options = ["-w", "-d", "1", "-t", "writeback", "-c", str(count), "-s", str(LENGTH), "-S", str(step)]
    benching = [need("qemu-img", "qemu-utils"), "bench", "-f", "vhdx", *bench_options]
    benching += ["--flush-interval", str(flush_every), str(image)]
    ours = Writing("vhdx", our_command(image, job))
    peers = [
        Writing("qemu-io -t writeback", qemu_command(image, job)),
        Writing(f"qemu-img bench {' '.join(bench_options[:5])} --flush-interval {flush_every}", benching),
    ]
    title = f"{count} overwrites of 4 KiB in allocated blocks, a flush after every {flush_every}"
    run_in_turns(title, ours, peers, rounds)
    tell_flushes([ours, *peers], flushes, work)


if __name__ == "__main__":
    run(__doc__, bench)
