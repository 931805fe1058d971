"""The commit: how changed metadata becomes durable, in an order that every crash leaves whole (docs/design.md).

    1 freeze                  copies of the changed pages, the file's length, what was freed, who waits for a flush
    2 make payload durable    a flush: payload, growth and pages that earlier commits applied
    3 log                     an entry written from the frozen copies
    4 make entry durable      a flush: the waiting flushes may return, what was freed may be used again
    5 apply                   the frozen copies go to their places; the next commit's step 2 makes that durable

Whatever interrupts a commit poisons the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vhdx.engine.page_cache import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vhdx._sync import Sync
    from vhdx.engine.page_cache import PageCache
    from vhdx.engine.session.allocator import Allocator
    from vhdx.engine.session.log_writer import LogWriter
    from vhdx.engine.session.poison import Poison


class Frozen(NamedTuple):
    """What one commit makes durable."""

    pages: Mapping[int, bytes]
    """Copies of the changed metadata pages: file offset // 4096 to 4096 bytes."""
    file_size: int
    """Bytes of the file that the commit's first flush covers."""
    used_end: int
    """File offset just past the last structure or block of the frozen state."""


class Committer:
    """Makes the changes of one session durable. Thread-safe; flushes that wait together share a commit."""

    def __init__(
        self, pages: PageCache, log: LogWriter, allocator: Allocator, poison: Poison, sync: Sync
    ) -> None:
        self._store = log.store
        self._pages = pages
        self._log_writer = log
        self._allocator = allocator
        self._poison = poison
        self._commit_lock = sync.lock()
        self._request_lock = sync.lock()
        self._requested = 0
        self._served = 0

    def flush(self) -> None:
        """Make everything whose call has returned durable. Raises: ImagePoisonedError, OSError (and poisons)."""
        mine = self._request()
        with self._commit_lock:
            self._poison.check()
            if self._served >= mine:
                return
            waiting = self._requested_so_far()
            with self._poison:
                self._commit()
            self._served = waiting

    def _request(self) -> int:
        """The number of a new flush that waits."""
        with self._request_lock:
            self._requested += 1
            return self._requested

    def _requested_so_far(self) -> int:
        with self._request_lock:
            return self._requested

    def _commit(self) -> None:
        frozen = self._freeze()
        self._make_payload_durable()
        if frozen.pages:
            self._log(frozen)
            self._make_entry_durable()
            self._apply(frozen)
        self._allocator.settle()

    def _freeze(self) -> Frozen:
        # In an order that other threads cannot make inconsistent. Space that is freed after the first line waits for
        # the next commit, whichever of the pages this commit gets. All that the pages name lies below an end that is
        # read after them. And the file grows before that end moves: a length that is read last is not below the end.
        self._allocator.freeze()
        pages = self._pages.freeze()
        used_end = self._allocator.used_end
        return Frozen(pages, self._allocator.file_size, used_end)

    def _make_payload_durable(self) -> None:
        self._store.flush()

    def _log(self, frozen: Frozen) -> None:
        log = self._log_writer
        if not log.is_active:
            log.start(frozen.file_size, frozen.used_end)
        elif not log.fits(len(frozen.pages)):
            # Step 2 has just made every applied page durable, so nothing in the log is needed any more.
            log.end()
            log.start(frozen.file_size, frozen.used_end)
        log.append(frozen.pages, frozen.file_size, frozen.used_end)

    def _make_entry_durable(self) -> None:
        self._store.flush()

    def _apply(self, frozen: Frozen) -> None:
        for number, page in frozen.pages.items():
            self._store.pwrite(page, number * PAGE_SIZE)
        self._pages.thaw()

    def finish(self) -> None:
        """Commit, and leave an empty log. Raises: as `flush`."""
        self.flush()
        if self._log_writer.is_active:
            with self._commit_lock, self._poison:
                self._store.flush()
                self._log_writer.end()
