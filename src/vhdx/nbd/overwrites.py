"""Overwriting in place: many small writes in one go.

A write that changes no tables goes straight to its place in the file, just as a small read comes from there. Writes
that have arrived together are done together, and connections take turns at it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from vhdx import _host
from vhdx.errors import VhdxError
from vhdx.nbd.protocol.constants import CommandFlag

if TYPE_CHECKING:
    import threading

    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import DirectDevice
    from vhdx.nbd.answers import Answers
    from vhdx.nbd.commands import Commands
    from vhdx.nbd.protocol.transmission import Request

MAX_LENGTH: Final = 1 << 20
"""Longer writes are left to the workers."""
_FUA: Final = int(CommandFlag.FUA)


class Overwrites:
    """The overwrites of one connection. For its own thread."""

    def __init__(
        self, device: DirectDevice, answers: Answers, commands: Commands, turn: threading.Lock
    ) -> None:
        """`commands` do what turns out not to be an overwrite. `turn` is shared by all connections."""
        self._device = device
        self._answers = answers
        self._commands = commands
        self._turn = turn
        self._asked: list[tuple[Request, memoryview]] = []
        self._buffer = bytearray()

    def can_take(self, request: Request) -> bool:
        """Whether a write only overwrites what is there, and need not be durable when it is answered."""
        return (
            request.length <= MAX_LENGTH
            and not request.flags & _FUA
            and self._device.writes_in_place(request.offset, request.length)
        )

    def buffer(self, length: int) -> memoryview:
        """Memory for the payload of one write; it is used again for the next one, so `answer` comes in between."""
        if not self._buffer:
            self._buffer = bytearray(MAX_LENGTH)
        return memoryview(self._buffer)[:length]

    def add(self, request: Request, payload: memoryview) -> None:
        """Take up a write; the payload must stay as it is until `answer`."""
        self._asked.append((request, payload))

    def answer(self) -> list[Buffer]:
        """Do everything that was added; return the replies."""
        if not self._asked:
            return []
        asked, self._asked = self._asked, []
        replies: list[Buffer] = []
        left = self._write(asked, replies) if _host.HAVE_PREAD else asked
        for request, payload in left:
            replies += self._commands.answer((request,), payload)
        return replies

    def _write(
        self, asked: list[tuple[Request, memoryview]], replies: list[Buffer]
    ) -> list[tuple[Request, memoryview]]:
        """Write what has one place in a file; return the rest.

        A write that fails here is among the rest: the device meets the same error, and can say what it is about.
        """
        device, done = self._device, self._answers.done
        place_of = device.place
        left = []
        try:
            pin = device.pin()
        except VhdxError:
            return asked
        try:
            with self._turn:
                for item in asked:
                    request, payload = item
                    try:
                        # When it was added, the write only overwrote what was there. If another client has trimmed
                        # the range since, it has no place now; it never gets a place in a parent.
                        place = place_of(request.offset, request.length)
                        if place is None or os.pwrite(place.fd, payload, place.file_offset) != request.length:
                            left.append(item)
                        else:
                            replies.append(done(request))
                    except OSError:
                        left.append(item)
        finally:
            device.unpin(pin)
        return left
