"""Answering reads: small ones many at a time, larger ones without copying, the rest piece by piece.

Small reads whose place in a file is known go straight into one buffer of replies; larger ones the kernel sends
from its page cache. What is in memory is had at once (RWF_NOWAIT). For all that is not, the kernel is told
first and waited for afterwards, so that one disk access does not wait for the one before.

Looking for what is in memory is the part that keeps the interpreter busy: connections take turns at it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx.errors import VhdxError
from vhdx.nbd.read_replies import may_split, read_parts

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import DirectDevice, Place
    from vhdx.nbd.budget import Share
    from vhdx.nbd.channel import Channel
    from vhdx.nbd.pins import LingeringPins
    from vhdx.nbd.protocol.transmission import Replies, Request

CHUNK_SIZE: Final = 1 << 20
"""Reads above are answered apart, in several chunks where the client can take them."""
_SMALL_READ: Final = 32 << 10
"""Reads up to this size are copied into one buffer."""
_SMALL_READ_WITHOUT_FILES: Final = 128 << 10
"""The same, on a channel that cannot send files."""
_BUFFER_SIZE: Final = 256 << 10

_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)
_WILLNEED: Final[int] = getattr(os, "POSIX_FADV_WILLNEED", 0)


class _Copied(NamedTuple):
    """A read whose reply has its place in the buffer, and whose data were not all in memory."""

    request: Request
    place: Place
    reply_at: int
    done: int
    """Bytes of data that are there already."""


class _Placed(NamedTuple):
    request: Request
    place: Place


class Reads:
    """The reads of one connection: `add` and `answer` are for its own thread, `answer_apart` for its workers."""

    def __init__(
        self,
        device: DirectDevice,
        replies: Replies,
        channel: Channel,
        pins: LingeringPins,
        share: Share,
        turn: threading.Lock,
        *,
        fail: Callable[[Request, Exception], bytes],
        give_out: Callable[[Request], None],
    ) -> None:
        """`turn` is shared by all connections. `fail` makes the reply to a read that went wrong; `give_out` has a
        worker call `answer_apart`.
        """
        self._device = device
        self._replies = replies
        self._channel = channel
        self._pins = pins
        self._share = share
        self._turn = turn
        self._fail = fail
        self._give_out = give_out
        self._small = _SMALL_READ if channel.sends_files else _SMALL_READ_WITHOUT_FILES
        self._asked: list[Request] = []
        self._buffer = bytearray(_BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._used = 0
        self._can_ask = _NOWAIT != 0
        """Whether the system tells what is in memory."""
        self._missed: list[_Copied] = []
        self._whole: list[_Placed] = []
        """To be sent by the kernel."""
        self._odd: list[Request] = []
        """Without one place in a file."""

    def add(self, request: Request) -> None:
        """Take up a read; `answer` answers it."""
        if request.length > CHUNK_SIZE:
            self._give_out(request)
        else:
            self._asked.append(request)

    def answer(self, others: list[Buffer]) -> None:
        """Answer everything that was added; replies to other requests go along. Raises: ChannelError."""
        asked = self._asked
        if not asked:
            if others:
                self._channel.send(others)
            return
        self._asked = []
        at = 0
        while at < len(asked):
            try:
                pin = self._device.pin()
            except VhdxError as error:
                self._channel.send([*others, *(self._fail(request, error) for request in asked[at:])])
                return
            unpin = self._pins.unpin_once_taken
            try:
                with self._turn:
                    at = self._collect(asked, at)
                if not self._whole:
                    unpin = self._device.unpin  # what was read has been copied
                self._send(others)
            finally:
                unpin(pin)
            others = []

    def _collect(self, asked: list[Request], at: int) -> int:
        """Read what is in memory; return how far the buffer took us."""
        place_of, header_size, put_header = (
            self._device.place,
            self._replies.data_header_size,
            self._replies.put_data_header,
        )
        for index in range(at, len(asked)):
            request = asked[index]
            length = request.length
            try:
                place = place_of(request.offset, length)
            except OSError:
                place = None  # it comes again, where it can be told
            if place is None:
                self._odd.append(request)
            elif length > self._small:
                self._whole.append(_Placed(request, place))
            else:
                start = self._used
                data_at = start + header_size
                end = data_at + length
                if end > _BUFFER_SIZE:
                    return index
                put_header(self._buffer, start, request, request.offset, length, last=True)
                self._used = end
                count = 0
                if self._can_ask:
                    try:
                        count = os.preadv(place.fd, (self._view[data_at:end],), place.file_offset, _NOWAIT)
                    except BlockingIOError:
                        pass
                    except OSError as error:
                        # This file system cannot tell. If it was something else, it comes again.
                        self._can_ask = error.errno != errno.EOPNOTSUPP
                if count != length:
                    self._missed.append(_Copied(request, place, start, count))
        return len(asked)

    def _send(self, others: list[Buffer]) -> None:
        """Send what is in memory, then what has to be waited for."""
        if not (self._missed or self._whole or self._odd):
            self._channel.send((*others, self._view[: self._used]))
            self._used = 0
            return
        missed, whole, odd = self._missed, self._whole, self._odd
        self._missed, self._whole, self._odd = [], [], []
        late = self._announce(missed, whole)
        if hits := [*others, *self._hits(missed)]:
            self._channel.send(hits)
        for placed in whole:
            if placed not in late:
                self._send_whole(placed)
        for request in odd:
            self._answer_odd(request)
        if missed:
            self._channel.send([self._wait_for(copied) for copied in missed])
        for placed in late:
            self._send_whole(placed)
        self._used = 0

    def _announce(self, missed: list[_Copied], whole: list[_Placed]) -> list[_Placed]:
        """Tell the kernel what will be read that is not in memory; return what of `whole` that is."""
        if not _WILLNEED or len(missed) + len(whole) == 1:
            return []
        late = [placed for placed in whole if not self._is_in_memory(placed)]
        waited_for: list[_Copied | _Placed] = [*missed, *late]
        for item in waited_for:
            os.posix_fadvise(item.place.fd, item.place.file_offset, item.request.length, _WILLNEED)
        return late

    def _is_in_memory(self, placed: _Placed) -> bool:
        """Whether both ends of a range are, and so most likely all of it."""
        if not self._can_ask:
            return False
        fd, first = placed.place
        try:
            for file_offset in (first, first + placed.request.length - 1):
                os.preadv(fd, (bytearray(1),), file_offset, _NOWAIT)
        except OSError:
            return False
        return True

    def _hits(self, missed: list[_Copied]) -> Iterator[memoryview]:
        """What the buffer holds but the replies to `missed`."""
        at = 0
        for miss in missed:
            if miss.reply_at > at:
                yield self._view[at : miss.reply_at]
            at = miss.reply_at + self._replies.data_header_size + miss.request.length
        if self._used > at:
            yield self._view[at : self._used]

    def _wait_for(self, copied: _Copied) -> Buffer:
        request, place, reply_at, done = copied
        start = reply_at + self._replies.data_header_size
        at, end = start + done, start + request.length
        try:
            while at < end:
                count = os.preadv(place.fd, (self._view[at:end],), place.file_offset + at - start)
                if not count:
                    raise EOFError("the file became shorter while it was open")
                at += count
        except (OSError, EOFError) as error:
            return self._fail(request, error)
        return self._view[reply_at:end]

    def _send_whole(self, placed: _Placed) -> None:
        if self._channel.sends_files:
            self._send_file(placed.request, placed.place, placed.request.offset, placed.request.length)
        else:
            self._give_out(placed.request)

    def _send_file(self, request: Request, place: Place, offset: int, length: int) -> None:
        header = bytearray(self._replies.data_header_size)
        is_last = offset + length == request.offset + request.length
        self._replies.put_data_header(header, 0, request, offset, length, last=is_last)
        self._channel.send_file(header, place.fd, place.file_offset, length)

    def _answer_odd(self, request: Request) -> None:
        if request.length > _SMALL_READ:
            self._give_out(request)
            return
        try:
            parts = read_parts(self._device, request, self._replies, request.offset, request.length)
        except (VhdxError, OSError, EOFError) as error:
            parts = [self._fail(request, error)]
        self._channel.send(parts)

    def answer_apart(self, request: Request) -> None:
        """Answer a read of any length, chunk by chunk if the client takes chunks; others send in between.

        What goes wrong with a chunk ends the reply with an error. Raises: ChannelError.
        """
        end = request.offset + request.length
        step = CHUNK_SIZE if may_split(request, self._replies) else request.length
        for offset in range(request.offset, end, step):
            length = min(step, end - offset)
            with self._share.taken(length):
                try:
                    if self._send_placed(request, offset, length):
                        continue
                    parts = read_parts(self._device, request, self._replies, offset, length)
                except (VhdxError, OSError, EOFError) as error:
                    self._channel.send((self._fail(request, error),))
                    return
                with self._share.waiting_for_client():
                    self._channel.send(parts)

    def _send_placed(self, request: Request, offset: int, length: int) -> bool:
        """Send a part of a read straight from its file; False, with nothing sent, if it has no one place."""
        if not self._channel.sends_files:
            return False
        pin = self._device.pin()
        try:
            place = self._device.place(offset, length)
            if place is not None:
                with self._share.waiting_for_client():
                    self._send_file(request, place, offset, length)
        finally:
            self._pins.unpin_once_taken(pin)
        return place is not None
