"""How a long operation tells how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Called now and then, at most some ten times a second, always on the thread that began the operation.

    What it raises ends the operation, which then cleans up as after any other error.
    """

    def __call__(self, done_bytes: int, total_bytes: int, /) -> None:
        """Take note. `total_bytes` may be 0 if there is nothing to do; the last call has both equal."""
        ...


def no_progress(done_bytes: int, total_bytes: int, /) -> None:
    """Tell nobody."""
