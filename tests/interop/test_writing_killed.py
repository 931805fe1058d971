"""A writing process that is killed: nothing flushed is lost, and QEMU replays what it left to the same bytes."""

from pathlib import Path

import pytest

import vhdx
from proof.crash.killing import kill_rounds
from support.programs import need, run
from support.units import MIB
from vhdx.ops.compare import compare
from vhdx.ops.create import create
from vhdx.storage.base import ByteStore, pread_zero_extended
from vhdx.storage.file import FileStore
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder

pytestmark = pytest.mark.interop

ROUNDS = 12


def test_killed_writer_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    need("qemu-img", "qemu-utils")
    dirty = kill_rounds(tmp_path, ROUNDS)
    assert dirty > ROUNDS // 2, "the writer was hardly ever killed while its log was in use"


def bytes_of(store: ByteStore) -> bytes:
    return pread_zero_extended(store, store.size(), 0)


@pytest.mark.parametrize("commits", [1, 125, 126, 127, 200])
def test_qemu_replays_a_log_of_many_entries_as_we_do(tmp_path: Path, commits: int) -> None:
    qemu_img = need("qemu-img", "qemu-utils")
    store = ImageBuilder(256 * MIB).build_store()
    disk = vhdx.open(store, "r+")
    for number in range(commits):
        disk.pwrite(bytes([number % 255 + 1]) * 512, number * MIB, fua=True)
        if number % 7 == 3:
            disk.trim(MIB, (number - 2) * MIB)
    disk.flush()
    left, expected = MemoryStore(bytes_of(store)), disk.pread(256 * MIB, 0)
    disk.close()
    image = tmp_path / "dirty.vhdx"
    image.write_bytes(without_tables_in_place(left))
    with vhdx.open(image) as found:
        assert found.is_dirty
        assert found.pread(256 * MIB, 0) == expected
    run(qemu_img, "check", "-r", "all", image)
    with vhdx.open(image) as found:
        assert not found.is_dirty
        assert found.pread(256 * MIB, 0) == expected


def without_tables_in_place(store: MemoryStore) -> bytes:
    """The file as a crash may leave it in which the last pages never reached their places."""
    with vhdx.open(store) as disk:
        replay = disk.images[0].opened.replay
        assert replay is not None
        data = bytearray(bytes_of(store))
        for sector in replay.store.patched_sectors():
            data[sector * 4096 : (sector + 1) * 4096] = bytes(4096)
    return bytes(data)


def test_child_of_a_killed_writer_is_replayed_by_us(tmp_path: Path) -> None:
    create(tmp_path / "parent.vhdx", 8 * MIB, block_size=MIB)
    with vhdx.open(tmp_path / "parent.vhdx", "r+") as disk:
        disk.pwrite(b"p" * 8 * MIB, 0)
    create(tmp_path / "child.vhdx", parent=tmp_path / "parent.vhdx", block_size=MIB)
    with FileStore.open(tmp_path / "child.vhdx", writable=True) as store:
        disk = vhdx.open(store, "r+", parents=[tmp_path / "parent.vhdx"])
        disk.pwrite(b"c" * 512, 512, fua=True)
        disk.pwrite(b"c" * 700, 3 * MIB + 100, fua=True)
        disk.trim(MIB, 5 * MIB, fua=True)
        left = MemoryStore(bytes_of(store))
        with vhdx.open(left, parents=[tmp_path / "parent.vhdx"]) as crashed:
            assert crashed.is_dirty
            assert compare(crashed, disk) is None
        disk.close()
