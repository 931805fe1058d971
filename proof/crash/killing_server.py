"""A server that is killed while several clients write: what a flush of any of them covered is there.

The clients' stripes lie side by side in the same blocks, so that they allocate the same blocks at the same time;
other blocks belong to one client, which also zeroes and trims them.
"""

import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from struct import Struct

import vhdx
from proof.crash.killing import BLOCK_SIZE, SIZE, DiskRequest, Part
from vhdx._units import KIB
from vhdx.testing.crash import SECTOR_SIZE, stamped_sectors

CLIENTS = 4
STRIPE = 64 * KIB
SHARED_BLOCKS = 12
BLOCKS = SIZE // BLOCK_SIZE
COUNT = 3000
"""Operations that a client has; it is killed long before it has done them all."""
GUARD_SECONDS = 60

WRITE, FLUSH, TRIM, ZEROES = 1, 3, 4, 6
"""Commands of the network block device protocol."""
_REQUEST = Struct(">IHHQQI")
_REPLY = Struct(">IIQ")


class WritingClient:
    """A client of the server: asks for one thing at a time, and waits for the answer. Its data is never read."""

    def __init__(self, path: Path) -> None:
        """Connect to a Unix socket and choose the only export. Raises: OSError."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._receive(18)  # greeting
        no_zeroes, export_name = 2, 1
        self._socket.sendall(Struct(">I8sII").pack(1 | no_zeroes, b"IHAVEOPT", export_name, 0))
        self._receive(10)  # size and abilities of the export

    def ask(self, command: int, offset: int = 0, length: int = 0, payload: bytes = b"") -> None:
        """Have a command done. Raises: OSError or EOFError when the server is gone; AssertionError if it refuses."""
        self._socket.sendall(
            _REQUEST.pack(0x25609513, 0, command, 0, offset, length or len(payload)) + payload
        )
        _, error, _ = _REPLY.unpack(self._receive(_REPLY.size))
        assert error == 0

    def _receive(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            piece = self._socket.recv(count - len(found))
            if not piece:
                raise EOFError("the server is gone")
            found += piece
        return found

    def close(self) -> None:
        """Leave without a word."""
        self._socket.close()


@contextmanager
def serving(path: Path, address: Path) -> Iterator[subprocess.Popen[str]]:
    """Serve an image on a Unix socket, with a log beside the image, until the context ends; then kill the server."""
    command = [sys.executable, "-m", "vhdx", "serve", "--socket", str(address), "--persistent", str(path)]
    environment = os.environ | {"PYTHONPATH": str(Path(vhdx.__file__).parents[1])}
    with (
        path.with_suffix(".log").open("ab") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "the server does not start"
            yield process
        finally:
            process.kill()


def operations_of(client: int, seed: int) -> list[DiskRequest]:
    """What a client does; those of two clients do not touch each other."""
    chance = random.Random(seed)
    found = []
    for number in range(COUNT):
        stripe = chance.randrange(SHARED_BLOCKS * BLOCK_SIZE // STRIPE // CLIENTS) * CLIENTS + client
        block = SHARED_BLOCKS + chance.randrange((BLOCKS - SHARED_BLOCKS) // CLIENTS) * CLIENTS + client
        draw = chance.random()
        if draw < 0.2:
            found.append(DiskRequest(number, 0, 0, False))
        elif draw < 0.3:
            found.append(DiskRequest(number, block * BLOCK_SIZE, BLOCK_SIZE, True))
        elif draw < 0.4:
            found.append(DiskRequest(number, stripe * STRIPE, STRIPE, True))
        else:
            length = SECTOR_SIZE * chance.choice((1, 3, 8, 32))
            start, end = chance.choice(((stripe * STRIPE, STRIPE), (block * BLOCK_SIZE, BLOCK_SIZE)))
            offset = start + chance.randrange(0, end - length + 1, SECTOR_SIZE)
            found.append(DiskRequest(number, offset, length, False))
    return found


class FlushProgress:
    """How far every client has come, and how far flushes cover it. Thread-safe."""

    def __init__(self, patience: int) -> None:
        """`ripe` is set after so many flushes."""
        self.issued = [0] * CLIENTS
        self.ripe = threading.Event()
        self.covered = [0] * CLIENTS
        self._answered = [0] * CLIENTS
        self._patience = patience
        self._lock = threading.Lock()

    def answered(self, client: int) -> None:
        """One more of a client's operations has been answered."""
        with self._lock:
            self._answered[client] += 1

    def before_flush(self) -> list[int]:
        """What a flush that begins now covers."""
        with self._lock:
            return list(self._answered)

    def after_flush(self, covered: list[int]) -> None:
        """That flush has been answered."""
        with self._lock:
            self.covered = [max(pair) for pair in zip(self.covered, covered, strict=True)]
            self._patience -= 1
            if self._patience == 0:
                self.ripe.set()


def write(
    client: WritingClient,
    number: int,
    operations: list[DiskRequest],
    progress: FlushProgress,
    generation: int,
) -> None:
    """Do one client's operations until the server is gone."""
    try:
        for operation in operations:
            progress.issued[number] = operation.number + 1
            covered = progress.before_flush()
            _perform(client, operation, generation)
            progress.answered(number)
            if not operation.length:
                progress.after_flush(covered)
    except (EOFError, ConnectionError):
        pass


def _perform(client: WritingClient, operation: DiskRequest, generation: int) -> None:
    number, offset, length, zeroes = operation
    if not length:
        client.ask(FLUSH)
    elif zeroes:
        may_trim = length == BLOCK_SIZE and number % 2
        client.ask(TRIM if may_trim else ZEROES, offset, length)
    else:
        client.ask(WRITE, offset, payload=stamped_sectors(number, offset, length, generation))


def serve_and_kill(path: Path, chance: random.Random, generation: int) -> list[Part]:
    """Serve an image to clients that write to it, and kill the server some time after a random flush."""
    plans = [operations_of(number, chance.randrange(1 << 32)) for number in range(CLIENTS)]
    progress = FlushProgress(patience=chance.randrange(1, 60))
    address = path.with_name("nbd.sock")
    with serving(path, address) as server, ExitStack() as stack:
        threads = []
        for number, plan in enumerate(plans):
            client = WritingClient(address)
            stack.callback(client.close)
            threads.append(threading.Thread(target=write, args=(client, number, plan, progress, generation)))
        for thread in threads:
            thread.start()
        assert progress.ripe.wait(GUARD_SECONDS), "the clients' flushes are not answered"
        threading.Event().wait(chance.random() * 0.01)
        server.kill()
        for thread in threads:
            thread.join()
    return [
        Part(plan[:issued], covered)
        for plan, issued, covered in zip(plans, progress.issued, progress.covered, strict=True)
    ]
