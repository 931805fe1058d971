"""Poison: after a failure that left a change half done, nobody can tell what the disk holds.

From then on nothing more is written; the next open replays what is durable.
"""

from __future__ import annotations

from vhdx.errors import ImagePoisonedError


class Poison:
    """Whether a session may go on, and what ended it if not.

    As a context manager (`with poison:`) it poisons the session for any exception inside, of whatever kind. One
    thread at a time may be inside: it holds the commit lock, or the session's lock before the first commit.
    """

    def __init__(self, name: str) -> None:
        """`name`: the image's, for messages."""
        self._name = name
        self._is_half_done = False
        """True between `__enter__` and an `__exit__` without an exception."""
        self.cause: BaseException | None = None
        """The first failure that left something half done; None as long as the session is sound."""

    def check(self) -> None:
        """Raises: ImagePoisonedError after a failure that left a change half done."""
        if self.cause is not None:
            raise ImagePoisonedError(
                f"{self._name}: an earlier failure ({self.cause!r}) left a change half done;"
                " close the image and open it again"
            ) from self.cause

    def take(self, error: BaseException) -> None:
        """Poison the session, unless an earlier failure has."""
        if self.cause is None:
            self.cause = error

    def __enter__(self) -> None:
        # An interrupt can strike as `__exit__` begins, before it has noted a failure. Then the flag is still set.
        if self._is_half_done:
            self.take(KeyboardInterrupt())
        self.check()
        self._is_half_done = True

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self._is_half_done = False
        else:
            self.take(error)
