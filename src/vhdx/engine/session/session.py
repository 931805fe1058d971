"""One writing session of one file: what must be on disk before the first change, and after the last.

Nothing is written until the first change. Then, in this order, each step durable before the next:

    w, d   FileWriteGuid and DataWriteGuid new in both headers
    r      if the log is dirty: its changes in their places, the file extended, then LogGuid zero
    -      if the file has no log: space for one, then its place in both headers

The log itself begins with the first commit (`engine.commit`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from vhdx._units import MIB
from vhdx.engine.page_cache import PageChange
from vhdx.engine.session.log_writer import MAX_PAGES
from vhdx.format.constants import HEADER_FILE_OFFSETS, LOG_SECTOR_SIZE, REGION_TABLE_FILE_OFFSETS
from vhdx.format.guids import ZERO_GUID
from vhdx.format.header import HEADER_SIZE
from vhdx.format.region_table import REGION_TABLE_SIZE
from vhdx.storage.base import is_block_device, pread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vhdx._sync import Sync
    from vhdx.engine.log_replay import Replay
    from vhdx.engine.opening import Opened
    from vhdx.engine.page_cache import PageCache
    from vhdx.engine.session.allocator import Allocator, Space
    from vhdx.engine.session.commit import Committer
    from vhdx.engine.session.header_writer import HeaderWriter
    from vhdx.engine.session.host_space import HostSpace
    from vhdx.format.header import Header
    from vhdx.storage.base import ByteStore

_NEW_LOG_LENGTH = MIB


class WriteSession:
    """Begins and ends the writing of one file. Thread-safe."""

    def __init__(
        self,
        opened: Opened,
        store: ByteStore,
        pages: PageCache,
        headers: HeaderWriter,
        allocator: Allocator,
        committer: Committer,
        host_space: HostSpace,
        sync: Sync,
    ) -> None:
        """`store` is the file itself."""
        self._opened = opened
        self._store = store
        self._pages = pages
        self._headers = headers
        self._allocator = allocator
        self._committer = committer
        self._host_space = host_space
        self._lock = sync.lock()
        self.has_begun = False

    @property
    def header(self) -> Header:
        """The header that counts in the file now."""
        return self._headers.current

    def begin(self) -> None:
        """Prepare the file for its first change; later calls do nothing.

        Raises: ImagePoisonedError; OSError, which poisons.
        """
        self._committer.check_sound()
        if not self.has_begun:
            with self._lock:
                self._begin_once()

    def _begin_once(self) -> None:
        if self.has_begun:
            return
        self._reserve_host_space()
        with self._committer.guarded():
            # A writer that was killed may have left a header on its way to the medium: never both of them.
            self._store.flush()
            self._headers.update(file_write_guid=uuid4(), data_write_guid=uuid4())
        # If this fails nothing is half done: who asks again begins again, with other GUIDs.
        new_log = self._make_room()
        with self._committer.guarded():
            if self._opened.replay is not None:
                self._replay_onto_disk(self._opened.replay)
            if new_log is not None:
                self._make_log(new_log)
            self._heal_region_tables()
        self.has_begun = True

    def _reserve_host_space(self) -> None:
        """Take the host space that beginning needs in the file as it is. Raises: OSError, with nothing done."""
        header = self._headers.current
        reserve = self._host_space.reserve
        for file_offset in HEADER_FILE_OFFSETS:
            reserve(HEADER_SIZE, file_offset)
        reserve(header.log_length, header.log_offset)
        if self._bad_region_table is not None:
            reserve(REGION_TABLE_SIZE, self._bad_region_table)

    def _make_room(self) -> Space | None:
        """Take the space for what may make the file longer: a replay, and a log if there is none, which is returned.

        Raises: OSError, with nothing taken.
        """
        if self._opened.replay is not None:
            for start, end in _runs(self._opened.replay.store.patched_sectors()):
                self._host_space.reserve((end - start) * LOG_SECTOR_SIZE, start * LOG_SECTOR_SIZE)
        if self._headers.current.log_length:
            return None
        space = self._allocator.allocate(_NEW_LOG_LENGTH)
        try:
            self._host_space.reserve(space.length, space.file_offset)
        except BaseException:
            self._allocator.undo(space)
            raise
        return space

    def _replay_onto_disk(self, replay: Replay) -> None:
        """A crash before the last step leaves LogGuid set: the next open replays again, to the same end."""
        store = self._store
        size, may_grow = store.size(), not is_block_device(store)
        for start, end in replay.zero_ranges:
            if start < size:
                store.write_zeroes(min(end, size) - start, start)
                self._host_space.forget(end - start, start)
        for sector in replay.store.patched_sectors():
            file_offset = sector * LOG_SECTOR_SIZE
            store.pwrite(pread(replay.store, LOG_SECTOR_SIZE, file_offset), file_offset)
        if may_grow and store.size() < replay.file_size:
            store.truncate(replay.file_size)
        store.flush()
        self._headers.update(log_guid=ZERO_GUID)
        replay.store.settle()

    def _make_log(self, space: Space) -> None:
        if not space.known_zero:
            # Written, not punched: that would give back what has been reserved.
            self._store.pwrite(bytes(space.length), space.file_offset)
        self._store.flush()
        self._headers.update(log_offset=space.file_offset, log_length=space.length)

    def _heal_region_tables(self) -> None:
        """Make a damaged copy equal the one that counts, through the log."""
        if self._bad_region_table is not None:
            first, second = self._opened.region_tables
            table = second if first is None else first
            assert table is not None
            applied = self._pages.apply([PageChange(self._bad_region_table, table.encode())], MAX_PAGES)
            assert applied

    @property
    def _bad_region_table(self) -> int | None:
        """File offset of the copy that is damaged or differs; None if both are alike."""
        first, second = self._opened.region_tables
        if first == second:
            return None
        return REGION_TABLE_FILE_OFFSETS[0 if first is None else 1]

    def end(self, *, may_shrink: bool) -> None:
        """Make everything durable, leave an empty log, and only then give back the end of the file.

        Does nothing if nothing was changed, or after a failure. Raises: OSError.
        """
        if not self.has_begun or self._committer.poison is not None:
            return
        self._committer.finish()
        if may_shrink:
            self._allocator.reclaim()
        size = self._allocator.final_size(may_shrink=may_shrink)
        if size < self._store.size():
            self._store.truncate(size)


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbours among ascending numbers: (first, just past the last)."""
    start = end = -1
    for number in numbers:
        if number != end:
            if end > start:
                yield start, end
            start = number
        end = number + 1
    if end > start:
        yield start, end
