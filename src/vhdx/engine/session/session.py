"""One writing session of one file: the door through which everything that changes the file goes.

Nothing is written until the first change. Then, in this order, each step durable before the next:

    w, d   FileWriteGuid new in both headers, and DataWriteGuid unless the guest's data stay as they are
    r      if the log is dirty: its changes in their places, the file extended, then LogGuid zero
    -      if the file has no log: space for one, then its place in both headers

The log itself begins with the first commit (`commit`). Whoever changes a file does it so:

    space = session.take(length)           file space, if any is needed; `give_back` if it comes to nothing
    session.store.pwrite(...)              payload, to space that no table names yet
    session.change([PageChange(...)])      metadata: changes that belong together, after the payload that they name
    session.free(file_offset, length)      payload space that no table names any more
    session.flush()                        all of it is durable
    session.end()                          the log is empty, the file no longer than it has to be

Payload may also be written in place, to space that a table names. Then `session.begin()` comes first; `take` and
`change` begin the session by themselves. Metadata is everything that the log can restore: BAT, sector bitmaps, region
tables, metadata items. It is written by `change` alone, except for new tables in space that no table names yet.

Locks are taken in this order, never the other way round:

    1  a block's (`InFlight.block`)
    2  a chunk's bitmap's (`InFlight.bitmap`)
    3  the session's, while it begins, or the committer's, while it commits; never both
    4  the committer's for the count of flushes, the allocator's, the pages'; never two of them

The locks of stores and of a parent's pages are held during one call only, and nothing is locked meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from vhdx._units import MIB
from vhdx.engine.page_cache import PageChange
from vhdx.engine.session.allocator import Allocator, FileEnds
from vhdx.engine.session.commit import Committer
from vhdx.engine.session.file_tail import end_of_content
from vhdx.engine.session.header_writer import HeaderWriter
from vhdx.engine.session.host_space import HostSpace
from vhdx.engine.session.in_flight import InFlight
from vhdx.engine.session.log_writer import MAX_PAGES, LogWriter
from vhdx.engine.session.poison import Poison
from vhdx.format.constants import HEADER_FILE_OFFSETS, LOG_SECTOR_SIZE, REGION_TABLE_FILE_OFFSETS
from vhdx.format.guids import ZERO_GUID
from vhdx.format.header import HEADER_SIZE
from vhdx.format.region_table import REGION_TABLE_SIZE
from vhdx.storage.base import is_block_device, pread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from uuid import UUID

    from vhdx.engine.log_replay import Replay
    from vhdx.engine.opening import Opened
    from vhdx.engine.page_cache import PageCache
    from vhdx.engine.session.allocator import Space
    from vhdx.engine.table_summary import TableSummary
    from vhdx.engine.tuning import Tuning
    from vhdx.format.header import Header
    from vhdx.storage.base import ByteStore

_NEW_LOG_LENGTH = MIB


class WriteSession:
    """Changes one file, from the first change to the last. Thread-safe. Offsets and lengths in bytes of the file."""

    def __init__(
        self,
        opened: Opened,
        summary: TableSummary,
        store: ByteStore,
        pages: PageCache,
        tuning: Tuning,
        *,
        keeps_content: bool = False,
    ) -> None:
        """`store` is the file itself, without the overlay of a replay. `summary` tells which of its space is in use.

        The free space of `summary` is used up. `keeps_content`: what the guest sees does not change, so DataWriteGuid
        stays, by which the children of an image know that it is still the parent they were made for.
        """
        sync = tuning.sync
        self.opened = opened
        self.store = store
        self.pages = pages
        self.poison = Poison(store.name)
        self.in_flight = InFlight(sync, store.name)
        """Tickets of running operations, and the locks of blocks and bitmaps."""
        self._host_space = HostSpace(store)
        self._headers = HeaderWriter(store, opened.headers)
        ends = _file_ends(opened, summary, store)
        self._allocator = Allocator(store, ends, summary.free, opened.block_rules, self.in_flight, sync)
        log = LogWriter(store, self._headers, tuning.log_capacity)
        self._committer = Committer(pages, log, self._allocator, self.poison, sync)
        self._lock = sync.lock()
        self._keeps_content = keeps_content
        self.has_begun = False

    @property
    def header(self) -> Header:
        """The header that counts in the file now."""
        return self._headers.current

    @property
    def keeps_space(self) -> bool:
        """Whether blocks keep their file space and host space, and the file its length: those of a fixed image do."""
        return self.opened.parameters.keeps_space

    # -- beginning ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Prepare the file for its first change; later calls do nothing.

        Raises: ImagePoisonedError; OSError, which poisons once the first header may have been changed.
        """
        self.poison.check()
        if not self.has_begun:
            with self._lock:
                self._begin_once()

    def _begin_once(self) -> None:
        if self.has_begun:
            return
        self._reserve_host_space()
        with self.poison:
            # A writer that was killed may have left one header on its way to the medium. It has to be durable before
            # the other one is changed: a power failure may spoil whatever is on its way.
            self.store.flush()
            self._headers.update(**self._new_guids())
        # If this fails nothing is half done: the next request begins once more, with other GUIDs.
        new_log = self._make_room()
        with self.poison:
            if self.opened.replay is not None:
                self._replay_onto_disk(self.opened.replay)
            if new_log is not None:
                self._make_log(new_log)
            self._heal_region_tables()
        self.has_begun = True

    def _new_guids(self) -> dict[str, UUID]:
        changed = ("file_write_guid",) if self._keeps_content else ("file_write_guid", "data_write_guid")
        return {field: uuid4() for field in changed}

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
        if self.opened.replay is not None:
            for start, end in _runs(self.opened.replay.store.patched_sectors()):
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
        """Put what the log holds in its places, then empty the log.

        After a crash before LogGuid is zero, the next open replays the same log, to the same end.
        """
        self._put_zeroes(replay.zero_ranges)
        self._put_sectors(replay.store, replay.store.patched_sectors())
        if not is_block_device(self.store) and self.store.size() < replay.file_size:
            self.store.truncate(replay.file_size)
        self.store.flush()
        self._headers.update(log_guid=ZERO_GUID)
        replay.store.settle()

    def _put_zeroes(self, ranges: Iterable[tuple[int, int]]) -> None:
        size = self.store.size()
        for start, end in ranges:
            if start < size:
                self.store.write_zeroes(min(end, size) - start, start)
                self._host_space.forget(end - start, start)

    def _put_sectors(self, replayed: ByteStore, sectors: Iterable[int]) -> None:
        for sector in sectors:
            file_offset = sector * LOG_SECTOR_SIZE
            self.store.pwrite(pread(replayed, LOG_SECTOR_SIZE, file_offset), file_offset)

    def _make_log(self, space: Space) -> None:
        if not space.known_zero:
            # Written, because punching a hole would give back the host space that has been reserved.
            self.store.pwrite(bytes(space.length), space.file_offset)
        self.store.flush()
        self._headers.update(log_offset=space.file_offset, log_length=space.length)

    def _heal_region_tables(self) -> None:
        """Make a damaged copy equal the one that counts, through the log."""
        if self._bad_region_table is not None:
            first, second = self.opened.region_tables
            table = second if first is None else first
            assert table is not None
            applied = self.pages.apply([PageChange(self._bad_region_table, table.encode())], MAX_PAGES)
            assert applied

    @property
    def _bad_region_table(self) -> int | None:
        """File offset of the copy that is damaged or differs; None if both are alike."""
        first, second = self.opened.region_tables
        if first == second:
            return None
        return REGION_TABLE_FILE_OFFSETS[0 if first is None else 1]

    # -- changing ----------------------------------------------------------------------------------------------

    def take(self, length: int) -> Space:
        """Take file space, at a whole MiB. Raises: as `begin`; OSError, with nothing taken."""
        self.begin()
        return self._allocator.allocate(length)

    def take_for_tables(self, length: int) -> Space:
        """Take file space that reads as zeroes, for metadata that `change` is to write. Raises: as `take`."""
        space = self.take(length)
        try:
            # What lay there before may have been reserved, and punched since.
            self._host_space.forget(space.length, space.file_offset)
            if not space.known_zero:
                self.store.write_zeroes(space.length, space.file_offset)
        except BaseException:
            self.give_back(space)
            raise
        return space

    def give_back(self, space: Space) -> None:
        """Give back space that came to nothing: no table names it.

        After a failure that poisons, it stays taken: nobody can tell then which tables the disk holds.
        """
        if self.poison.cause is None:
            self._allocator.undo(space)

    def free(self, file_offset: int, length: int) -> None:
        """Give up payload space that a table named, after the `change` that took its name out.

        Nobody gets it before that change is durable, and before the operations that may use it have ended. Space of
        metadata is not given up so: an entry of the log may still be replayed onto it. It stays taken, and is free
        when the file is opened next.
        """
        self._allocator.free(file_offset, length)

    def change(self, changes: Sequence[PageChange]) -> None:
        """Change metadata. Changes that belong together are given together: one entry of the log takes all of them.

        They are in the page cache then; if the next entry has no room for them, there is a commit first. Raises: as
        `begin`; ValueError for more pages than an entry takes (126), OSError, each with nothing changed.
        """
        self.begin()
        try:
            for change in changes:
                self._host_space.reserve(len(change.data), change.file_offset)
            while not self.pages.apply(changes, MAX_PAGES):
                self._committer.flush()
        except (OSError, ValueError):
            # Nothing has changed: the host is full, a page could not be read, or a commit failed, which poisons.
            raise
        except BaseException as error:
            # An interrupt: some of the pages may have been changed, and others not.
            self.poison.take(error)
            raise

    def flush(self) -> None:
        """Make every change whose call has returned durable, and give host space back that nobody needs.

        Raises: ImageClosedError, ImagePoisonedError; OSError, which poisons.
        """
        self.poison.check()
        if not self.has_begun:
            return
        ticket = self.in_flight.begin()
        try:
            self._committer.flush()
            self._reclaim()
        finally:
            self.in_flight.end(ticket)

    def _reclaim(self) -> None:
        if not self.keeps_space:
            self._allocator.reclaim()

    # -- ending ------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Refuse newcomers, wait for the operations of other threads, make everything durable, empty the log.

        Only then the unused end of the file is cut off. Nothing is written if nothing was changed, or after a failure
        that poisons. Raises: OSError.
        """
        self.in_flight.close()
        if not self.has_begun or self.poison.cause is not None:
            return
        self._committer.finish()
        self._reclaim()
        size = self._allocator.final_size(may_shrink=not self.keeps_space)
        if size < self.store.size():
            self.store.truncate(size)


def _file_ends(opened: Opened, summary: TableSummary, store: ByteStore) -> FileEnds:
    used_end = max(summary.blocks_end, opened.block_rules.structures_end)
    if is_block_device(store):
        # A device keeps its length: neither LastFileOffset in the log nor what the device holds changes it.
        return FileEnds(store.size(), used_end, kept_end=0)
    return FileEnds(opened.file_size, used_end, end_of_content(opened.store, used_end, opened.file_size))


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
