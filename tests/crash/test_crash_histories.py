"""Random histories of one disk against a plain bytearray, with crashes in them, and children made of children."""

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
from proof.crash.subject import VhdxSubject
from proof.crash.workloads import SHORT_LOG
from support.units import MIB
from support.written_images import current_header
from vhdx.format.bat import PayloadState
from vhdx.testing import ImageBuilder
from vhdx.testing.crash import (
    SECTOR_SIZE,
    Content,
    CrashEnumerator,
    CrashLimits,
    CrashState,
    DiskShape,
    Driver,
    History,
    Mark,
    Operation,
    Points,
    RecordingStore,
    Verb,
    ZeroedSectors,
    garbage,
)
from vhdx.testing.image import sound_locator

BLOCKS = 3
SIZE = BLOCKS * MIB + 65536
LIMITS = CrashLimits(all_subsets=5, random_subsets=8, per_point=24, media_faults=False)
OFFSETS = (0, 512, 4096, MIB // 2, MIB - 4096, MIB - 512)
LENGTHS = (512, 1024, 4096, 65536)


class CrashHistories(RuleBasedStateMachine):
    """The disk is what the model says, but for what a crash may leave; then the model is what the disk says."""

    driver: Driver

    @initialize(is_short=st.booleans())
    def make(self, is_short: bool) -> None:
        self.capacity = SHORT_LOG if is_short else None
        self.subject, self.opened = VhdxSubject(), 0
        self.shape = DiskShape(SIZE, MIB)
        self.model = bytearray(SIZE)
        image = ImageBuilder(SIZE, MIB)
        image.content.append((image.allocate(MIB), garbage(65536)))
        image.allocate(MIB)
        self._open(Content.of(image.build_store()))

    def _open(self, content: Content) -> None:
        self.store = RecordingStore(content)
        self.opened += 1
        self.driver = Driver(self.subject, self.store, self.shape, first_number=self.opened * 10_000)
        self.before = Content.of(bytes(self.model))

    def _perform(self, verb: Verb, offset: int = 0, length: int = 0) -> None:
        with self.subject.tuned(log_capacity=self.capacity):
            self.driver.perform(Operation(verb, offset, min(length, SIZE - offset)))
        action = next(
            step.label.action for step in reversed(self.store.steps) if isinstance(step.label, Mark)
        )
        if isinstance(action.sectors, ZeroedSectors):
            zeroed = action.sectors.range
            self.model[zeroed.start * SECTOR_SIZE : zeroed.stop * SECTOR_SIZE] = bytes(
                len(zeroed) * SECTOR_SIZE
            )
            return
        for sector, data in action.sectors.items():
            self.model[sector * SECTOR_SIZE : (sector + 1) * SECTOR_SIZE] = data

    @rule(
        block=st.integers(0, BLOCKS),
        at=st.sampled_from(OFFSETS),
        length=st.sampled_from(LENGTHS),
        verb=st.sampled_from((Verb.WRITE, Verb.WRITE, Verb.FUA, Verb.ZERO)),
        flushes=st.booleans(),
    )
    def change(self, block: int, at: int, length: int, verb: Verb, flushes: bool) -> None:
        offset = block * MIB + at
        if offset < SIZE:
            self._perform(verb, offset, length)
        if flushes:
            self._perform(Verb.FLUSH)

    @rule(
        block=st.integers(0, BLOCKS),
        count=st.sampled_from((1, 1, 2)),
        verb=st.sampled_from((Verb.WRITE, Verb.ZERO, Verb.TRIM, Verb.TRIM)),
    )
    def change_whole_blocks(self, block: int, count: int, verb: Verb) -> None:
        self._perform(verb, block * MIB, count * MIB)

    @rule()
    def flush(self) -> None:
        self._perform(Verb.FLUSH)

    @rule()
    def reopen(self) -> None:
        self._perform(Verb.REOPEN)

    @rule(data=st.data(), at_end=st.booleans())
    def crash(self, data: st.DataObject, at_end: bool) -> None:
        """At the end of what was done since the last time, or anywhere in it. Some states are looked at."""
        steps = self.store.steps
        if not steps:
            return
        point = len(steps) if at_end else data.draw(st.integers(1, len(steps)))
        states = list(CrashEnumerator(self.store.start, steps, limits=LIMITS, points=Points.at({point})))
        history = History(self.before)
        for step in steps[:point]:
            history.observe(step.label)
        for number in data.draw(st.lists(st.integers(0, len(states) - 1), min_size=1, max_size=6)):
            self._look_at(states[number], history)

    def _look_at(self, state: CrashState, history: History) -> None:
        """Open a state, and go on with it if no other one is looked at."""
        content = state.content()
        assert not self.subject.faults(content, after_crash=True), str(state)
        self._open(content)
        held = self.driver.device.pread(SIZE, 0)
        assert history.wrong_sectors(held, 0) == [], str(state)
        self.model[:] = held
        self.before = Content.of(held)

    @precondition(lambda self: len(self.subject.parents) < 3)
    @rule(states=st.lists(st.sampled_from((PayloadState.NOT_PRESENT, PayloadState.ZERO)), max_size=BLOCKS))
    def make_child(self, states: list[PayloadState]) -> None:
        self.driver.close()
        parent = self.store.content
        linkage = current_header(RecordingStore(parent)).data_write_guid
        self.subject = VhdxSubject([parent, *self.subject.parents])
        child = ImageBuilder(SIZE, MIB, kind="differencing")
        child.locator = sound_locator(linkage)
        # Bits of blocks that are not partially present mean nothing, and must not come to mean something.
        child.add_bitmap(0)[:] = b"\xa5" * MIB
        child.content.append((child.allocate(MIB), garbage(65536)))
        for block, state in enumerate(states):
            child.set_block(block, state)
            if state is PayloadState.ZERO:
                self.model[block * MIB : (block + 1) * MIB] = bytes(MIB)
        self._open(Content.of(child.build_store()))

    @rule(block=st.integers(0, BLOCKS))
    def look(self, block: int) -> None:
        length = min(MIB, SIZE - block * MIB)
        found = self.driver.device.pread(length, block * MIB)
        assert found == self.model[block * MIB : block * MIB + length]

    @invariant()
    def is_open(self) -> None:
        if hasattr(self, "driver"):
            assert self.driver.device.size == SIZE

    def teardown(self) -> None:
        if not hasattr(self, "driver"):
            return
        self.driver.close()
        # Who has changed nothing leaves a log as the crash left it.
        assert not self.subject.faults(self.store.content, after_crash=not self.store.changes)
        parents = [RecordingStore(parent) for parent in self.subject.parents]
        with vhdx.open(RecordingStore(self.store.content), parents=parents) as disk:
            assert disk.pread(SIZE, 0) == self.model


QUICK = settings(
    max_examples=60,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_disk_is_its_model_or_what_a_crash_may_leave_of_it() -> None:
    run_state_machine_as_test(CrashHistories, settings=QUICK)
