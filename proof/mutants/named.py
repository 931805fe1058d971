"""The named mutants of the library's own write engine."""

from typing import Final

from proof.mutants.steps import Replacement

NAMED: Final = (
    # Pages left out
    Replacement(
        "the last page is not logged",
        "session/log_writer.py",
        "for number, page in pages.items()]",
        "for number, page in list(pages.items())[:-1]]",
    ),
    Replacement(
        "the first page is not logged when there are more",
        "session/log_writer.py",
        "for number, page in pages.items()]",
        "for number, page in list(pages.items())[len(pages) > 1 :]]",
    ),
    Replacement(
        "a page between two others is not logged",
        "session/log_writer.py",
        "for number, page in pages.items()]",
        "for at, (number, page) in enumerate(pages.items()) if at != 1 or len(pages) < 3]",
    ),
    Replacement(
        "a page between two others is not applied",
        "session/commit.py",
        "for number, page in frozen.items():",
        "for at, (number, page) in enumerate(frozen.items()):\n                if at == 1 and len(frozen) > 2:\n"
        "                    continue",
    ),
    Replacement(
        "the last page is not applied",
        "session/commit.py",
        "for number, page in frozen.items():",
        "for number, page in list(frozen.items())[:-1]:",
    ),
    Replacement(
        "the first page is not applied when there are more",
        "session/commit.py",
        "for number, page in frozen.items():",
        "for number, page in list(frozen.items())[len(frozen) > 1 :]:",
    ),
    Replacement(
        "the last sector is not replayed",
        "session/session.py",
        "for sector in replay.store.patched_sectors():",
        "for sector in list(replay.store.patched_sectors())[:-1]:",
    ),
    Replacement(
        "the first sector is not replayed",
        "session/session.py",
        "for sector in replay.store.patched_sectors():",
        "for sector in list(replay.store.patched_sectors())[1:]:",
    ),
    # Live pages in place of frozen ones
    Replacement(
        "the live page is logged",
        "session/commit.py",
        "frozen = self._pages.frozen\n",
        "frozen = {number: bytes(self._pages.page(number)) for number in self._pages.frozen}\n",
    ),
    Replacement(
        "the live page is applied",
        "session/commit.py",
        "self._store.pwrite(page, number * PAGE_SIZE)",
        "self._store.pwrite(bytes(self._pages.page(number)), number * PAGE_SIZE)",
    ),
    Replacement(
        "frozen after the flush",
        "session/commit.py",
        "        frozen = self._pages.freeze()\n        used_end = self._allocator.used_end\n"
        "        length = self._allocator.file_size\n        self._store.flush()\n",
        "        used_end = self._allocator.used_end\n        length = self._allocator.file_size\n"
        "        self._store.flush()\n        frozen = self._pages.freeze()\n",
    ),
    Replacement(
        "the end of the structures is read before the freeze",
        "session/commit.py",
        "        self._allocator.freeze()\n        frozen = self._pages.freeze()\n"
        "        used_end = self._allocator.used_end\n",
        "        used_end = self._allocator.used_end\n        self._allocator.freeze()\n"
        "        frozen = self._pages.freeze()\n",
    ),
    Replacement(
        "the length is the store's, growth that has not returned included",
        "session/commit.py",
        "length = self._allocator.file_size",
        "length = self._store.size()",
    ),
    Replacement(
        "the length is read after the flush",
        "session/commit.py",
        "        length = self._allocator.file_size\n        self._store.flush()\n",
        "        self._store.flush()\n        length = self._allocator.file_size\n",
    ),
    # Flushes that return too early
    Replacement(
        "a flush serves those that came during the commit",
        "session/commit.py",
        "            self._guarded_commit()\n            self._served = upto\n",
        "            self._guarded_commit()\n            self._served = self._requested\n",
    ),
    Replacement(
        "only every other flush commits",
        "session/commit.py",
        "if self._served >= mine:",
        "if self._served + 1 >= mine > 1:",
    ),
    Replacement(
        "force unit access does not flush",
        "../disks/layered_device.py",
        "            writer.write(view, offset, self.pread)\n        if fua:\n            writer.flush()\n",
        "            writer.write(view, offset, self.pread)\n",
        more=(
            (
                "fast_only=fast_only)\n        if fua:\n            writer.flush()\n",
                "fast_only=fast_only)\n",
            ),
            (
                "writer.trim(offset, length)\n        if fua:\n            writer.flush()\n",
                "writer.trim(offset, length)\n",
            ),
        ),
    ),
    # Entries before payload, parts of a change on their own, threads that do not wait
    Replacement(
        "bits are cached before the payload is written",
        "blocks/block_writer.py",
        "            put(space.file_offset + within)\n            sectors",
        "            sectors",
        more=(
            (
                "            self._tables.mark_sectors(block, plan, space.file_offset, sectors)\n",
                "            self._tables.mark_sectors(block, plan, space.file_offset, sectors)\n"
                "            put(space.file_offset + within)\n",
            ),
        ),
    ),
    Replacement(
        "a block is zeroed after its entry is cached",
        "blocks/block_writer.py",
        "            if plan.must_zero and not space.known_zero and not covers:\n"
        "                self._clear(space.file_offset, space.length, may_punch=True)\n"
        "            self._store.pwrite(data, space.file_offset + within)\n"
        "            self._tables.set_entry(block, PayloadState.FULLY_PRESENT, space.file_offset)\n",
        "            self._tables.set_entry(block, PayloadState.FULLY_PRESENT, space.file_offset)\n"
        "            if plan.must_zero and not space.known_zero and not covers:\n"
        "                self._clear(space.file_offset, space.length, may_punch=True)\n"
        "            self._store.pwrite(data, space.file_offset + within)\n",
    ),
    Replacement(
        "a write into a block that another one is making returns before the entry is cached",
        "blocks/block_writer.py",
        "                return\n            with self._in_flight.block(block):\n",
        "                return\n            if block in self._early:\n"
        "                self._store.pwrite(data, self._early[block] + within)\n                return\n"
        "            with self._in_flight.block(block):\n",
        more=(
            (
                "        self._keeps_space = keeps_space\n",
                "        self._keeps_space, self._early = keeps_space, {}\n",
            ),
            (
                "            covers = len(data) == space.length\n",
                "            covers = len(data) == space.length\n"
                "            self._early[block] = space.file_offset\n",
            ),
            (
                "                    self._write_full(block, facts, plan, within, data)\n",
                "                    self._write_full(block, facts, plan, within, data)\n"
                "                    self._early.pop(block, None)\n",
            ),
        ),
    ),
    Replacement(
        "bitmap and BAT entry are changed one after the other",
        "blocks/tables.py",
        "            self._apply(changes)\n",
        "            for change in changes:\n                self._apply([change])\n",
    ),
    Replacement(
        "bitmap and BAT entry are changed one after the other, the entry last",
        "blocks/tables.py",
        "            self._apply(changes)\n",
        "            for change in reversed(changes):\n                self._apply([change])\n",
    ),
    Replacement(
        "old bits are not cleared",
        "blocks/tables.py",
        "bytearray(per_block if plan.clears_bitmap else self._pages.read(per_block, bits_offset))",
        "bytearray(self._pages.read(per_block, bits_offset))",
    ),
    Replacement(
        "nobody waits for another thread's block",
        "session/in_flight.py",
        "return self._blocks[number % _BLOCK_LOCKS]",
        "return self._sync.lock()",
    ),
    Replacement(
        "nobody waits for another thread's bitmap",
        "blocks/tables.py",
        "with self._in_flight.bitmap(chunk), self._bitmap_of(chunk)",
        "with self._bitmap_of(chunk)",
    ),
    Replacement(
        "nobody looks again at a block that another thread had",
        "blocks/block_writer.py",
        "            with self._in_flight.block(block):\n                facts = self._tables.facts(block)\n"
        "                plan",
        "            facts = self._tables.facts(block)\n            with self._in_flight.block(block):\n"
        "                plan",
    ),
    Replacement(
        "a page that was changed again is forgotten when its older content stands in place",
        "page_cache.py",
        "                if number not in self._dirty:\n                    self._keep(number, page)\n",
        "                self._dirty.pop(number, None)\n                self._keep(number, page)\n",
    ),
    Replacement(
        "frozen pages are not read",
        "page_cache.py",
        "self._dirty.get(number) or self.frozen.get(number) or",
        "self._dirty.get(number) or",
    ),
    # Space
    Replacement(
        "freed space is free at once",
        "session/allocator.py",
        "            self._freed.add([_Freed(file_offset, length, self._in_flight.now())])\n",
        "            self._free.add(file_offset, file_offset + length)\n",
    ),
    Replacement(
        "freed space waits for no entry",
        "session/allocator.py",
        "self._freed.add([_Freed(",
        "self._settled.add([_Freed(",
    ),
    Replacement(
        "what is freed during a commit is settled by it",
        "session/allocator.py",
        "            self._settled.add(self._frozen)\n            self._frozen.clear()\n",
        "            self._settled.add(self._frozen + self._freed.runs)\n            self._frozen.clear()\n"
        "            self._freed = _FreedRuns()\n",
    ),
    Replacement(
        "freed space waits for no reader",
        "session/allocator.py",
        "ready = [freed for freed in self._settled.runs if freed.ticket <= oldest]\n"
        "        self._settled.runs = [freed for freed in self._settled.runs if freed.ticket > oldest]\n",
        "ready = self._settled.runs\n        self._settled.runs = [] if oldest >= 0 else []\n",
    ),
    Replacement(
        "freed space waits for all operations but the oldest",
        "session/in_flight.py",
        "return min(tuple(self._active), default=latest)",
        "return min(sorted(self._active)[1:], default=latest)",
    ),
    Replacement(
        "a reader takes no ticket",
        "../disks/layered_device.py",
        "        try:\n            self._read(view, offset)\n        finally:\n"
        "            writer.in_flight.end(ticket)\n",
        "        writer.in_flight.end(ticket)\n        self._read(view, offset)\n",
    ),
    Replacement(
        "an overwrite takes no ticket",
        "blocks/block_writer.py",
        "            if file_offset:\n                self._session.begin()\n",
        "            if file_offset:\n                self._session.begin()\n"
        "                self._in_flight.end(ticket)\n",
        more=(
            (
                "                self._store.pwrite(data, file_offset + within)\n",
                "                self._store.pwrite(data, file_offset + within)\n"
                "                ticket = self._in_flight.begin()\n",
            ),
        ),
    ),
    Replacement(
        "space is given away while it is punched",
        "session/allocator.py",
        "            ready = self._take_ready()\n        # Not",
        "            ready = self._take_ready()\n            self._add_free(ready)\n        # Not",
    ),
    Replacement(
        "a bitmap block is freed with a partially present block",
        "blocks/block_writer.py",
        "        self._tables.set_entry(block, state, 0)\n",
        "        tables, chunk = self._tables, block // self._geometry.chunk_ratio\n"
        "        changes = [tables._entry_change(block, state, 0)]\n"
        "        if facts.state is PayloadState.PARTIALLY_PRESENT:\n"
        "            from vhdx.engine.page_cache import entry_change\n"
        "            at = tables._file_offset_of_entry(self._geometry.entry_of_bitmap(chunk))\n"
        "            bitmap = tables._bat.bitmap_entry(chunk) >> 20 << 20\n"
        "            changes.append(entry_change(at, 0))\n"
        "        tables._apply(changes)\n"
        "        if len(changes) > 1:\n"
        "            self._allocator.free(bitmap, MIB)\n",
    ),
    Replacement(
        "space inside the file counts as zero",
        "session/allocator.py",
        "return Space(start, length, known_zero=False)",
        "return Space(start, length, known_zero=True)",
    ),
    Replacement(
        "space at the old end of the file counts as zero",
        "session/allocator.py",
        "known_zero=start >= self._original_size",
        "known_zero=True",
    ),
    Replacement(
        "the file is not extended",
        "session/allocator.py",
        "            self._store.truncate(new_size)\n        except OSError:\n",
        "            pass\n        except OSError:\n",
    ),
    Replacement(
        "new space overlaps the last block",
        "session/allocator.py",
        "            self.used_end = end\n            return Space(",
        "            self.used_end = end - MIB\n            return Space(",
    ),
    # The session
    Replacement("FileWriteGuid stays", "session/session.py", "file_write_guid=uuid4(), ", ""),
    Replacement("DataWriteGuid stays", "session/session.py", ", data_write_guid=uuid4()", ""),
    Replacement(
        "a session counts as begun before it is",
        "session/session.py",
        "self._headers.update(file_write_guid=uuid4()",
        "self.has_begun = True; self._headers.update(file_write_guid=uuid4()",
    ),
    Replacement(
        "what the replay shows is not read while its changes go to their places",
        "session/session.py",
        "        for start, end in replay.zero_ranges:",
        "        replay.store.settle()\n        for start, end in replay.zero_ranges:",
    ),
    Replacement(
        "a replay leaves out what is in its place already",
        "session/session.py",
        "            store.pwrite(pread(replay.store, LOG_SECTOR_SIZE, file_offset), file_offset)\n",
        "            new = pread(replay.store, LOG_SECTOR_SIZE, file_offset)\n"
        "            if file_offset + LOG_SECTOR_SIZE > size or pread(store, LOG_SECTOR_SIZE, file_offset) != new:\n"
        "                store.pwrite(new, file_offset)\n",
    ),
    Replacement(
        "the file is shortened before the log is emptied",
        "session/session.py",
        "        self._committer.finish()\n",
        "        self._committer.flush()\n        size = self._allocator.final_size(may_shrink=may_shrink)\n"
        "        if size < self._store.size():\n            self._store.truncate(size)\n"
        "        self._committer.finish()\n",
    ),
    Replacement(
        "the file is shortened by too much",
        "session/session.py",
        "            self._store.truncate(size)\n",
        "            self._store.truncate(size - MIB)\n",
    ),
    # After a failure
    Replacement(
        "a failure does not poison",
        "session/commit.py",
        "        if error is None:\n            self._committer.is_half_done = False\n"
        "        elif self._committer.poison is None:\n",
        "        self._committer.is_half_done = False\n        if False:\n",
    ),
    Replacement(
        "a flush that failed is tried once more",
        "session/commit.py",
        "        length = self._allocator.file_size\n        self._store.flush()\n",
        "        length = self._allocator.file_size\n        try:\n            self._store.flush()\n"
        "        except OSError:\n            self._store.flush()\n",
    ),
    Replacement(
        "a failed write gives back space that an entry names",
        "blocks/tables.py",
        "if entry_file_offset(entry) != space.file_offset and self._committer.poison is None:",
        "if self._committer.poison is None:",
    ),
    # Headers
    Replacement(
        "only one header is changed",
        "session/header_writer.py",
        "for _ in HEADER_FILE_OFFSETS:",
        "for _ in HEADER_FILE_OFFSETS[:1]:",
    ),
    Replacement(
        "the current header is overwritten",
        "session/header_writer.py",
        "index = 1 - self._current_index",
        "index = self._current_index",
    ),
    Replacement(
        "the sequence number stays",
        "session/header_writer.py",
        "sequence_number = self.current.sequence_number + 1",
        "sequence_number = self.current.sequence_number",
    ),
    Replacement(
        "the header with the lower number counts",
        "header_pair.py",
        "return 1 if second.sequence_number > first.sequence_number else 0",
        "return 0 if second.sequence_number > first.sequence_number else 1",
    ),
    # Replays
    Replacement(
        "an entry counts whatever its checksum says",
        "log_replay.py",
        "        if crc != header.checksum:\n",
        "        if False:\n",
    ),
    Replacement(
        "an entry counts under whatever GUID",
        "log_replay.py",
        "log_guid = None if any_guid else self.header.log_guid",
        "log_guid = None",
    ),
    Replacement(
        "the older entry wins",
        "log_replay.py",
        "    for entry in reversed(entries):\n        for descriptor,",
        "    for entry in entries:\n        for descriptor,",
    ),
    Replacement(
        "zero descriptors are not replayed",
        "log_replay.py",
        "                if descriptor.length:\n",
        "                if False:\n",
    ),
    Replacement(
        "the good copy of the region table is made like the bad one",
        "session/session.py",
        "return REGION_TABLE_FILE_OFFSETS[0 if first is None else 1]",
        "return REGION_TABLE_FILE_OFFSETS[1 if first is None else 0]",
    ),
    # The log
    Replacement(
        "a full log is begun anew without being ended",
        "session/commit.py",
        "            self._log.end()\n            self._log.start(flushed_file_offset, used_end)\n",
        "            self._log.start(flushed_file_offset, used_end)\n",
    ),
    Replacement(
        "a log is never full",
        "session/log_writer.py",
        "return self._position + (1 + page_count) * LOG_SECTOR_SIZE <= self._capacity",
        "return page_count >= 0",
    ),
    Replacement(
        "an entry may end one sector past the log",
        "session/log_writer.py",
        "(1 + page_count) * LOG_SECTOR_SIZE <=",
        "page_count * LOG_SECTOR_SIZE <=",
    ),
    Replacement(
        "a new log keeps the old GUID",
        "session/log_writer.py",
        "        self._log_guid = uuid4()\n",
        '        self._log_guid = self._first = getattr(self, "_first", None) or uuid4()\n',
    ),
    Replacement(
        "the sequence number of entries stays",
        "session/log_writer.py",
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

HARMLESS: Final[dict[str, str]] = {
    "commit.py _commit: no `self._pages.thaw()`": (
        "frozen pages stay in memory until the next freeze; their places hold the same"
    ),
    "session.py _begin_once: `if new_log is not None: ...` before `if self._opened.replay is not None: ...`": (
        "a file without a log has nothing to replay"
    ),
    "session.py _begin_once: `self._heal_region_tables()` before `if new_log is not None: ...`": (
        "healing changes pages in memory; they are written by the first commit"
    ),
    "session.py _replay_onto_disk: `if may_grow and store.size() < replay.file_size: ...` before "
    "`for sector in replay.store.patched_sectors(): ...`": (
        "growth and replayed sectors become durable by the same flush, and until then the log replays both"
    ),
    "session.py _replay_onto_disk: `replay.store.settle()` before `self._headers.update(log_guid=ZERO_GUID)`": (
        "in memory: the file holds what the overlay shows since the flush before"
    ),
    "session.py _make_log: `self._store.flush()` before `if not space.known_zero: ...`": (
        "LogGuid is zero: nobody looks at what the place of the log holds, and the file is long enough"
    ),
    "session.py _make_log: no `self._store.pwrite(bytes(space.length), space.file_offset)`": (
        "entries count under the GUID that the headers name, and that is a new one for every log"
    ),
    "session.py end: `if may_shrink: ...` before `self._committer.finish()`": (
        "what may be punched was settled by earlier commits: no durable entry names it"
    ),
    "session.py end: `size = self._allocator.final_size(may_shrink=may_shrink)` before `if may_shrink: ...`": (
        "punching changes the length of nothing"
    ),
    "header_pair.py: the header with the lower number counts": (
        "whenever something depends on what a header says, both of ours say it; images of others: tests/cases"
    ),
    "session.py end: no `self._store.truncate(size)`": "the file stays longer, with space that nobody owns",
    "requests.py flush: `self._give_back_host_space()` before `self._committer.flush()`": (
        "what may be punched was settled by earlier commits; the rest is punched by the next flush"
    ),
    "block_writer.py _write_partial: no `self._clear(space.file_offset, space.length, may_punch=True)`": (
        "no sector without a bit is read from the block; it is zeroed for readers that ignore the bitmap, and for"
        " the part behind the disk's end"
    ),
    "tables.py mark_sectors: `if plan.clears_bitmap: ...` before `if plan.needs_space or is_full: ...`": (
        "both changes are applied at once"
    ),
    "tables.py _bitmap_of: no `self._store.write_zeroes(space.length, space.file_offset)`": (
        "a block's bits are cleared in the entry that makes it partially present; others mean nothing"
    ),
    "tables.py _apply: no `self._committer.flush()`": (
        "it would never end; no workload changes 126 pages between two flushes: tests/writing/test_flush_counts.py"
    ),
    "allocator.py: space at the old end of the file counts as zero": (
        "what lies behind the last structure was found to be void when the file was opened"
    ),
    "log_writer.py: an entry may end one sector past the log": (
        "two sectors are spare, and it is the last of them at which QEMU 7.2 stumbles"
    ),
}
"""Mutants that change nothing a crash could show, by name, and why: docs/design.md goes through them."""
