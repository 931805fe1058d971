"""What a connection's workers do: reads of any length, chunk by chunk, and every command that may take long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vhdx.errors import VhdxError
from vhdx.nbd.protocol.constants import Command
from vhdx.nbd.read_replies import may_split, read_parts, send_from_file

if TYPE_CHECKING:
    from vhdx.blockdev.device import DirectDevice
    from vhdx.nbd.answers import Answers
    from vhdx.nbd.budget import Share
    from vhdx.nbd.channel import Channel
    from vhdx.nbd.commands import Commands
    from vhdx.nbd.pins import LingeringPins
    from vhdx.nbd.protocol.transmission import Request
    from vhdx.nbd.workers import Task

CHUNK_SIZE: Final = 1 << 20
"""Bytes of a read that are held in memory, and sent, at a time, if the client takes chunks."""
_READ: Final = int(Command.READ)


class SlowRequests:
    """Serves the slow requests of one connection. Thread-safe."""

    def __init__(
        self,
        device: DirectDevice,
        channel: Channel,
        answers: Answers,
        commands: Commands,
        pins: LingeringPins,
        share: Share,
    ) -> None:
        self._device = device
        self._channel = channel
        self._answers = answers
        self._commands = commands
        self._pins = pins
        self._share = share

    def serve(self, task: Task) -> None:
        """Do a task, send the replies, and give the payload's memory back. Raises: ChannelError."""
        try:
            if task.requests[0].command == _READ:
                self._answer_read(task.requests[0])
            else:
                replies = self._commands.answer(task.requests, task.payload)
                with self._share.waiting_for_client():
                    self._channel.send(replies)
            self._answers.log(task.requests, task.started)
        finally:
            if task.payload is not None:
                self._share.release(len(task.payload))

    def _answer_read(self, request: Request) -> None:
        """Answer a read, chunk by chunk if the client takes chunks; other threads may send in between.

        An error in a chunk ends the reply with that error. Raises: ChannelError.
        """
        replies = self._answers.replies
        end = request.offset + request.length
        step = CHUNK_SIZE if may_split(request, replies) else request.length
        for offset in range(request.offset, end, step):
            length = min(step, end - offset)
            with self._share.taken(length):
                try:
                    if self._send_from_file(request, offset, length):
                        continue
                    parts = read_parts(self._device, request, replies, offset, length)
                except (VhdxError, OSError, EOFError) as error:
                    self._channel.send((self._answers.failed(request, error),))
                    return
                with self._share.waiting_for_client():
                    self._channel.send(parts)

    def _send_from_file(self, request: Request, offset: int, length: int) -> bool:
        """Send a part of a read straight from its file; False, with nothing sent, if that is impossible."""
        if not self._channel.sends_files:
            return False
        pin = self._device.pin()
        try:
            place = self._device.place(offset, length)
            if place is not None:
                with self._share.waiting_for_client():
                    send_from_file(self._channel, request, self._answers.replies, offset, length, place)
        finally:
            self._pins.unpin_once_taken(pin)
        return place is not None
