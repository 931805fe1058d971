"""A server that is killed while several clients write: what a flush of any of them covered is there.

The clients' stripes lie side by side in the same blocks, so that they allocate the same blocks at the same time;
other blocks belong to one client, which also zeroes and trims them.
"""

import random
import threading
from contextlib import ExitStack
from pathlib import Path

from nbd.talking import FLUSH, TRIM, WRITE, ZEROES, Talk
from proof.crash.killing import BLOCK_SIZE, SIZE, Operation, Part
from support.serving import connected, serving
from vhdx._units import KIB
from vhdx.testing.crash.pages import SECTOR_SIZE
from vhdx.testing.crash.stamps import stamps

CLIENTS = 4
STRIPE = 64 * KIB
SHARED_BLOCKS = 12
BLOCKS = SIZE // BLOCK_SIZE
COUNT = 3000
"""Operations that a client has; it is killed long before it has done them all."""
GUARD_SECONDS = 60


def operations_of(client: int, seed: int) -> list[Operation]:
    """What a client does; those of two clients do not touch each other."""
    chance = random.Random(seed)
    found = []
    for number in range(COUNT):
        stripe = chance.randrange(SHARED_BLOCKS * BLOCK_SIZE // STRIPE // CLIENTS) * CLIENTS + client
        block = SHARED_BLOCKS + chance.randrange((BLOCKS - SHARED_BLOCKS) // CLIENTS) * CLIENTS + client
        draw = chance.random()
        if draw < 0.2:
            found.append(Operation(number, 0, 0, False))
        elif draw < 0.3:
            found.append(Operation(number, block * BLOCK_SIZE, BLOCK_SIZE, True))
        elif draw < 0.4:
            found.append(Operation(number, stripe * STRIPE, STRIPE, True))
        else:
            length = SECTOR_SIZE * chance.choice((1, 3, 8, 32))
            start, end = chance.choice(((stripe * STRIPE, STRIPE), (block * BLOCK_SIZE, BLOCK_SIZE)))
            offset = start + chance.randrange(0, end - length + 1, SECTOR_SIZE)
            found.append(Operation(number, offset, length, False))
    return found


class Progress:
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


def write(talk: Talk, client: int, operations: list[Operation], progress: Progress, generation: int) -> None:
    """Be a client until the server is gone."""
    try:
        for operation in operations:
            number, offset, length, zeroes = operation
            progress.issued[client] = number + 1
            covered = progress.before_flush()
            if not length:
                talk.ask(FLUSH)
            elif zeroes:
                may_trim = length == BLOCK_SIZE and number % 2
                talk.ask(TRIM if may_trim else ZEROES, offset, length)
            else:
                talk.ask(WRITE, offset, payload=stamps(number, offset, length, generation))
            assert talk.answer().error == 0
            progress.answered(client)
            if not length:
                progress.after_flush(covered)
    except (EOFError, ConnectionError):
        pass


def serve_and_kill(path: Path, chance: random.Random, generation: int) -> list[Part]:
    """Serve an image to clients that write to it, and kill the server some time after a random flush."""
    plans = [operations_of(client, chance.randrange(1 << 32)) for client in range(CLIENTS)]
    progress = Progress(patience=chance.randrange(1, 60))
    with serving(path.parent, path) as server, ExitStack() as stack:
        threads = []
        for client, plan in enumerate(plans):
            talk = stack.enter_context(connected(path.parent / "nbd.sock"))
            threads.append(threading.Thread(target=write, args=(talk, client, plan, progress, generation)))
        for thread in threads:
            thread.start()
        assert progress.ripe.wait(GUARD_SECONDS), server.log
        threading.Event().wait(chance.random() * 0.01)
        server.kill()
        for thread in threads:
            thread.join()
    return [
        Part(plan[:issued], covered)
        for plan, issued, covered in zip(plans, progress.issued, progress.covered, strict=True)
    ]
