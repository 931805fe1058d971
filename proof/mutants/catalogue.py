"""All mutants; and those that no crash can show, with the reasons."""

from typing import Final

from proof.mutants.named import blocks, commit, log, session, space
from proof.mutants.steps import discover
from proof.mutants.wrong import Mutant


def all_mutants() -> list[Mutant]:
    """Those that are found in the engine's steps, and those that have names of their own."""
    named = [mutant for room in (commit, log, session, blocks, space) for mutant in room.MUTANTS]
    return [*discover(), *named]


HARMLESS: Final[dict[str, str]] = {
    "commit.py _apply: no `self._pages.thaw()`": (
        "frozen pages stay in memory until the next freeze; their places hold the same"
    ),
    "session.py _begin_once: `if new_log is not None: ...` before `if self.opened.replay is not None: ...`": (
        "a file without a log has nothing to replay"
    ),
    "session.py _begin_once: `self._heal_region_tables()` before `if new_log is not None: ...`": (
        "healing changes pages in memory; they are written by the first commit"
    ),
    "session.py _replay_onto_disk: `if not is_block_device(self.store) and self.store.size() < replay. ...` before "
    "`self._put_sectors(replay.store, replay.store.patched_sectors())`": (
        "growth and replayed sectors become durable by the same flush, and until then the log replays both"
    ),
    "session.py _replay_onto_disk: `replay.store.settle()` before `self._headers.update(log_guid=ZERO_GUID)`": (
        "in memory: the file holds what the overlay shows since the flush before"
    ),
    "session.py _make_log: `self.store.flush()` before `if not space.known_zero: ...`": (
        "LogGuid is zero: nobody looks at what the place of the log holds, and the file is long enough"
    ),
    "session.py _make_log: no `self.store.pwrite(bytes(space.length), space.file_offset)`": (
        "entries count under the GUID that the headers name, and that is a new one for every log"
    ),
    "session.py end: `self._reclaim()` before `self._committer.finish()`": (
        "what may be punched was settled by earlier commits: no durable entry names it"
    ),
    "session.py end: `size = self._allocator.final_size(may_shrink=not self.keeps_space)` before `self._reclaim()`": (
        "punching changes the length of nothing"
    ),
    "header_pair.py: the header with the lower number counts": (
        "whenever something depends on what a header says, both of ours say it; images of others: tests/cases"
    ),
    "session.py end: no `self.store.truncate(size)`": "the file stays longer, with space that nobody owns",
    "session.py flush: `self._reclaim()` before `self._committer.flush()`": (
        "what may be punched was settled by earlier commits; the rest is punched by the next flush"
    ),
    "block_writer.py _marked: no `self._clear(space.file_offset, space.length, may_punch=True)`": (
        "no sector without a bit is read from the block; it is zeroed for readers that ignore the bitmap, and for"
        " the part behind the disk's end"
    ),
    "tables.py mark_sectors: `if plan.clears_bitmap: ...` before `if plan.needs_space or is_full: ...`": (
        "both changes are applied at once"
    ),
    "session.py take_for_tables: no `self.store.write_zeroes(space.length, space.file_offset)`": (
        "a block's bits are cleared in the entry that makes it partially present; others mean nothing"
    ),
    "session.py change: no `self._committer.flush()`": (
        "it would never end; no workload changes 126 pages between two flushes: tests/writing/test_flush_counts.py"
    ),
    "allocator.py: space at the old end of the file counts as zero": (
        "what lies behind the last structure was found to be void when the file was opened"
    ),
    "log_writer.py: an entry may end one sector past the log": (
        "two sectors are spare, and it is the last of them at which QEMU 7.2 stumbles"
    ),
}
"""By name."""
