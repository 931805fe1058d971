"""Zeroing: when it is quick, when it writes, and when the host gets the space."""

import errno
from collections.abc import Callable

import pytest

import vhdx
from vhdx._units import MIB
from vhdx.format.bat import PayloadState
from vhdx.testing import ImageBuilder
from writing.disks import block_entry, faults
from writing.stores import WatchedStore, file_bytes


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
