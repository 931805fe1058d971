"""File space whose content is still on its way to a client.

`sendfile` hands pages of the file to the socket, not copies of them. Until the client has taken them, nothing else
may be written to that part of the file, or the client would read another block's data.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from vhdx.nbd.channel import ChannelError

if TYPE_CHECKING:
    from vhdx.blockdev.device import DirectDevice
    from vhdx.nbd.channel import Channel

_PATIENCE_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.01


class LingeringPins:
    """Pins of one connection that wait for its client. Thread-safe."""

    def __init__(self, device: DirectDevice, channel: Channel) -> None:
        self._unpin = device.unpin
        self._channel = channel
        self._is_needed = device.limits.writable and channel.sends_files
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, int]] = deque()
        """(bytes that had been sent to the client under this pin and before it, pin)"""

    @property
    def any_wait(self) -> bool:
        """Whether the client has yet to take something that was sent."""
        return bool(self._waiting)

    def unpin_once_taken(self, pin: int) -> None:
        """Give a pin back when the client has taken everything that has been sent so far."""
        if not self._is_needed:
            self._unpin(pin)
            return
        with self._lock:
            self._waiting.append((self._channel.sent_bytes, pin))
        self.release()

    def release(self) -> None:
        """Give back the pins whose replies have been taken."""
        if not self._waiting:
            return
        taken = self._channel.taken_bytes()
        with self._lock:
            while self._waiting and self._waiting[0][0] <= taken:
                self._unpin(self._waiting.popleft()[1])

    def close(self) -> None:
        """Wait a while for the client to take what was sent.

        If the client does not, its pins stay for as long as the device is open: a socket that was closed still
        holds what was sent, and with it the pages of the file.
        """
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while self._waiting and time.monotonic() < give_up:
            try:
                self.release()
            except ChannelError:
                return
            if self._waiting:
                time.sleep(_PAUSE_SECONDS)
