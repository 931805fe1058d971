"""The commit: how changed metadata becomes durable, in an order that every crash leaves whole (docs/design.md).

    1 freeze    copies of the changed pages, the file's length, what was freed, who waits for a flush
    2 flush     payload, growth and pages that earlier commits applied become durable
    3 entry     written from the frozen copies
    4 flush     the entry is durable: the waiting flushes may return, what was freed may be used again
    5 apply     the frozen copies go to their places; the next commit's step 2 makes that durable

Whatever interrupts a commit poisons the session: nobody can tell what the disk holds, so nothing more is
written, and the next open replays what is durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdx.engine.page_cache import PAGE_SIZE
from vhdx.errors import ImagePoisonedError

if TYPE_CHECKING:
    from vhdx._sync import Sync
    from vhdx.engine.page_cache import PageCache
    from vhdx.engine.session.allocator import Allocator
    from vhdx.engine.session.log_writer import LogWriter
    from vhdx.storage.base import ByteStore


class Committer:
    """Makes the changes of one session durable. Thread-safe; flushes that wait together share a commit."""

    def __init__(
        self, store: ByteStore, pages: PageCache, log: LogWriter, allocator: Allocator, sync: Sync
    ) -> None:
        self._store = store
        self._pages = pages
        self._log = log
        self._allocator = allocator
        self._commit_lock = sync.lock()
        self._request_lock = sync.lock()
        self._requested = 0
        self._served = 0
        self.poison: BaseException | None = None
        self.is_half_done = False
        """Whether something is being done that poisons if it fails. One thing at a time: the commit lock, or the
        session's before the first commit, is held."""

    def check_sound(self) -> None:
        """Raises: ImagePoisonedError after a failure that left a commit half done."""
        if self.poison is not None:
            raise ImagePoisonedError(
                f"{self._store.name}: an earlier failure ({self.poison!r}) left a change half done;"
                " close the image and open it again"
            ) from self.poison

    def flush(self) -> None:
        """Make everything whose call has returned durable. Raises: ImagePoisonedError, OSError (and poisons)."""
        with self._request_lock:
            self._requested += 1
            mine = self._requested
        with self._commit_lock:
            self.check_sound()
            if self._served >= mine:
                return
            with self._request_lock:
                upto = self._requested
            self._guarded_commit()
            self._served = upto

    def guarded(self) -> PoisonOnFailure:
        """A context in which any exception poisons the session."""
        return PoisonOnFailure(self)

    def _guarded_commit(self) -> None:
        with self.guarded():
            self._commit()

    def _commit(self) -> None:
        self._allocator.freeze()
        frozen = self._pages.freeze()
        used_end = self._allocator.used_end
        length = self._allocator.file_size
        self._store.flush()
        if frozen:
            self._write_entry(length, used_end)
            for number, page in frozen.items():
                self._store.pwrite(page, number * PAGE_SIZE)
            self._pages.thaw()
        self._allocator.settle()

    def _write_entry(self, flushed_file_offset: int, used_end: int) -> None:
        frozen = self._pages.frozen
        if not self._log.is_active:
            self._log.start(flushed_file_offset, used_end)
        elif not self._log.fits(len(frozen)):
            # Step 2 has just made every applied page durable, so nothing in the log is needed any more.
            self._log.end()
            self._log.start(flushed_file_offset, used_end)
        self._log.append(frozen, flushed_file_offset, used_end)
        self._store.flush()

    def finish(self) -> None:
        """Commit, and leave an empty log. Raises: as `flush`."""
        self.flush()
        if self._log.is_active:
            with self._commit_lock, self.guarded():
                self._store.flush()
                self._log.end()


class PoisonOnFailure:
    """Context manager: an exception inside, of whatever kind, poisons the session.

    An interrupt may keep `__exit__` from saying so; then whoever enters next finds that the last did not come out.
    """

    def __init__(self, committer: Committer) -> None:
        self._committer = committer

    def __enter__(self) -> None:
        committer = self._committer
        if committer.is_half_done and committer.poison is None:
            committer.poison = KeyboardInterrupt()
        committer.check_sound()
        committer.is_half_done = True

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is None:
            self._committer.is_half_done = False
        elif self._committer.poison is None:
            self._committer.poison = error
