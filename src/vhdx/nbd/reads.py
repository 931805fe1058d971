"""Answering reads of up to 1 MiB: small ones many at a time, larger ones without copying.

Small reads whose place in a file is known go straight into one buffer of replies; larger ones the kernel sends from
its page cache. What is in memory is read at once (RWF_NOWAIT). For all that is not, the kernel is told first what
will be read, and waited for afterwards, so that one disk access does not wait for the one before.

Looking for what is in memory is the part that keeps the interpreter busy: connections take turns at it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx import _host
from vhdx.errors import VhdxError
from vhdx.nbd.read_replies import read_parts, send_from_file

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from vhdx._buffer import Buffer
    from vhdx.blockdev.device import DirectDevice, Place
    from vhdx.nbd.answers import Answers
    from vhdx.nbd.channel import Channel
    from vhdx.nbd.pins import LingeringPins
    from vhdx.nbd.protocol.transmission import Request

MAX_LENGTH: Final = 1 << 20
"""Longer reads are left to the workers."""
_SMALL_READ: Final = 32 << 10
"""Reads up to this size are copied into one buffer."""
_SMALL_READ_WITHOUT_FILES: Final = 128 << 10
"""The same, on a channel that cannot send files."""
_BUFFER_SIZE: Final = 256 << 10

_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)


class _Missed(NamedTuple):
    """A read whose reply has its place in the buffer, and whose data were not all in memory."""

    request: Request
    place: Place
    reply_at: int
    done: int
    """Bytes of data that are in the buffer already."""


class _Placed(NamedTuple):
    """A read that can be sent from its place in a file."""

    request: Request
    place: Place


class _Rest(NamedTuple):
    """What reading from memory has left to be done."""

    missed: list[_Missed]
    large: list[_Placed]
    placeless: list[Request]
    """Without one place in a file."""


class Reads:
    """The reads of one connection. For its own thread."""

    def __init__(
        self,
        device: DirectDevice,
        channel: Channel,
        answers: Answers,
        pins: LingeringPins,
        turn: threading.Lock,
    ) -> None:
        """`turn` is shared by all connections."""
        self._device = device
        self._channel = channel
        self._answers = answers
        self._pins = pins
        self._turn = turn
        self._asked: list[Request] = []
        self._buffer = bytearray(_BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._can_ask = _host.HAVE_NOWAIT
        """Whether the system, and this file system, tell what is in memory."""

    def add(self, request: Request) -> bool:
        """Take up a read, for `answer`; False if it is so long that a worker must serve it."""
        if request.length > MAX_LENGTH:
            return False
        self._asked.append(request)
        return True

    def answer(self, others: list[Buffer]) -> list[Request]:
        """Answer what was added, with replies to other requests in front; return the reads left to the workers.

        Raises: ChannelError.
        """
        asked = self._asked
        if not asked:
            if others:
                self._channel.send(others)
            return []
        self._asked = []
        left: list[Request] = []
        at = 0
        while at < len(asked):
            try:
                pin = self._device.pin()
            except VhdxError as error:
                self._channel.send(
                    [*others, *(self._answers.failed(request, error) for request in asked[at:])]
                )
                break
            # Large reads are sent as pages of the file, and these are the client's when it has taken them.
            unpin = self._pins.unpin_once_taken
            try:
                with self._turn:
                    at, used, rest = self._read_from_memory(asked, at)
                if rest is None:
                    unpin = self._device.unpin
                    self._channel.send((*others, self._view[:used]))
                else:
                    if not rest.large:
                        unpin = self._device.unpin
                    left += self._send_rest(others, used, rest)
            finally:
                unpin(pin)
            others = []
        return left

    def _read_from_memory(self, asked: list[Request], first: int) -> tuple[int, int, _Rest | None]:
        """Fill the buffer with replies to small reads, from `first` on, as far as their data are in memory.

        Returns how many of `asked` have been looked at, how many bytes of the buffer are used, and what is left to
        be done for the reads that were looked at.
        """
        place_of = self._device.place
        replies = self._answers.replies
        header_size, put_header = replies.data_header_size, replies.put_data_header
        small = _SMALL_READ if self._channel.sends_files else _SMALL_READ_WITHOUT_FILES
        used = 0
        missed: list[_Missed] = []
        large: list[_Placed] = []
        placeless: list[Request] = []
        for at in range(first, len(asked)):
            request = asked[at]
            length = request.length
            try:
                place = place_of(request.offset, length)
            except OSError:
                place = None  # reading through the device meets the same error, and can tell the client
            if place is None:
                placeless.append(request)
            elif length > small:
                large.append(_Placed(request, place))
            else:
                reply_at, data_at = used, used + header_size
                if data_at + length > _BUFFER_SIZE:
                    break
                used = data_at + length
                put_header(self._buffer, reply_at, request, request.offset, length, last=True)
                count = 0
                if self._can_ask:
                    try:
                        count = os.preadv(place.fd, (self._view[data_at:used],), place.file_offset, _NOWAIT)
                    except BlockingIOError:
                        pass
                    except OSError as error:
                        # A file system that cannot tell is not asked again. `_wait_for` meets any other error.
                        self._can_ask = error.errno != errno.EOPNOTSUPP
                if count != length:
                    missed.append(_Missed(request, place, reply_at, count))
        else:
            at = len(asked)
        rest = _Rest(missed, large, placeless) if missed or large or placeless else None
        return at, used, rest

    def _send_rest(self, others: list[Buffer], used: int, rest: _Rest) -> list[Request]:
        """Send what is in memory, then what has to be waited for; return the reads left to the workers."""
        left = [request for request in rest.placeless if request.length > _SMALL_READ]
        in_memory, on_disk = self._announce(rest.missed, rest.large)
        if not self._channel.sends_files:
            left += [placed.request for placed in rest.large]
            in_memory, on_disk = [], []
        if hits := [*others, *self._hits(used, rest.missed)]:
            self._channel.send(hits)
        for placed in in_memory:
            self._send_large(placed)
        for request in rest.placeless:
            if request.length <= _SMALL_READ:
                self._channel.send(self._read_through_device(request))
        if rest.missed:
            self._channel.send([self._wait_for(missed) for missed in rest.missed])
        for placed in on_disk:
            self._send_large(placed)
        return left

    def _announce(self, missed: list[_Missed], large: list[_Placed]) -> tuple[list[_Placed], list[_Placed]]:
        """Tell the kernel what will be read that is not in memory.

        Returns which of the large reads are in memory, and which are not.
        """
        if not _host.HAVE_FADVISE or len(missed) + len(large) == 1:
            return large, []
        in_memory: list[_Placed] = []
        on_disk: list[_Placed] = []
        for placed in large:
            (in_memory if self._is_in_memory(placed) else on_disk).append(placed)
        waited_for: list[_Missed | _Placed] = [*missed, *on_disk]
        for read in waited_for:
            os.posix_fadvise(
                read.place.fd, read.place.file_offset, read.request.length, os.POSIX_FADV_WILLNEED
            )
        return in_memory, on_disk

    def _is_in_memory(self, placed: _Placed) -> bool:
        """Whether both ends of a range are in memory, and so most likely all of it."""
        if not self._can_ask:
            return False
        fd, first = placed.place
        try:
            for file_offset in (first, first + placed.request.length - 1):
                os.preadv(fd, (bytearray(1),), file_offset, _NOWAIT)
        except OSError:
            return False
        return True

    def _hits(self, used: int, missed: list[_Missed]) -> Iterator[memoryview]:
        """The complete replies in the buffer: everything but the replies to `missed`."""
        at = 0
        for miss in missed:
            if miss.reply_at > at:
                yield self._view[at : miss.reply_at]
            at = miss.reply_at + self._answers.replies.data_header_size + miss.request.length
        if used > at:
            yield self._view[at:used]

    def _wait_for(self, missed: _Missed) -> Buffer:
        """Read the rest of a reply from the disk."""
        request, place, reply_at, done = missed
        start = reply_at + self._answers.replies.data_header_size
        at, end = start + done, start + request.length
        try:
            while at < end:
                count = os.preadv(place.fd, (self._view[at:end],), place.file_offset + at - start)
                if not count:
                    raise EOFError("the file became shorter while it was open")
                at += count
        except (OSError, EOFError) as error:
            return self._answers.failed(request, error)
        return self._view[reply_at:end]

    def _send_large(self, placed: _Placed) -> None:
        request, place = placed
        replies = self._answers.replies
        send_from_file(self._channel, request, replies, request.offset, request.length, place)

    def _read_through_device(self, request: Request) -> list[Buffer]:
        try:
            return read_parts(self._device, request, self._answers.replies, request.offset, request.length)
        except (VhdxError, OSError, EOFError) as error:
            return [self._answers.failed(request, error)]
