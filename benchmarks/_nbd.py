"""Servers of the network block device protocol against each other: the same image, the same client, in turns."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_START_SECONDS = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Job(NamedTuple):
    """What fio does."""

    pattern: str
    block_size: str
    depth: int
    seconds: float
    jobs: int = 1
    extra: Sequence[str] = ()


class Measured(NamedTuple):
    """What one run showed."""

    per_second: float
    """Requests."""
    read_p99_us: float
    cpu_us: float
    """The server's processor time for one request."""


@dataclass
class Server:
    """A way to serve an image; SOCKET and PID in the command are filled in."""

    name: str
    command: Sequence[str]
    found: list[Measured] = field(default_factory=list)

    @contextmanager
    def running(self, work: Path) -> Iterator[tuple[str, int]]:
        """Start it; the URI and the process's number."""
        socket, pid_file = work / "nbd.sock", work / "nbd.pid"
        for path in (socket, pid_file):
            path.unlink(missing_ok=True)
        words = [word.replace("SOCKET", str(socket)).replace("PID", str(pid_file)) for word in self.command]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            give_up = time.monotonic() + _START_SECONDS
            while not (socket.exists() and pid_file.exists() and pid_file.read_text().strip()):
                if process.poll() is not None or time.monotonic() > give_up:
                    process.kill()
                    raise SystemExit(f"{self.name} does not start: {process.communicate()[1]}")
                time.sleep(0.01)
            try:
                yield f"nbd+unix:///?socket={socket}", int(pid_file.read_text())
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=30)


def ours(image: Path, *, read_only: bool = True) -> Server:
    """`vhdx serve`."""
    mode = ["--read-only"] if read_only else []
    command = [sys.executable, "-m", "vhdx", "serve", str(image), "--socket", "SOCKET", "--pid-file", "PID"]
    return Server("vhdx serve", [*command, "--persistent", *mode])


def qemu(qemu_nbd: str, image: Path, *flags: str, read_only: bool = True) -> Server:
    """`qemu-nbd`."""
    mode = ["-r"] if read_only else []
    command = [qemu_nbd, "-f", "vhdx", "-t", "-e", "16", "-k", "SOCKET", "--pid-file", "PID", *mode, *flags]
    return Server(" ".join(("qemu-nbd", *flags)), [*command, str(image)])


def peers(qemu_nbd: str, image: Path, *, read_only: bool = True) -> list[Server]:
    """qemu-nbd as it comes, and at its best."""
    return [
        qemu(qemu_nbd, image, read_only=read_only),
        qemu(qemu_nbd, image, "--aio=io_uring", read_only=read_only),
    ]


def run_fio(fio: str, uri: str, size: int, job: Job) -> tuple[float, float, int]:
    """Requests a second, p99 of the reads in microseconds, and requests in all."""
    command = [
        fio,
        "--name=job",
        "--ioengine=nbd",
        f"--uri={uri}",
        f"--rw={job.pattern}",
        f"--bs={job.block_size}",
        f"--iodepth={job.depth}",
        f"--numjobs={job.jobs}",
        "--group_reporting",
        "--time_based",
        f"--runtime={job.seconds}",
        f"--size={size}",
        "--randrepeat=0",
        "--output-format=json",
        *job.extra,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=job.seconds + 60)
    if done.returncode:
        raise SystemExit(f"fio failed: {done.stderr or done.stdout}")
    report = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    per_second = report["read"]["iops"] + report["write"]["iops"]
    total = report["read"]["total_ios"] + report["write"]["total_ios"]
    percentiles = report["read"]["clat_ns"].get("percentile", {})
    return per_second, percentiles.get("99.000000", 0) / 1000, total


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def drop_caches(*files: Path) -> None:
    """Have the kernel forget what it holds of files."""
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def measure(server: Server, fio: str, work: Path, size: int, job: Job, cold: Sequence[Path] = ()) -> None:
    """One run of one server."""
    with server.running(work) as (uri, pid):
        drop_caches(*cold)
        before = cpu_seconds(pid)
        per_second, p99_us, total = run_fio(fio, uri, size, job)
        cpu_us = (cpu_seconds(pid) - before) / max(1, total) * 1e6
    server.found.append(Measured(per_second, p99_us, cpu_us))


def in_turns(
    title: str,
    mine: Server,
    others: Sequence[Server],
    fio: str,
    work: Path,
    size: int,
    job: Job,
    rounds: int,
    cold: Sequence[Path] = (),
) -> None:
    """Run all in turns and print how we do against each."""
    order = [mine, *others]
    for server in order:
        server.found.clear()
    for _ in range(rounds):
        for server in order:
            measure(server, fio, work, size, job, cold)
        order.reverse()
    print(f"\n{title}  ({rounds} rounds of {job.seconds:g} s)")
    for server in (mine, *others):
        per_second = statistics.median(found.per_second for found in server.found)
        p99_us = statistics.median(found.read_p99_us for found in server.found)
        cpu_us = statistics.median(found.cpu_us for found in server.found)
        line = f"  {server.name:26} {per_second:9.0f}/s  read p99 {p99_us:8.0f} us  cpu {cpu_us:7.1f} us"
        if server is not mine:
            ratios = [a.per_second / b.per_second for a, b in zip(mine.found, server.found, strict=True)]
            cpu = [a.cpu_us / b.cpu_us for a, b in zip(mine.found, server.found, strict=True) if b.cpu_us]
            line += (
                f"   ours is {statistics.median(ratios):.2f}x as fast"
                f" (from {min(ratios):.2f} to {max(ratios):.2f})"
            )
            if cpu:
                line += f", with {statistics.median(cpu):.2f}x the processor time"
        print(line, flush=True)
