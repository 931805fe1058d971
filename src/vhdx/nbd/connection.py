"""One client in transmission: its requests are read, sorted into quick and slow ones, and answered.

The connection's own thread takes every request that has arrived. Short reads, and writes that only overwrite what is
there, it collects, does together and answers with one call. Whatever may take long (a flush, a write that allocates,
zeroing, a read of megabytes) goes to the connection's workers, so that nothing waits behind it:

    channel -> RequestReader -> RequestRules -> Reads, Overwrites -> channel
                                             -> RequestWorkers -> SlowRequests -> channel
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vhdx.nbd.answers import Answers
from vhdx.nbd.channel import ChannelError
from vhdx.nbd.commands import Commands
from vhdx.nbd.ending import Ending
from vhdx.nbd.overwrites import Overwrites
from vhdx.nbd.pins import LingeringPins
from vhdx.nbd.protocol.constants import Command
from vhdx.nbd.protocol.transmission import (
    RECEIVE_SIZE,
    ProtocolError,
    RequestReader,
    RequestRules,
    replies_for,
)
from vhdx.nbd.reads import Reads
from vhdx.nbd.slow_requests import SlowRequests
from vhdx.nbd.workers import RequestWorkers, Task

if TYPE_CHECKING:
    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import DirectDevice
    from vhdx.nbd.channel import Channel
    from vhdx.nbd.protocol.events import Agreement
    from vhdx.nbd.protocol.transmission import Request
    from vhdx.nbd.shared import Shared

_READ: Final = int(Command.READ)
_WRITE: Final = int(Command.WRITE)
_DISC: Final = int(Command.DISC)

_MAX_DRAINED: Final = 128 << 20
"""A refused payload up to this size is passed over; a client that sends a larger one is cut off."""
_LINGER_SECONDS: Final = 0.05


class Connection:
    """Serves one client until it leaves. `run` is for one thread."""

    def __init__(
        self,
        channel: Channel,
        device: DirectDevice,
        agreement: Agreement,
        received: bytes,
        shared: Shared,
    ) -> None:
        """`received`: what the client sent behind the handshake. `shared` is the server's."""
        answers = Answers(replies_for(agreement), shared.server_log, channel.peer)
        ending = Ending(channel)
        share = shared.budget.share(ending)
        pins = LingeringPins(device, channel)
        commands = Commands(device, answers, agreement.contexts, ending)
        slow = SlowRequests(device, channel, answers, commands, pins, share)
        rules = RequestRules(
            device.size,
            writable=device.limits.writable,
            structured=agreement.structured,
            extended=agreement.extended,
            contexts=bool(agreement.contexts),
        )
        self._channel = channel
        self._answers = answers
        self._ending = ending
        self._share = share
        self._pins = pins
        self._error = rules.error
        self._reader = RequestReader(extended=agreement.extended, received=received)
        self._reads = Reads(device, channel, answers, pins, shared.reading)
        self._overwrites = Overwrites(device, answers, commands, shared.writing)
        self._workers = RequestWorkers(f"nbd {channel.peer}", slow.serve, ending)
        self._replies: list[Buffer] = []
        """Replies without data that wait to be sent with the batch."""
        self._to_log: list[Request] = []
        """The requests of the batch, if the log wants to know."""
        self._started = 0.0
        """When the first of those was taken up."""

    def run(self) -> None:
        """Serve until the client leaves or the channel is shut down.

        Raises: ProtocolError, ChannelError when the connection cannot go on. What was begun has ended by then.
        """
        try:
            # Requests that came behind the handshake are in the reader already.
            while self._serve_received() and not self._ending.is_asked_for and self._receive():
                pass
        finally:
            self._workers.close()
            self._pins.close()
            if self._ending.failure is not None:
                raise self._ending.failure

    def stop(self) -> None:
        """Have `run` end once the requests that have been received are answered."""
        self._ending.ask()

    def _receive(self) -> bool:
        """Wait for more from the client; False if it sends no more."""
        while self._pins.any_wait:
            self._pins.release()
            if self._channel.wait(_LINGER_SECONDS):
                break
        count = self._channel.receive_into(self._reader.space())
        if not count:
            self._ending.ask()  # a client that has left does not wait for what takes many steps, either
        self._reader.received(count)
        return count > 0

    def _serve_received(self) -> bool:
        """Serve every whole request that has been received; False after a disconnect."""
        goes_on = True
        while goes_on and (request := self._reader.request()) is not None:
            in_batch = True
            if request.command == _DISC:
                goes_on = False
            elif error := self._error(request):
                self._refuse(request, error)
            elif request.command == _WRITE:
                in_batch = self._write(request)
            elif request.command != _READ or not self._reads.add(request):
                in_batch = False
                self._give_out(request)
            if in_batch and self._answers.are_logged:
                self._started = self._started if self._to_log else self._answers.clock()
                self._to_log.append(request)
        self._send()
        return goes_on

    def _send(self) -> None:
        """Do and answer what has been collected. Comes before everything that may wait."""
        replies = self._replies + self._overwrites.answer()
        self._replies = []
        left = self._reads.answer(replies)
        if self._to_log:
            given_out = set(map(id, left))
            self._answers.log(
                [request for request in self._to_log if id(request) not in given_out], self._started
            )
            self._to_log = []
        for request in left:
            self._give_out(request)

    def _give_out(self, request: Request, payload: bytearray | None = None) -> None:
        """Have a worker serve a request; it gives the payload's memory back."""
        if self._workers.are_busy:
            self._send()
        self._workers.submit(Task(request, payload, self._answers.clock()))

    def _refuse(self, request: Request, error: int) -> None:
        left = request.payload_length
        if left > _MAX_DRAINED:
            raise ProtocolError(f"a payload of {left} bytes")
        while left := left - self._reader.skip(left):
            self._receive_more()
        self._replies.append(self._answers.replies.error(request, error))

    def _receive_more(self) -> None:
        """Wait for more of a payload. Nobody is left waiting meanwhile."""
        self._send()
        count = self._channel.receive_into(self._reader.space())
        if not count:
            raise ChannelError("the client left in the middle of a payload")
        self._reader.received(count)

    # -- writes ------------------------------------------------------------------------------------------------

    def _write(self, request: Request) -> bool:
        """Take up a write; whether it belongs to the batch, and was not given to a worker."""
        if self._overwrites.can_take(request):
            self._overwrites.add(request, self._receive_overwrite(request.length))
            return True
        length = request.length
        if not self._share.try_acquire(length):
            self._send()
            self._share.acquire(length)
        try:
            payload = bytearray(length)
            with self._share.waiting_for_client():
                self._fill(memoryview(payload))
            self._give_out(request, payload)
        except BaseException:
            self._share.release(length)
            raise
        return False

    def _receive_overwrite(self, length: int) -> memoryview:
        """Receive a payload that stays as it is until anything else is received."""
        if length < RECEIVE_SIZE // 2:
            while (payload := self._reader.peek(length)) is None:
                self._receive_more()
            return payload
        self._replies += self._overwrites.answer()  # an overwrite of the batch may be using the buffer
        payload = self._overwrites.buffer(length)
        self._fill(payload)
        return payload

    def _fill(self, view: memoryview) -> None:
        """Receive a payload as a whole, straight into its place."""
        done = self._reader.take(view)
        if done < len(view):
            self._send()
        while done < len(view):
            count = self._channel.receive_into(view[done:])
            if not count:
                raise ChannelError("the client left in the middle of a payload")
            done += count
