"""`vhdx serve` as a process of its own, for clients that `support.nbd_client` plays."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from support.nbd_client import Client
from support.serving import Serving
from support.serving import serving as serving_in

GUARD_SECONDS = 900
"""One server may serve the tests of a whole module."""


class Served(NamedTuple):
    """A server that is ready."""

    server: Serving
    address: Path
    """Its socket."""

    def client(self) -> Client:
        """Connect, and exchange greetings."""
        return Client(self.address).greet()

    def memory(self) -> int:
        """Bytes of memory that the process owns and uses."""
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        return sum(
            int(found) << 10 for found in re.findall(r"^(?:RssAnon|VmSwap):\s+(\d+) kB", status, re.MULTILINE)
        )


@contextmanager
def serving(*arguments: str | Path) -> Iterator[Served]:
    """Serve one export. Whatever happens inside, the server must live, and end well."""
    with tempfile.TemporaryDirectory(
        prefix="vhdx-"
    ) as directory:  # pytest's paths can be too long for a socket
        folder = Path(directory)
        with serving_in(folder, *arguments, guard_seconds=GUARD_SECONDS) as server:
            yield Served(server, folder / "nbd.sock")
            assert server.process.poll() is None, server.log
