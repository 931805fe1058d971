"""One client in transmission: its requests are read, sorted into quick and slow ones, and answered.

The connection's own thread takes every request that has arrived. Small reads and overwrites of what is there
already it collects, does together and answers with one call. Whatever may take long (a flush, a write that
allocates, zeroing, a read of megabytes) goes to the connection's workers, so that nothing waits behind it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from vhdx.errors import VhdxError
from vhdx.nbd.channel import ChannelError
from vhdx.nbd.commands import error_number, perform
from vhdx.nbd.flushing import Flushes
from vhdx.nbd.overwrites import Writes
from vhdx.nbd.pins import LingeringPins
from vhdx.nbd.protocol.constants import Command, CommandFlag, NbdError
from vhdx.nbd.protocol.transmission import (
    RECEIVE_SIZE,
    ProtocolError,
    Request,
    RequestReader,
    RequestRules,
    replies_for,
)
from vhdx.nbd.reads import CHUNK_SIZE, Reads
from vhdx.nbd.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import DirectDevice
    from vhdx.nbd.budget import Budget
    from vhdx.nbd.channel import Channel
    from vhdx.nbd.protocol.handshake import Agreement
    from vhdx.nbd.server_log import Journal
    from vhdx.nbd.shared import Turns

_READ: Final = int(Command.READ)
_WRITE: Final = int(Command.WRITE)
_DISC: Final = int(Command.DISC)
_FLUSH: Final = int(Command.FLUSH)
_FUA: Final = int(CommandFlag.FUA)

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
        budget: Budget,
        turns: Turns,
        journal: Journal,
    ) -> None:
        """`received`: what the client sent behind the handshake. `budget` and `turns` are the server's."""
        self._channel = channel
        self._device = device
        self._agreement = agreement
        self._share = budget.share(self._give_way)
        self._journal = journal
        self._reader = RequestReader(extended=agreement.extended, received=received)
        self._replies = replies_for(agreement)
        rules = RequestRules(
            device.size,
            writable=device.limits.writable,
            structured=agreement.structured,
            extended=agreement.extended,
            contexts=bool(agreement.contexts),
        )
        self._error = rules.error
        self._answers: list[Buffer] = []
        """Replies without data that wait to be sent with the batch."""
        self._pins = LingeringPins(device, channel)
        self._reads = Reads(
            device,
            self._replies,
            channel,
            self._pins,
            self._share,
            turns.reading,
            fail=self._failure,
            give_out=self._give_out,
        )
        self._writes = Writes(device, self._replies, turns.writing, perform=self._overwrite)
        self._flushes = Flushes()
        self._given_out = 0
        self._is_stopping = False
        self._broken: ChannelError | None = None
        """Why a worker, or somebody else, gave the connection up."""
        self._workers = Workers(f"nbd {channel.peer}")
        self._payload = bytearray()

    def run(self) -> None:
        """Serve until the client leaves or the channel is shut down.

        Raises: ProtocolError, ChannelError when the connection cannot go on. What was begun has ended by then.
        """
        try:
            # What came behind the handshake is there already.
            while self._serve_received() and not self._is_stopping and self._receive():
                pass
        finally:
            self._workers.close()
            self._pins.close()
            if self._broken is not None:
                raise self._broken

    def stop(self) -> None:
        """Have `run` end once the requests that have been received are answered."""
        self._is_stopping = True

    def _give_way(self) -> None:
        """End: others wait for memory that is held here for a client which does not come to an end."""
        self._broken = self._broken or ChannelError("it held up others, who waited for the memory it uses")
        self._channel.shut_down()

    def _goes_on(self) -> bool:
        return not self._is_stopping and self._broken is None

    def _receive(self) -> bool:
        """Wait for more from the client; False if it has nothing more to say."""
        while self._pins.any_wait:
            self._pins.release()
            if self._channel.wait(_LINGER_SECONDS):
                break
        count = self._channel.receive_into(self._reader.space())
        if not count:
            self.stop()  # it does not wait for what takes long, either
        self._reader.received(count)
        return count > 0

    def _serve_received(self) -> bool:
        """Serve every whole request that has been received; False after a disconnect."""
        started = time.perf_counter() if self._journal.keeps_times else 0.0
        served: list[Request] = []
        goes_on = True
        while goes_on and (request := self._reader.request()) is not None:
            given_out = self._given_out
            if request.command == _DISC:
                goes_on = False
            elif error := self._error(request):
                self._refuse(request, error)
            elif request.command == _READ:
                self._reads.add(request)
            elif request.command == _WRITE:
                self._write(request)
            elif request.command != _FLUSH or self._flushes.add(request):
                self._give_out(request)
            else:
                self._given_out += 1
            if self._journal.keeps_requests and given_out == self._given_out:
                served.append(request)
        self._send()
        if served:
            self._journal.served(self._channel.peer, served, started)
        return goes_on

    def _send(self) -> None:
        """Do and answer what has been collected. Comes before everything that may wait."""
        answers = self._answers + self._writes.answer()
        self._answers = []
        self._reads.answer(answers)

    def _refuse(self, request: Request, error: int) -> None:
        left = request.payload_length
        if left > _MAX_DRAINED:
            raise ProtocolError(f"a payload of {left} bytes")
        while left := left - self._reader.skip(left):
            self._receive_more()
        self._answers.append(self._replies.error(request, error))

    def _receive_more(self) -> None:
        """Wait for more of a payload. Nobody is left waiting meanwhile."""
        self._send()
        count = self._channel.receive_into(self._reader.space())
        if not count:
            raise ChannelError("the client left in the middle of a payload")
        self._reader.received(count)

    # -- writes ------------------------------------------------------------------------------------------------

    def _write(self, request: Request) -> None:
        length = request.length
        if (
            length <= CHUNK_SIZE
            and not request.flags & _FUA
            and self._device.writes_in_place(request.offset, length)
        ):
            self._writes.add(request, self._receive_payload(length))
            return
        if not self._share.try_acquire(length):
            self._send()
            self._share.acquire(length)
        try:
            owned = bytearray(length)
            with self._share.waiting_for_client():
                self._fill(memoryview(owned))
        except BaseException:
            self._share.release(length)
            raise
        self._give_out(request, owned)

    def _overwrite(self, request: Request, payload: Buffer) -> list[Buffer]:
        return self._do_once((request,), payload)

    def _receive_payload(self, length: int) -> memoryview:
        """A payload that stays until anything else is received."""
        if length < RECEIVE_SIZE // 2:
            while (payload := self._reader.peek(length)) is None:
                self._receive_more()
            return payload
        self._answers += self._writes.answer()  # one of them may be using the buffer
        if length > len(self._payload):
            self._payload = bytearray(CHUNK_SIZE)
        view = memoryview(self._payload)[:length]
        self._fill(view)
        return view

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

    # -- by workers --------------------------------------------------------------------------------------------

    def _give_out(self, request: Request, payload: bytearray | None = None) -> None:
        """Have a worker serve a request; the payload's memory is given back afterwards."""
        if self._workers.are_busy:
            self._send()
        started = time.perf_counter() if self._journal.keeps_times else 0.0
        self._given_out += 1
        self._workers.submit(lambda: self._serve_apart(request, payload, started))

    def _serve_apart(self, request: Request, payload: bytearray | None, started: float) -> None:
        requests: Sequence[Request] = (request,)
        try:
            if request.command == _READ:
                self._reads.answer_apart(request)
            else:
                if request.command == _FLUSH:
                    requests = self._flushes.take()
                answer = self._do_once(requests, payload)
                with self._share.waiting_for_client():
                    self._channel.send(answer)
            if self._journal.keeps_requests:
                self._journal.served(self._channel.peer, requests, started)
        except BaseException as error:
            # Part of a reply may have been sent: the stream is out of step.
            self._channel.shut_down()
            if not isinstance(error, ChannelError):
                raise
            self._broken = self._broken or error
        finally:
            if payload is not None:
                self._share.release(len(payload))

    def _do_once(self, requests: Sequence[Request], payload: Buffer | None) -> list[Buffer]:
        """Do what all requests ask for; what goes wrong with it is the answer."""
        first, *others = requests
        try:
            answer = perform(
                self._device, first, self._replies, self._agreement.contexts, payload, self._goes_on
            )
        except (VhdxError, OSError, EOFError) as error:
            return [self._failure(request, error) for request in requests]
        return answer + [self._replies.done(request) for request in others]

    def _failure(self, request: Request, error: Exception) -> bytes:
        number = error_number(error)
        if number != NbdError.ENOTSUP:
            self._journal.failed(self._channel.peer, request, error)
        return self._replies.error(request, number, type(error).__name__)
