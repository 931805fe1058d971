"""The named mutants of the library's own write engine."""

from typing import Final

from vhdx.testing.barrier_mutants import Replacement

NAMED: Final = (
    # Pages left out
    Replacement(
        "the last page is not logged",
        "log_writer.py",
        "for number, page in pages.items()]",
        "for number, page in list(pages.items())[:-1]]",
    ),
    Replacement(
        "the first page is not logged when there are more",
        "log_writer.py",
        "for number, page in pages.items()]",
        "for number, page in list(pages.items())[len(pages) > 1 :]]",
    ),
    Replacement(
        "the last page is not applied",
        "commit.py",
        "for number, page in frozen.items():",
        "for number, page in list(frozen.items())[:-1]:",
    ),
    Replacement(
        "the first page is not applied when there are more",
        "commit.py",
        "for number, page in frozen.items():",
        "for number, page in list(frozen.items())[len(frozen) > 1 :]:",
    ),
    Replacement(
        "the last sector is not replayed",
        "session.py",
        "for sector in replay.store.patched_sectors():",
        "for sector in list(replay.store.patched_sectors())[:-1]:",
    ),
    Replacement(
        "the first sector is not replayed",
        "session.py",
        "for sector in replay.store.patched_sectors():",
        "for sector in list(replay.store.patched_sectors())[1:]:",
    ),
    # Live pages in place of frozen ones
    Replacement(
        "the live page is logged",
        "commit.py",
        "frozen = self._pages.frozen\n",
        "frozen = {number: bytes(self._pages.page(number)) for number in self._pages.frozen}\n",
    ),
    Replacement(
        "the live page is applied",
        "commit.py",
        "self._store.pwrite(page, number * PAGE_SIZE)",
        "self._store.pwrite(bytes(self._pages.page(number)), number * PAGE_SIZE)",
    ),
    Replacement(
        "frozen after the flush",
        "commit.py",
        "        frozen = self._pages.freeze()\n        used_end = self._allocator.used_end\n"
        "        length = self._store.size()\n        self._store.flush()\n",
        "        used_end = self._allocator.used_end\n        length = self._store.size()\n"
        "        self._store.flush()\n        frozen = self._pages.freeze()\n",
    ),
    Replacement(
        "the end of the structures is read before the freeze",
        "commit.py",
        "        self._allocator.freeze()\n        frozen = self._pages.freeze()\n"
        "        used_end = self._allocator.used_end\n",
        "        used_end = self._allocator.used_end\n        self._allocator.freeze()\n"
        "        frozen = self._pages.freeze()\n",
    ),
    Replacement(
        "the length is read after the flush",
        "commit.py",
        "        length = self._store.size()\n        self._store.flush()\n",
        "        self._store.flush()\n        length = self._store.size()\n",
    ),
    # Flushes that return too early
    Replacement(
        "a flush serves those that came during the commit",
        "commit.py",
        "            self._guarded_commit()\n            self._served = upto\n",
        "            self._guarded_commit()\n            self._served = self._requested\n",
    ),
    Replacement(
        "only every other flush commits",
        "commit.py",
        "if self._served >= mine:",
        "if self._served + 1 >= mine > 1:",
    ),
    # Entries before payload, threads that do not wait
    Replacement(
        "nobody waits for another thread's block",
        "in_flight.py",
        "while number in self._held:",
        "while False:",
    ),
    # Space
    Replacement(
        "freed space is free at once",
        "allocator.py",
        "            self._freed.append(_Freed(file_offset, length, self._in_flight.now()))\n",
        "            self._free.add(file_offset, file_offset + length)\n",
    ),
    Replacement(
        "freed space waits for no entry",
        "allocator.py",
        "self._freed.append(_Freed(",
        "self._settled.append(_Freed(",
    ),
    Replacement(
        "what is freed during a commit is settled by it",
        "allocator.py",
        "            self._settled += self._frozen\n            self._frozen.clear()\n",
        "            self._settled += self._frozen + self._freed\n            self._frozen.clear()\n"
        "            self._freed.clear()\n",
    ),
    Replacement(
        "freed space waits for no reader",
        "allocator.py",
        "ready = [freed for freed in self._settled if freed.ticket <= oldest]\n"
        "        self._settled = [freed for freed in self._settled if freed.ticket > oldest]\n",
        "ready = self._settled\n        self._settled = [] if oldest >= 0 else []\n",
    ),
    Replacement(
        "space inside the file counts as zero",
        "allocator.py",
        "return Space(start, length, known_zero=False)",
        "return Space(start, length, known_zero=True)",
    ),
    Replacement(
        "space at the old end of the file counts as zero",
        "allocator.py",
        "known_zero=start >= self._original_size",
        "known_zero=True",
    ),
    Replacement(
        "the file is not extended",
        "allocator.py",
        "            self._store.truncate(new_size)\n        except OSError:\n",
        "            pass\n        except OSError:\n",
    ),
    Replacement(
        "new space overlaps the last block",
        "allocator.py",
        "            self.used_end = end\n            return Space(",
        "            self.used_end = end - MIB\n            return Space(",
    ),
    # Headers
    Replacement(
        "only one header is changed",
        "header_writer.py",
        "for _ in HEADER_FILE_OFFSETS:",
        "for _ in HEADER_FILE_OFFSETS[:1]:",
    ),
    Replacement(
        "the current header is overwritten",
        "header_writer.py",
        "index = 1 - self._current_index",
        "index = self._current_index",
    ),
    Replacement(
        "the sequence number stays",
        "header_writer.py",
        "sequence_number = self.current.sequence_number + 1",
        "sequence_number = self.current.sequence_number",
    ),
    # The log
    Replacement(
        "a full log is begun anew without being ended",
        "commit.py",
        "            self._log.end()\n            self._log.start(flushed_file_offset, used_end)\n",
        "            self._log.start(flushed_file_offset, used_end)\n",
    ),
    Replacement(
        "a log is never full",
        "log_writer.py",
        "return self._position + (1 + page_count) * LOG_SECTOR_SIZE <= self._capacity",
        "return page_count >= 0",
    ),
    Replacement(
        "an entry may end one sector past the log",
        "log_writer.py",
        "(1 + page_count) * LOG_SECTOR_SIZE <=",
        "page_count * LOG_SECTOR_SIZE <=",
    ),
    Replacement(
        "a new log keeps the old GUID",
        "log_writer.py",
        "        self._log_guid = None\n\n    def _write",
        "\n    def _write",
    ),
    Replacement(
        "the sequence number of entries stays",
        "log_writer.py",
        "        self._sequence_number += 1\n",
        "",
    ),
    Replacement(
        "FlushedFileOffset is rounded up",
        "../format/log.py",
        "flushed_file_offset // STRUCTURE_ALIGNMENT * STRUCTURE_ALIGNMENT",
        "-(-flushed_file_offset // STRUCTURE_ALIGNMENT) * STRUCTURE_ALIGNMENT",
    ),
    Replacement(
        "LastFileOffset is rounded down",
        "../format/log.py",
        "-(-last_file_offset // STRUCTURE_ALIGNMENT) * STRUCTURE_ALIGNMENT",
        "(last_file_offset - 1) // STRUCTURE_ALIGNMENT * STRUCTURE_ALIGNMENT",
    ),
)
"""To be filled in as the engine grows: `replaced` refuses one whose text is gone."""

HARMLESS: Final[dict[str, str]] = {
    "no flush in make_room": "nothing calls it",
    "_begin_once: exchanged with line 98": "a file without a log has nothing to replay",
    "_replay_onto_disk: exchanged with line 130": "growth and replayed sectors become durable together",
    "_replay_onto_disk: exchanged with line 134": "in memory only: what the file holds is the same before and after",
    "_make_log: exchanged with line 140": "LogGuid is zero: nobody looks at what the place of the log holds",
}
"""Mutants that change nothing a crash could show, by a part of their names, and why."""
