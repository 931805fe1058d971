"""`vhdx serve` as a process of its own, for the time of a test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from support.nbd_client import GUARD_SECONDS, Client

SOURCE = Path(__file__).parents[2] / "src"


class Served(NamedTuple):
    """A server that is ready."""

    process: subprocess.Popen[bytes]
    address: str
    """Path of its socket."""
    uris: list[str]
    log: Path

    def client(self) -> Client:
        """Connect, and exchange greetings."""
        return Client(self.address).greet()

    def memory(self) -> int:
        """Bytes of memory that the process owns and uses."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return sum(
            int(found) << 10 for found in re.findall(r"^(?:RssAnon|VmSwap):\s+(\d+) kB", status, re.MULTILINE)
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(GUARD_SECONDS)


@contextmanager
def serving(*arguments: str | Path, exports: int = 1) -> Iterator[Served]:
    """Run `vhdx serve --persistent`. Whatever happens inside, it must end well, and without a traceback."""
    with tempfile.TemporaryDirectory(prefix="vhdx-") as directory:
        address, log = f"{directory}/s", Path(directory, "log")
        command = [sys.executable, "-m", "vhdx", "serve", "--persistent", "--socket", address, *arguments]
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"},
            )
        with process:
            assert process.stdout is not None
            served = Served(process, address, [], log)
            try:
                served.uris.extend(process.stdout.readline().decode().strip() for _ in range(exports))
                assert all(served.uris), log.read_text()
                yield served
                assert process.poll() is None, log.read_text()
                assert served.stop() == 0, log.read_text()
            finally:
                process.kill()
            text = log.read_text()
            assert "Traceback" not in text, text
