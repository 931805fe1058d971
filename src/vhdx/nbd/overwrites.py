"""Overwriting in place: many small writes in one go.

A write that changes no tables goes straight to its place in the file, as a small read comes from there. What has
arrived together is written together, and connections take turns at it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from vhdx.errors import VhdxError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import DirectDevice
    from vhdx.nbd.protocol.transmission import Replies, Request

_HAVE_PWRITE: Final = hasattr(os, "pwrite")


class Writes:
    """The overwrites of one connection. For its own thread."""

    def __init__(
        self,
        device: DirectDevice,
        replies: Replies,
        turn: threading.Lock,
        *,
        perform: Callable[[Request, Buffer], list[Buffer]],
    ) -> None:
        """`turn` is shared by all connections. `perform` does a write the long way, and makes the reply."""
        self._device = device
        self._done = replies.done
        self._turn = turn
        self._perform = perform
        self._asked: list[tuple[Request, memoryview]] = []

    def add(self, request: Request, payload: memoryview) -> None:
        """Take up a write; the payload must stay as it is until `answer`."""
        self._asked.append((request, payload))

    def answer(self) -> list[Buffer]:
        """Do everything that was added; return the replies."""
        if not self._asked:
            return []
        asked, self._asked = self._asked, []
        answers: list[Buffer] = []
        late = self._write(asked, answers) if _HAVE_PWRITE else asked
        for request, payload in late:
            answers += self._perform(request, payload)
        return answers

    def _write(
        self, asked: list[tuple[Request, memoryview]], answers: list[Buffer]
    ) -> list[tuple[Request, memoryview]]:
        """Write what has one place in a file; return the rest, and what went wrong: it comes again."""
        device, done = self._device, self._done
        place_of = device.place
        late = []
        try:
            pin = device.pin()
        except VhdxError:
            return asked
        try:
            with self._turn:
                for item in asked:
                    request, payload = item
                    try:
                        # It was found to be one that only overwrites. Until now another client may have trimmed
                        # it, and then it has no place; a place in a parent it cannot get.
                        place = place_of(request.offset, request.length)
                        if place is None or os.pwrite(place.fd, payload, place.file_offset) != request.length:
                            late.append(item)
                        else:
                            answers.append(done(request))
                    except OSError:
                        late.append(item)
        finally:
            device.unpin(pin)
        return late
