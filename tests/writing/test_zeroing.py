"""Zeroing: when it is quick, when it writes, and when the host gets the space."""

import errno
import tracemalloc
from collections.abc import Callable

import pytest

import vhdx
from support.units import MIB, TIB
from support.work import lines_run
from support.written_images import block_entry, chain_bytes, faults, file_bytes
from vhdx.format.bat import PayloadState
from vhdx.testing import ImageBuilder
from vhdx.testing.stores import HostStore, WatchedStore


def image(kind: str) -> tuple[WatchedStore, list[WatchedStore]]:
    """Blocks 0 full, 1 zero, 2 not present, 3 unmapped; a parent with content, perhaps."""
    if kind == "child":
        parent = ImageBuilder(4 * MIB, name="parent")
        parent.add_block(2, b"p" * MIB)
        described = ImageBuilder.child_of(parent, block_size=MIB)
        parents = [WatchedStore(parent.build_store())]
    else:
        described, parents = ImageBuilder(4 * MIB, kind="fixed" if kind == "fixed" else "dynamic"), []
        described.bat.clear()
    described.add_block(0, b"o" * MIB)
    described.set_block(1, PayloadState.ZERO)
    described.set_block(3, PayloadState.UNMAPPED)
    described.content.append((described.allocate(3 * MIB), b"\xd1" * 3 * MIB))
    return WatchedStore(described.build_store()), parents


WHOLE, PART = (0, MIB), (512, 1024)
FAST = {
    ("dynamic", True): {(block, WHOLE) for block in range(4)} | {(block, PART) for block in (1, 2, 3)},
    ("dynamic", False): {(block, PART) for block in (1, 2, 3)},
    ("fixed", True): {(block, PART) for block in (1, 2, 3)},
    ("fixed", False): {(block, PART) for block in (1, 2, 3)},
    ("child", True): {(block, WHOLE) for block in range(4)} | {(block, PART) for block in (1, 3)},
    ("child", False): {(block, PART) for block in (1, 3)},
}
"""Ranges that can be zeroed without writing data, by kind and `may_unmap`."""


@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize("part", [WHOLE, PART], ids=["whole", "part"])
@pytest.mark.parametrize(("kind", "may_unmap"), FAST)
def test_fast_zeroing_writes_no_data_or_is_refused(
    kind: str, may_unmap: bool, part: tuple[int, int], block: int
) -> None:
    watched, parents = image(kind)
    before = file_bytes(watched)
    start, length = block * MIB + part[0], part[1]
    with vhdx.open(watched, "r+", parents=parents) as disk:
        if (block, part) in FAST[kind, may_unmap]:
            disk.write_zeroes(length, start, may_unmap=may_unmap, fast_only=True)
            assert disk.pread(length, start) == bytes(length)
            disk.flush()
            written = {call.file_offset for call in watched.calls if call.name in ("pwrite", "write_zeroes")}
            assert all(offset < 4 * MIB for offset in written), "only headers, log and tables"
        else:
            with pytest.raises(OSError) as caught:
                disk.write_zeroes(length, start, may_unmap=may_unmap, fast_only=True)
            assert caught.value.errno == errno.EOPNOTSUPP
    if (block, part) not in FAST[kind, may_unmap]:
        assert watched.calls == []
        assert file_bytes(watched) == before
    assert faults(watched) == []


def test_fast_zeroing_of_a_long_range_is_done_as_a_whole_or_not_at_all() -> None:
    watched, _ = image("dynamic")
    with vhdx.open(watched, "r+") as disk:
        with pytest.raises(OSError, match="zeroing without writing"):
            disk.write_zeroes(3 * MIB + 512, 512, fast_only=True)
        assert watched.calls == []
        disk.write_zeroes(3 * MIB + 512, 0, fast_only=True)
        assert disk.pread(4 * MIB, 0) == bytes(4 * MIB)


@pytest.mark.parametrize(
    "change",
    [
        lambda disk: disk.write_zeroes(MIB, 0, may_unmap=False),
        lambda disk: disk.write_zeroes(4096, 512, may_unmap=False),
    ],
    ids=["block", "part"],
)
@pytest.mark.parametrize("kind", ["dynamic", "child", "fixed"])
def test_zeroes_that_must_keep_their_space_are_written(
    kind: str, change: Callable[[vhdx.Disk], None]
) -> None:
    watched, parents = image(kind)
    place = block_entry(watched, 0)
    with vhdx.open(watched, "r+", parents=parents) as disk:
        change(disk)
        assert disk.pread(4096, 512) == bytes(4096)
    assert not any(call.name == "write_zeroes" for call in watched.calls), "that would give host space back"
    assert block_entry(watched, 0) == place


def test_part_of_a_block_that_may_be_unmapped_is_given_back_to_the_host() -> None:
    watched, _ = image("dynamic")
    with vhdx.open(watched, "r+") as disk:
        disk.write_zeroes(MIB // 2, 4096)
        assert disk.pread(MIB, 0) == b"o" * 4096 + bytes(MIB // 2) + b"o" * (MIB // 2 - 4096)
    assert [call.length for call in watched.calls if call.name == "write_zeroes"] == [MIB // 2]


@pytest.mark.parametrize("may_unmap", [True, False])
@pytest.mark.parametrize("part", [(1024, 8192), (100, 8192), (100, 200), (512, 300), (1000, 600)])
def test_part_of_a_block_shared_with_the_parent_keeps_its_host_space_when_it_must(
    part: tuple[int, int], may_unmap: bool
) -> None:
    watched, parents = image("child")
    expected = bytearray(b"p" * MIB)
    with vhdx.open(watched, "r+", parents=parents) as disk:
        disk.pwrite(b"c" * 4096, 2 * MIB)
        expected[:4096] = b"c" * 4096
        watched.calls.clear()
        disk.write_zeroes(part[1], 2 * MIB + part[0], may_unmap=may_unmap)
        expected[part[0] : part[0] + part[1]] = bytes(part[1])
        whole_sectors = (part[0] + part[1]) // 512 - -(-part[0] // 512)
        punched = [call.length for call in watched.calls if call.name == "write_zeroes"]
        assert punched == ([whole_sectors * 512] if may_unmap and whole_sectors > 0 else [])
        assert disk.pread(MIB, 2 * MIB) == expected
    assert block_entry(watched, 2)[0] == PayloadState.PARTIALLY_PRESENT
    assert chain_bytes([watched, *parents], 2 * MIB, MIB) == expected
    assert faults(watched) == []


def test_zeroing_the_last_sectors_that_a_block_has_from_its_parent_ends_the_sharing() -> None:
    watched, parents = image("child")
    with vhdx.open(watched, "r+", parents=parents) as disk:
        disk.pwrite(b"c" * (MIB - 1024), 2 * MIB)
        # The first sector is completed from the parent, the second is written in place.
        disk.write_zeroes(600, 3 * MIB - 1000)
        assert disk.pread(1024, 3 * MIB - 1024) == b"p" * 24 + bytes(600) + b"p" * 400
    assert block_entry(watched, 2)[0] == PayloadState.FULLY_PRESENT
    assert chain_bytes([watched, *parents], 3 * MIB - 1024, 1024) == b"p" * 24 + bytes(600) + b"p" * 400


def test_zeroing_a_long_odd_range_of_a_shared_block_takes_no_memory_for_it() -> None:
    parent = ImageBuilder(256 * MIB, 256 * MIB, name="parent")
    child = ImageBuilder.child_of(parent, block_size=256 * MIB)
    stores = [child.build_store(), parent.build_store()]
    with vhdx.open(stores[0], "r+", parents=stores[1:]) as disk:
        disk.pwrite(b"c" * 512, 0)
        tracemalloc.start()
        disk.write_zeroes(200 * MIB, 1000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * MIB
        assert disk.pread(1100, 0) == b"c" * 512 + bytes(588)


@pytest.mark.parametrize("call", ["write", "write part", "zero", "zero part"])
def test_fixed_image_gives_no_host_space_back(call: str) -> None:
    watched, _ = image("fixed")
    with vhdx.open(watched, "r+") as disk:
        for block in range(4):
            match call:
                case "write":
                    disk.pwrite(b"n" * MIB, block * MIB)
                case "write part":
                    disk.pwrite(b"n" * 512, block * MIB)
                case "zero":
                    disk.write_zeroes(MIB, block * MIB)
                case "zero part":
                    disk.write_zeroes(MIB // 2, block * MIB)
            disk.trim(MIB, block * MIB)
    assert not any(call.name == "write_zeroes" for call in watched.calls)
    assert faults(watched) == []


def test_new_block_of_zeroes_that_must_keep_its_space_gets_some_from_the_host() -> None:
    store = HostStore(ImageBuilder(4 * MIB).build_store())
    with vhdx.open(store, "r+") as disk:
        disk.write_zeroes(MIB, MIB, may_unmap=False)
        at = disk.images[0].bat.payload_entry(1) & ~0xFFFFF
        assert ("reserve", at, MIB) in [tuple(call) for call in store.calls]
        assert disk.pread(MIB, MIB) == bytes(MIB)


def test_zeroing_part_of_the_only_sector_left_to_the_parent_zeroes_what_follows_too() -> None:
    parent = ImageBuilder(MIB, name="parent")
    parent.add_block(0, b"p" * MIB)
    child = ImageBuilder.child_of(parent)
    child.add_partial_block(0, dict.fromkeys(range(1, 2048), b"c" * 512))
    store, parents = child.build_store(), [parent.build_store()]
    with vhdx.open(store, "r+", parents=parents) as disk:
        disk.write_zeroes(768, 256)
        assert disk.pread(MIB, 0) == b"p" * 256 + bytes(768) + b"c" * (MIB - 1024)
    assert block_entry(store, 0)[0] == PayloadState.FULLY_PRESENT
    assert chain_bytes([store, *parents], 0, 2048) == b"p" * 256 + bytes(768) + b"c" * 1024
    assert faults(store) == []


@pytest.mark.parametrize("start", [0, 512])
@pytest.mark.parametrize("cut", [0, 512])
def test_long_range_costs_no_more_to_judge_than_its_ends(start: int, cut: int) -> None:
    with vhdx.open(ImageBuilder(TIB).build_store(), "r+") as disk:
        writer = disk.images[0].writer
        assert writer is not None

        def judge() -> None:
            writer.check_fast_zeroes(start, TIB - cut - start, may_unmap=True)
            with pytest.raises(OSError, match="zeroing without writing"):
                writer.check_fast_zeroes(start, TIB - cut - start, may_unmap=False)

        assert lines_run(judge) < 1000, "a million blocks"


def test_range_is_refused_for_either_of_its_ends() -> None:
    image = ImageBuilder(8 * MIB)
    image.add_block(0, b"o" * MIB)
    image.add_block(7, b"o" * MIB)
    watched = WatchedStore(image.build_store())
    with vhdx.open(watched, "r+") as disk:
        for offset, length in ((512, 2 * MIB), (6 * MIB, 2 * MIB - 512), (512, 100)):
            with pytest.raises(OSError, match="zeroing without writing"):
                disk.write_zeroes(length, offset, fast_only=True)
        assert watched.calls == []
        disk.write_zeroes(6 * MIB, 0, fast_only=True)
        disk.write_zeroes(MIB - 512, 7 * MIB - MIB + 512, fast_only=True)
        assert disk.pread(MIB, 7 * MIB) == b"o" * MIB
