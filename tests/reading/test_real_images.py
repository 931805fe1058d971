"""The real images: their content, what replay makes of the dirty ones, and that reading leaves them alone."""

import hashlib
import os
import random
import shutil
from pathlib import Path

import pytest

import vhdx
from proof.fuzz.invariants import examine
from support.units import MIB
from vhdx import _host
from vhdx.ops.check import check
from vhdx.storage.file import FileStore
from vhdx.storage.memory import MemoryStore
from vhdx.testing.hostile import BaseImage, Mutant, copy_store
from vhdx.testing.image import QuickDisk

pytestmark = pytest.mark.samples


def in_memory(path: Path) -> MemoryStore:
    store = FileStore.open(path)
    try:
        return copy_store(store)
    finally:
        store.close()


def test_windows_log_gives_the_published_entries(windows_dirty_sample: Path) -> None:
    with vhdx.open(windows_dirty_sample) as disk:
        assert disk.is_dirty
        bat = disk.images[0].bat
        assert bat.payload_entry(0) == 0x400006
        assert [bat.payload_entry(block) for block in (3, 9, 31)] == [2, 2, 2]
        assert any(disk.pread(MIB, 0))
    with vhdx.open(windows_dirty_sample, replay="ignore") as disk:
        assert disk.images[0].bat.payload_entry(0) == 0
        assert not any(disk.pread(MIB, 0))


def test_windows_log_can_be_refused(windows_dirty_sample: Path) -> None:
    with pytest.raises(vhdx.LogReplayRequiredError):
        vhdx.open(windows_dirty_sample, replay="refuse")


def test_qemu_log_gives_the_published_entry(qemu_dirty_sample: Path) -> None:
    with vhdx.open(qemu_dirty_sample) as after, vhdx.open(qemu_dirty_sample, replay="ignore") as before:
        entries = [
            [disk.images[0].bat.payload_entry(block) for block in range(disk.size // disk.block_size)]
            for disk in (before, after)
        ]
        changed = [block for block, pair in enumerate(zip(*entries, strict=True)) if pair[0] != pair[1]]
        assert changed == [17]
        assert (entries[0][17], entries[1][17]) == (0, 0x1D00006)


def test_dynamic_image_holds_the_published_pattern(dynamic_sample: Path) -> None:
    with vhdx.open(dynamic_sample) as disk:
        for at in range(0, 33 * MIB, MIB):
            assert disk.pread(MIB, at) == b"\xa5" * MIB
            assert disk.pread(MIB, 33 * MIB + at) == b"\x96" * MIB
        rest = [extent for extent in disk.extents(66 * MIB) if not extent.zero]
        assert not any(any(disk.pread(extent.length, extent.offset)) for extent in rest)


def test_real_image_is_clean_and_reads_as_the_reference_says(sample: Path) -> None:
    store = in_memory(sample)
    outcome = examine([store])
    assert (outcome.kind, outcome.reference) == ("clean", "equal")
    disk, quick = vhdx.open(store), QuickDisk([store])
    chance = random.Random(sample.name)
    for extent in disk.extents():
        for _ in range(4):
            offset = extent.offset + chance.randrange(extent.length)
            length = min(chance.choice((1, 700, 70_000)), disk.size - offset)
            assert disk.pread(length, offset) == quick.read(offset, length)


def test_reading_leaves_content_and_times_alone(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / sample.name
    shutil.copyfile(sample, path)
    status = path.stat()
    # Old enough for any mount that keeps access times at all.
    os.utime(path, ns=(status.st_mtime_ns - 10**9, status.st_mtime_ns - 10**9))
    before, digest = path.stat(), hashlib.sha256(path.read_bytes()).hexdigest()
    keeps_access_times = path.stat().st_atime_ns != before.st_atime_ns
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    before = path.stat()
    with vhdx.open(path) as disk:
        for extent in disk.extents():
            disk.pread(min(extent.length, MIB), extent.offset)
    list(check(path).findings())
    after = path.stat()
    assert (after.st_mtime_ns, after.st_ctime_ns, after.st_size) == (
        before.st_mtime_ns,
        before.st_ctime_ns,
        before.st_size,
    )
    if keeps_access_times and _host.HAVE_NOATIME:
        # The file is ours, so O_NOATIME is allowed.
        assert after.st_atime_ns == before.st_atime_ns
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_mutants_of_a_real_image_break_no_invariant(windows_dirty_sample: Path) -> None:
    base = BaseImage(windows_dirty_sample.name, (in_memory(windows_dirty_sample),))
    for seed in range(60):
        mutant = Mutant(seed, base)
        try:
            examine(mutant.stores, seed=seed)
        except AssertionError as error:
            pytest.fail(f"{mutant}\n{error}")
