"""File space of one writing session: who gets which bytes of the file, and when freed ones may be used again.

Space is given out in pieces that begin at a whole MiB. What was in the file when it was opened and no structure owns
is free, but may hold anything, and so may everything that is freed later. Only the bytes by which this session has
made the file longer are known to be zero.

Freed space may be used again once both of these are true:

* an entry of the log that was frozen after the free is durable (`freeze`, then `settle`), so that no crash brings
  back the table that named the space;
* every operation that may have looked up the space before the free has ended (`InFlight.oldest`).
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from vhdx._units import MIB, align_up
from vhdx.engine.interval_set import IntervalSet
from vhdx.format.constants import MAX_BLOCK_FILE_OFFSET
from vhdx.storage.base import is_block_device, space_control

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vhdx._sync import Sync
    from vhdx.engine.block_rules import BlockRules
    from vhdx.engine.session.in_flight import InFlight
    from vhdx.storage.base import ByteStore

GROWTH_SIZE: Final = 64 * MIB
"""The file grows by at least this: a flush takes longer when the file's length has changed."""

_JOIN_AT: Final = 1024


class Space(NamedTuple):
    """A piece of the file, in bytes."""

    file_offset: int
    length: int
    known_zero: bool

    @property
    def end(self) -> int:
        """File offset just past it."""
        return self.file_offset + self.length


class FileEnds(NamedTuple):
    """Where a file ends when a session begins, in three senses. File offsets in bytes."""

    file_size: int
    """Of the file once its log is in place."""
    used_end: int
    """Just past the last block, bitmap or structure."""
    kept_end: int
    """The file is never made shorter than this: beyond it, unowned, there is nothing but zeroes."""


class _Freed(NamedTuple):
    file_offset: int
    length: int
    ticket: int
    """Operations with an older ticket may still use the space."""

    @property
    def end(self) -> int:
        """File offset just past it."""
        return self.file_offset + self.length


class _FreedRuns:
    """Freed space that waits for one thing.

    When there are many pieces, neighbours are joined. A joined piece waits for the operations that each of its parts
    waits for.
    """

    def __init__(self) -> None:
        self.runs: list[_Freed] = []
        self._join_at = _JOIN_AT

    def add(self, runs: Iterable[_Freed]) -> None:
        """Let more space wait. Joining takes little time beside what it took to free so many pieces."""
        self.runs += runs
        if len(self.runs) >= self._join_at:
            self.runs = _joined(self.runs)
            self._join_at = max(_JOIN_AT, 2 * len(self.runs))


class Allocator:
    """Gives out file space. Thread-safe."""

    def __init__(
        self,
        store: ByteStore,
        ends: FileEnds,
        free: IntervalSet,
        rules: BlockRules,
        in_flight: InFlight,
        sync: Sync,
    ) -> None:
        """`free` is what lies unowned in the file; it is the allocator's from now on. `rules` are told of growth.

        A block device keeps its length, whatever it holds.
        """
        self._store = store
        self._is_device = is_block_device(store)
        self._space_control = space_control(store)
        self._lock = sync.lock()
        self._in_flight = in_flight
        self._rules = rules
        self._free = free
        self._original_size = ends.file_size
        self._kept_end = ends.kept_end
        self.file_size = ends.file_size
        """Length of the file, growth that has returned included.

        The store may show the length of a growth that is still under way, which the next flush need not cover.
        """
        # Zeroes after the last structure count as not yet allocated: blocks are put there in ascending order, and
        # the file grows when they are used up.
        self.used_end = align_up(max(ends.used_end, ends.kept_end), MIB)
        free.clip(self.used_end)
        self._freed = _FreedRuns()
        self._frozen: list[_Freed] = []
        self._settled = _FreedRuns()

    def allocate(self, length: int) -> Space:
        """Take space, growing the file if need be. Raises: OSError, with nothing taken."""
        with self._lock:
            self._collect()
            start = self._free.take(length)
            if start is not None:
                self._reach_taken(start, start + length)
                return Space(start, length, known_zero=False)
            start = self.used_end
            end = start + length
            if end > self.file_size:
                self._grow(end)
            self.used_end = end
            return Space(start, length, known_zero=start >= self._original_size)

    def _reach_taken(self, start: int, end: int) -> None:
        """Make the file hold space that was free: of a block that the file's end had cut off, all has been freed."""
        if end > self.file_size:
            try:
                self._grow(end)
            except BaseException:
                self._free.add(start, end)
                raise

    def _grow(self, end: int) -> None:
        if self._is_device:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._store.name)
        if end > MAX_BLOCK_FILE_OFFSET:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self._store.name)
        new_size = max(end, align_up(self.file_size + GROWTH_SIZE, MIB))
        try:
            self._store.truncate(new_size)
        except OSError:
            # A quota, or a file system without holes, may still have room for what is needed now.
            new_size = end
            self._store.truncate(new_size)
        # The rules come first: after an interrupt between the two, the file grows once more and the rules with it.
        self._rules.grow(new_size)
        self.file_size = new_size

    def undo(self, space: Space) -> None:
        """Take back space that no table has ever named. It may have been written to."""
        with self._lock:
            self._free.add(space.file_offset, space.end)

    def free(self, file_offset: int, length: int) -> None:
        """Give up space that a table named; the change of that table is in the page cache already."""
        with self._lock:
            self._freed.add([_Freed(file_offset, length, self._in_flight.now())])

    def freeze(self) -> None:
        """Begin a commit, before its pages are frozen: what is freed from now on waits for the next commit."""
        with self._lock:
            self._frozen += self._freed.runs
            self._freed = _FreedRuns()

    def settle(self) -> None:
        """The entry of the commit that began with `freeze` is durable."""
        with self._lock:
            self._settled.add(self._frozen)
            self._frozen.clear()

    def reclaim(self) -> None:
        """Give the host space of what may be used again back to the host, where there is a way.

        If the host refuses, it keeps the space: nothing that is durable depends on it.
        """
        if not self._space_control.can_punch:
            return
        with self._lock:
            ready = self._take_ready()
        # The space is not free yet, so that nobody writes to it while it is punched.
        try:
            with suppress(OSError):
                for freed in ready:
                    # The last block may reach past the end of the file.
                    end = min(freed.end, self.file_size)
                    self._space_control.punch_hole(end - freed.file_offset, freed.file_offset)
        finally:
            with self._lock:
                self._add_free(ready)

    def _collect(self) -> None:
        self._add_free(self._take_ready())

    def _take_ready(self) -> list[_Freed]:
        """Take out of the settled space what no operation uses any more."""
        if not self._settled.runs:
            return []
        oldest = self._in_flight.oldest()
        ready = [freed for freed in self._settled.runs if freed.ticket <= oldest]
        self._settled.runs = [freed for freed in self._settled.runs if freed.ticket > oldest]
        return ready

    def _add_free(self, ready: list[_Freed]) -> None:
        self._free.update([(freed.file_offset, freed.end) for freed in ready])

    def final_size(self, *, may_shrink: bool) -> int:
        """How long the file has to be, in bytes, once everything is durable and no operation runs."""
        with self._lock:
            self._collect()
            end = self.used_end
            if self._free.last is not None and self._free.last[1] == end:
                end = self._free.last[0]
            floor = self._kept_end if may_shrink and not self._is_device else self._original_size
            return max(end, min(floor, self.file_size))


def _joined(runs: list[_Freed]) -> list[_Freed]:
    joined: list[_Freed] = []
    for run in sorted(runs):
        if joined and joined[-1].end == run.file_offset:
            last = joined.pop()
            run = _Freed(last.file_offset, last.length + run.length, max(last.ticket, run.ticket))
        joined.append(run)
    return joined
