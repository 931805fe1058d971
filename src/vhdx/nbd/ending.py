"""How one connection comes to its end: because it was asked to, or because it cannot go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vhdx.nbd.channel import Channel, ChannelError


class Ending:
    """Told by whoever ends a connection, and asked by whoever works for it. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.is_asked_for = False
        """No more requests are taken; those that have been received are answered."""
        self.failure: ChannelError | None = None
        """Why the connection was broken off, if somebody has said why."""

    @property
    def has_begun(self) -> bool:
        """Whether work that takes many steps must be given up."""
        return self.is_asked_for or self.failure is not None

    def ask(self) -> None:
        """End the connection once the requests that have been received are answered."""
        self.is_asked_for = True

    def break_off(self, failure: ChannelError | None = None) -> None:
        """End the connection now, in whatever call its threads are. The first failure is the one that is told."""
        self.failure = self.failure or failure
        self._channel.shut_down()
