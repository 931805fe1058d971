"""`vhdx serve` as a process of its own, for clients that are other programs."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import vhdx
from support import nbd_wire as wire
from support.nbd_connection import Talk

GUARD_SECONDS = 300
"""No server that serves a single test lives longer: one that hangs fails its test."""
STOP_SECONDS = 20
"""No server takes longer to stop."""

Argument = str | Path


def serve_command(*arguments: Argument) -> list[str]:
    """Command line of a server."""
    return [sys.executable, "-m", "vhdx", "serve", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """The environment in which that command runs the package that is being tested."""
    return os.environ | {"PYTHONPATH": str(Path(vhdx.__file__).parents[1])} | more


class Serving:
    """A server that is ready."""

    def __init__(self, process: subprocess.Popen[str], uris: Sequence[str], log: Path) -> None:
        self.process = process
        self.uris = uris
        """What it printed: where each export is, in the order of the command line."""
        self._log = log

    @property
    def uri(self) -> str:
        """Of the only export."""
        (uri,) = self.uris
        return uri

    @property
    def log(self) -> list[str]:
        """Lines on stderr so far."""
        return self._log.read_text(encoding="utf-8").splitlines()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the server to end, and see that it does so in good order."""
        self.process.send_signal(number)
        self.wait()

    def wait(self) -> None:
        """See that the server ends, in good order."""
        code = self.process.wait(STOP_SECONDS)
        assert code == 0, (code, self.log)
        assert not any("Traceback" in line for line in self.log), self.log

    def kill(self) -> None:
        """Leave the server no time for anything."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(
    folder: Path,
    *arguments: Argument,
    exports: int = 1,
    address: Sequence[Argument] | None = None,
    persistent: bool = True,
    guard_seconds: float = GUARD_SECONDS,
) -> Iterator[Serving]:
    """Serve, by default on the Unix socket nbd.sock in a folder, until the context ends.

    A server that is not `persistent` ends by itself, when its last client has left. `arguments` come after
    `vhdx serve`; so many `exports` are among them. After `guard_seconds` it is killed, and its test fails.
    """
    where = ["--socket", folder / "nbd.sock"] if address is None else [*address]
    if persistent:
        where.append("--persistent")
    log = folder / "serve.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            serve_command(*where, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment(),
        ) as process,
    ):
        guard = threading.Timer(guard_seconds, process.kill)
        guard.start()
        try:
            assert process.stdout is not None
            uris = [process.stdout.readline().strip() for _ in range(exports)]
            assert all(uris), log.read_text(encoding="utf-8")
            server = Serving(process, uris, log)
            yield server
            if process.poll() is None and persistent:
                server.stop()
            elif process.poll() is None:
                server.wait()
        finally:
            guard.cancel()
            if process.poll() is None:
                process.kill()


@contextmanager
def connected(path: Path, export: bytes = b"") -> Iterator[Talk]:
    """Be a client of a Unix socket, with structured replies; it leaves without a word."""
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(str(path))
        talk = Talk(own)
        assert talk.exactly(len(wire.GREETING)) == wire.GREETING
        own.sendall(wire.flags() + wire.option(wire.STRUCTURED_REPLY))
        assert talk.exactly(20) == wire.reply(wire.STRUCTURED_REPLY, wire.ACK)
        own.sendall(wire.option(wire.EXPORT_NAME, export))
        talk.exactly(10)
        yield talk


def run_vhdx(*arguments: Argument) -> str:
    """Run another of the commands, which must succeed; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "vhdx", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=GUARD_SECONDS,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def uri_of(socket_path: Path, export: str = "") -> str:
    """Where an export is on a Unix socket."""
    return f"nbd+unix:///{quote(export)}?socket={quote(str(socket_path))}"
