"""Random histories of one disk against a plain model: every kind of image, chains that grow, blocks of all sizes."""

import errno

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import vhdx
from support.units import MIB
from support.written_images import assert_holds, assert_sound, current_header, file_bytes
from vhdx.format.bat import PayloadState
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder
from vhdx.testing.crash import Content
from vhdx.testing.image import sound_locator

DIRT = b"\xd1\x57" * 2048
"""What lies in file space that belongs to nobody; no block may ever show it."""

EMPTY = (PayloadState.NOT_PRESENT, PayloadState.UNDEFINED, PayloadState.ZERO, PayloadState.UNMAPPED)
LENGTHS = (1, 7, 511, 512, 513, 4096, 5000, 65536, 300_000, MIB, MIB + 512, 3 * MIB)
MAX_ZEROED = 4 * MIB
"""Zeroes that have to be written are kept in memory by the store."""


class Histories(RuleBasedStateMachine):
    """See the module."""

    disk: vhdx.Disk

    @initialize(data=st.data())
    def make(self, data: st.DataObject) -> None:
        block_size = data.draw(st.sampled_from((1, 1, 2, 2, 32, 256))) * MIB
        blocks = data.draw(st.integers(1, 5 if block_size <= 2 * MIB else 2))
        self.sector_size = data.draw(st.sampled_from((512, 512, 4096)))
        cut = data.draw(st.sampled_from((0, 0, self.sector_size, 3 * 4096, MIB - 4096)))
        self.size = blocks * block_size - cut
        kind = data.draw(st.sampled_from(("dynamic", "dynamic", "fixed")))
        image = ImageBuilder(
            self.size,
            block_size,
            logical_sector_size=self.sector_size,
            kind="fixed" if kind == "fixed" else "dynamic",
        )
        self.model = Content(size=self.size)
        self._litter(data, image)
        for block in range(image.geometry.block_count):
            self._start_block(data, image, block)
        self._litter(data, image)
        self.parents: list[tuple[MemoryStore, dict[int, bytes]]] = []
        self.store = image.build_store()
        self._open(kind == "fixed", block_size)

    def _litter(self, data: st.DataObject, image: ImageBuilder) -> None:
        for _ in range(data.draw(st.integers(0, 3))):
            image.content.append((image.allocate(2 * MIB), DIRT * 512))

    def _start_block(self, data: st.DataObject, image: ImageBuilder, block: int) -> None:
        choices = [*EMPTY, PayloadState.FULLY_PRESENT]
        state = data.draw(st.sampled_from(choices))
        if image.kind == "fixed" and data.draw(st.booleans()):
            return
        if state in (PayloadState.UNDEFINED, PayloadState.UNMAPPED) and data.draw(st.booleans()):
            image.add_block(block, DIRT * 3, state=state)
        elif state is PayloadState.FULLY_PRESENT:
            old = bytes([block + 1]) * 10_000
            image.add_block(block, old)
            self.model.write(old, block * image.geometry.block_size)
        else:
            image.set_block(block, state)

    def _open(self, fixed: bool, block_size: int) -> None:
        self.fixed, self.block_size = fixed, block_size
        parents = [store for store, _ in self.parents]
        self.disk = vhdx.open(self.store, "r+", parents=parents)

    def _close(self) -> None:
        self.disk.close()
        assert_sound([self.store, *(store for store, _ in self.parents)], self.model)
        for store, before in self.parents:
            assert file_bytes(store) == before, "a parent was changed"

    def _range(self, data: st.DataObject, most: int = 3 * MIB) -> tuple[int, int]:
        edges = [*range(0, self.size, min(self.block_size, 16 * MIB)), self.size]
        near = data.draw(st.sampled_from(edges))
        step = data.draw(st.sampled_from((0, 0, 0, 1, 511, 512, 4096, 100_000, MIB)))
        offset = min(max(near + step * data.draw(st.sampled_from((-1, 1))), 0), self.size - 1)
        length = data.draw(st.sampled_from((*LENGTHS, self.block_size, 2 * self.block_size, self.size)))
        return offset, min(length, self.size - offset, most)

    @rule(data=st.data(), seed=st.integers(1, 255), fua=st.booleans())
    def write(self, data: st.DataObject, seed: int, fua: bool) -> None:
        offset, length = self._range(data)
        content = (bytes([seed]) * 600 + bytes([offset & 0xFF, length & 0xFF])) * (length // 602 + 1)
        self.disk.pwrite(content[:length], offset, fua=fua)
        self.model.write(content[:length], offset)

    @rule(data=st.data(), may_unmap=st.booleans(), fua=st.booleans(), fast=st.booleans())
    def zero(self, data: st.DataObject, may_unmap: bool, fua: bool, fast: bool) -> None:
        writes = self.fixed or not may_unmap
        offset, length = self._range(data, MAX_ZEROED if writes else self.size)
        if writes and self.block_size > MAX_ZEROED and offset % self.block_size == 0:
            offset += 512 if offset + 512 < self.size else -512
            length = min(length, self.size - offset)
        try:
            self.disk.write_zeroes(length, offset, may_unmap=may_unmap, fua=fua, fast_only=fast)
        except OSError as error:
            assert fast
            assert error.errno == errno.EOPNOTSUPP
            return
        self.model.clear(offset, offset + length)

    @rule(data=st.data(), fua=st.booleans())
    def trim(self, data: st.DataObject, fua: bool) -> None:
        offset, length = self._range(data, self.size)
        self.disk.trim(length, offset, fua=fua)
        end = offset + length
        first = -(-offset // self.block_size) * self.block_size
        last = end if end == self.size else end // self.block_size * self.block_size
        if not self.fixed and first < last:
            self.model.clear(first, last)

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        offset, length = self._range(data)
        assert self.disk.pread(length, offset) == self.model.read(length, offset)

    @rule()
    def flush(self) -> None:
        self.disk.flush()

    @rule()
    def look_at_all(self) -> None:
        assert_holds(self.disk, self.model)

    @rule()
    def reopen(self) -> None:
        self._close()
        self._open(self.fixed, self.block_size)

    @precondition(lambda self: len(self.parents) < 3)
    @rule(
        block_size=st.sampled_from((1, 2, 2, 32)),
        more=st.sampled_from((0, 0, 4096, 2 * MIB)),
        states=st.lists(st.sampled_from((PayloadState.NOT_PRESENT, *EMPTY)), max_size=3),
    )
    def make_child(self, block_size: int, more: int, states: list[PayloadState]) -> None:
        self._close()
        linkage = current_header(self.store).data_write_guid
        self.parents.insert(0, (self.store, file_bytes(self.store)))
        self.size += more
        self.model.truncate(self.size)
        child = ImageBuilder(
            self.size, block_size * MIB, logical_sector_size=self.sector_size, kind="differencing"
        )
        child.locator = sound_locator(linkage)
        # Bits of blocks that are not partially present mean nothing, and must not come to mean something.
        child.add_bitmap(0)[:] = b"\xa5" * MIB
        child.content.append((child.allocate(3 * MIB), DIRT * 768))
        for block, state in enumerate(states[: child.geometry.block_count]):
            child.set_block(block, state)
            if state is not PayloadState.NOT_PRESENT:
                start = block * block_size * MIB
                self.model.clear(start, min(start + block_size * MIB, self.size))
        self.store = child.build_store()
        self._open(fixed=False, block_size=block_size * MIB)

    @invariant()
    def is_usable(self) -> None:
        if hasattr(self, "disk"):
            assert self.disk.writable

    def teardown(self) -> None:
        if hasattr(self, "disk"):
            self._close()


QUICK = settings(
    max_examples=40,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_disk_is_its_model_whatever_was_done_to_it_and_its_file_has_no_fault_after_any_close() -> None:
    run_state_machine_as_test(Histories, settings=QUICK)
