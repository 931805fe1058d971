"""Servers of the network block device protocol against each other: the same image, the same client, in turns.

A server is started anew for each run, so that none has warmed up more than another. Its processor time is what
the kernel has counted for the whole process while the client ran.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from _disks import MIB, write_dense
from _pair import need
from vhdx.disks.raw import RawDevice
from vhdx.ops.convert import convert

_T = TypeVar("_T")
_START_SECONDS = 20.0
_SMOKE_SCALE = 0.05
_CPU_CLOCK = 2
"""CPUCLOCK_SCHED of Linux: what a process's threads have run, those that have ended included."""


class Job(NamedTuple):
    """What fio does: for some seconds, or as long as `extra` makes it if there are none."""

    pattern: str
    block_size: str
    depth: int
    connections: int = 1
    seconds: float | None = None
    extra: Sequence[str] = ()

    def __str__(self) -> str:
        plural = "" if self.connections == 1 else "s"
        return f"{self.block_size}, depth {self.depth}, {self.connections} connection{plural}"


class Measured(NamedTuple):
    """What one run showed."""

    seconds: float
    """For one request, or for one copy."""
    cpu_seconds: float
    """The server's processor time for that."""
    read_p99_us: float = 0
    writes_per_flush: float = 0
    """fio 3.33 asks for more flushes than its --fsync says where several requests are under way."""


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


def servers(image: Path, *, read_only: bool = False) -> list[Server]:
    """Ours, qemu-nbd as it comes, and qemu-nbd at its best."""
    qemu_nbd = need("qemu-nbd", "qemu-utils")
    common = ["--socket=SOCKET", "--pid-file=PID", "--persistent", *(["--read-only"] if read_only else [])]
    return [
        Server("vhdx serve", [sys.executable, "-m", "vhdx", "serve", *common, str(image)]),
        *(
            Server(
                " ".join(("qemu-nbd", *flags)),
                [qemu_nbd, "--format=vhdx", "--shared=16", *common, *flags, str(image)],
            )
            for flags in ([], ["--aio=io_uring"])
        ),
    ]


def chosen(shapes: Sequence[_T], scale: float) -> Sequence[_T]:
    """All; in a smoke run, the first and the last."""
    return shapes if scale >= _SMOKE_SCALE else (shapes[0], shapes[-1])


def run_fio(fio: str, uri: str, size: int, job: Job) -> tuple[int, Measured]:
    """Requests in all, and what was measured, the processor time still to be filled in."""
    duration = ["--time_based", f"--runtime={job.seconds * 1000:.0f}ms"] if job.seconds else []
    command = [
        fio,
        "--name=job",
        "--ioengine=nbd",
        f"--uri={uri}",
        f"--rw={job.pattern}",
        f"--bs={job.block_size}",
        f"--iodepth={job.depth}",
        f"--numjobs={job.connections}",
        "--group_reporting",
        f"--size={size}",
        "--randrepeat=0",
        "--output-format=json",
        *duration,
        *job.extra,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=(job.seconds or 0) + 120
    )
    if done.returncode:
        raise SystemExit(f"fio failed: {done.stderr or done.stdout}")
    report = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    read, write, flush = report["read"], report["write"], report["sync"]
    percentiles = read["clat_ns"].get("percentile", {})
    measured = Measured(
        1 / (read["iops"] + write["iops"]),
        0,
        percentiles.get("99.000000", 0) / 1000,
        write["total_ios"] / flush["total_ios"] if flush.get("total_ios") else 0,
    )
    return read["total_ios"] + write["total_ios"], measured


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, its threads included."""
    return time.clock_gettime(~pid << 3 | _CPU_CLOCK)


def dense_image(work: Path, size: int) -> Path:
    """An image of incompressible data, all blocks allocated."""
    raw, image = work / "disk.raw", work / "disk.vhdx"
    write_dense(raw, size)
    with RawDevice.open(raw) as source:
        convert(source, image, format="vhdx", block_size=2 * MIB)
    raw.unlink()
    return image


def drop_caches(*files: Path) -> None:
    """Have the kernel forget what it holds of files."""
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def in_turns(
    title: str,
    contenders: Sequence[Server],
    work: Path,
    rounds: int,
    client: Callable[[str], tuple[int, Measured]],
    prepare: Callable[[], None] = lambda: None,
    tell: Callable[[float], str] = lambda seconds: f"{1 / seconds:9.0f}/s",
) -> None:
    """Have a client use all servers in turns, and print how the first does against each of the others.

    The client gets a URI and returns how many requests it made. `prepare` comes before each run;
    `tell` spells the seconds that a request took.
    """
    order = list(contenders)
    for server in order:
        server.found.clear()
    for _ in range(rounds):
        for server in order:
            prepare()
            with server.running(work) as (uri, pid):
                before = cpu_seconds(pid)
                count, measured = client(uri)
                cpu = (cpu_seconds(pid) - before) / max(1, count)
            server.found.append(measured._replace(cpu_seconds=cpu))
        order.reverse()
    print(f"\n{title}  ({rounds} rounds)")
    mine = contenders[0]
    for server in contenders:
        print(_spell(server, tell) + ("" if server is mine else _spell_comparison(mine, server)), flush=True)


def fio_in_turns(
    title: str,
    contenders: Sequence[Server],
    work: Path,
    rounds: int,
    size: int,
    job: Job,
    prepare: Callable[[], None] = lambda: None,
) -> None:
    """The same with fio as the client."""
    fio = need("fio", "fio")
    in_turns(f"{title}, {job}", contenders, work, rounds, lambda uri: run_fio(fio, uri, size, job), prepare)


def _spell(server: Server, tell: Callable[[float], str]) -> str:
    seconds, cpu_seconds, p99_us, writes = (
        statistics.median(values) for values in zip(*server.found, strict=True)
    )
    text = f"  {server.name:26} {tell(seconds)}  cpu {cpu_seconds * 1e6:9.1f} us"
    if p99_us:
        text += f"  read p99 {p99_us:7.0f} us"
    if writes:
        text += f"  a flush every {writes:.1f} writes"
    return text


def _spell_comparison(mine: Server, other: Server) -> str:
    pairs = list(zip(mine.found, other.found, strict=True))
    speed = [theirs.seconds / ours.seconds for ours, theirs in pairs]
    cpu = [ours.cpu_seconds / theirs.cpu_seconds for ours, theirs in pairs]
    text = f"   ours is {statistics.median(speed):.2f}x as fast (from {min(speed):.2f} to {max(speed):.2f})"
    if all(ours.read_p99_us for ours, _ in pairs):
        tail = statistics.median(theirs.read_p99_us / ours.read_p99_us for ours, theirs in pairs)
        text += f", {tail:.2f}x at the p99 of reads"
    return text + f", with {statistics.median(cpu):.2f}x the processor time"
