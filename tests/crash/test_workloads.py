"""The images and workloads of the kit show mistakes that only they can show."""

from typing import Any

import pytest

from proof.crash.bases import BASES
from proof.crash.campaign import BRIEF
from proof.crash.record_rules import record_faults
from proof.crash.workloads import Workload, crash_run, record, short_workloads, tail_workload, try_record
from support.units import MIB
from vhdx.disks.image import Image
from vhdx.disks.layered_device import LayeredDevice
from vhdx.engine.blocks.block_writer import BlockWriter
from vhdx.engine.session.header_writer import HeaderWriter
from vhdx.storage.overlay import OverlayStore
from vhdx.testing.crash import CrashTally, Medium, Operation, Verb

FLUSH = Operation(Verb.FLUSH)


def violations(*workloads: Workload) -> list[str]:
    """Crash workloads of one image; stop at the first violation."""
    base = workloads[0].base
    run, medium = crash_run(base, CrashTally(), limits=BRIEF), Medium(base.content)
    for workload in workloads:
        store, first = record(workload)
        try_record(run, workload, store, first, medium)
        if run.is_done:
            break
    return list(map(str, run.tally.findings))


def test_what_an_image_holds_is_known_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    right = BASES["foreign-log"]().disk

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Image, "open", fail)
    assert BASES["foreign-log"]().disk == right


def test_what_a_replay_showed_must_not_be_read_from_a_log_that_is_written_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = BASES["dirty-long-table"]()
    write, other = (Operation(Verb.WRITE, block * MIB + 4096, 512) for block in (3, 514))
    workload = Workload(base, (write, FLUSH, Operation(Verb.TRIM, 3 * MIB, MIB), FLUSH, other), closes=True)
    assert not violations(workload)
    monkeypatch.setattr(OverlayStore, "settle", lambda _: None)
    assert violations(workload)


@pytest.mark.parametrize("name", ["write_zeroes", "trim"])
def test_zeroes_with_force_unit_access_that_are_not_durable_are_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = BASES["dynamic"]()
    right = getattr(LayeredDevice, name)

    def wrong(self: LayeredDevice, length: int, offset: int, **options: Any) -> None:
        right(self, length, offset, **{**options, "fua": False})

    monkeypatch.setattr(LayeredDevice, name, wrong)
    workloads = short_workloads(base, 1, blocks=(0,))
    assert any("force unit access" in found for found in violations(*workloads))


def test_zeroes_behind_the_last_part_that_a_parent_showed_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workload = tail_workload(BASES["child-4096"](), point_count=8)
    assert not violations(workload)
    right = BlockWriter._clear

    def wrong(self: BlockWriter, file_offset: int, length: int, *, may_punch: bool) -> None:
        if length != 4096:
            right(self, file_offset, length, may_punch=may_punch)

    monkeypatch.setattr(BlockWriter, "_clear", wrong)
    assert any("wrong content" in found for found in violations(workload))


@pytest.mark.parametrize("between", [Verb.REOPEN, Verb.KILL])
def test_a_further_session_without_new_guids_is_told_by_a_rule(
    between: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, count = HeaderWriter.update, 0

    def update(self: HeaderWriter, **changes: Any) -> None:
        nonlocal count
        count += "file_write_guid" in changes
        if count > 1 and "file_write_guid" in changes:
            return
        right(self, **changes)

    base = BASES["dynamic"]()
    write = Operation(Verb.WRITE, MIB, 512)
    workload = Workload(base, (write, FLUSH, Operation(between), write, FLUSH))
    store, _ = record(workload)
    assert not record_faults(store.start, store.steps)
    monkeypatch.setattr(HeaderWriter, "update", update)
    store, _ = record(workload)
    assert any("no new FileWriteGuid" in fault for fault in record_faults(store.start, store.steps))
