"""What a test may choose of how the engine runs, in one value. Everybody else takes the defaults."""

from dataclasses import dataclass
from typing import Final

from vhdx._sync import THREADS, Sync

DEFAULT_PAGE_CAPACITY: Final = 1024


@dataclass(frozen=True, slots=True)
class Tuning:
    """Where locks come from, and how much room there is. What a file holds afterwards does not depend on it."""

    sync: Sync = THREADS
    """Makes the locks: a scheduler of threads, where a test decides which of them goes on."""
    page_capacity: int = DEFAULT_PAGE_CAPACITY
    """Clean metadata pages (4 KiB each) that are kept in memory."""
    log_capacity: int | None = None
    """Bytes of the log that are used at most, so that the log is full after a few commits; None: all of it."""


DEFAULT_TUNING: Final = Tuning()
