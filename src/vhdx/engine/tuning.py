"""What a test may choose of the engine, in one value; everybody else takes the defaults."""

from dataclasses import dataclass
from typing import Final

from vhdx._sync import THREADS, Sync

DEFAULT_PAGE_CAPACITY: Final = 1024


@dataclass(frozen=True, slots=True)
class Tuning:
    """How one open file is worked on."""

    sync: Sync = THREADS
    """Makes the locks."""
    page_capacity: int = DEFAULT_PAGE_CAPACITY
    """Clean metadata pages that are kept in memory."""
    log_capacity: int | None = None
    """Bytes of the log that are used at most, so that the log is restarted often; None: all of it."""


DEFAULT_TUNING: Final = Tuning()
