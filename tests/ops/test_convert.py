"""Converting whole disks: content, allocation, and what is refused."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vhdx
from support.units import MIB, TIB
from vhdx import Extent, Limits, ParentNotFoundError, RequestError, _host
from vhdx.blockdev.device import Range
from vhdx.disks.raw import RawDevice
from vhdx.engine.new_image import ImageWriter
from vhdx.format.new_disk import disk_parameters
from vhdx.ops.check import check
from vhdx.ops.convert import convert
from vhdx.ops.create import create
from vhdx.storage.base import StoreExtent, pread
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder, ReferenceDisk
from vhdx.testing.image.strategies import chains

QUICK = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


class PlainDevice:
    """A device that cannot say where its content lies, nor where it is zero."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)
        self.limits = Limits(512, 4096, 4096)

    def pread(self, length: int, offset: int) -> bytes:
        return self.content[offset : offset + length]

    def pread_into(self, buffer: object, offset: int) -> None:
        with memoryview(buffer) as view:  # type: ignore[arg-type]
            view[:] = self.content[offset : offset + len(view)]

    def cache(self, length: int, offset: int) -> None:
        pass

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        count = self.size - offset if length is None else length
        yield Extent(offset, count, zero=False, hole=False, present=True, depth=0, file_offset=None)

    @contextmanager
    def ranges(self, offset: int, length: int) -> Iterator[Iterator[Range]]:
        assert length < 0, "ranges were asked of a device that has none"
        yield iter(())

    def close(self) -> None:
        pass


def raw(content: bytes, size: int | None = None) -> RawDevice:
    store = MemoryStore(content)
    store.truncate(len(content) if size is None else size)
    return RawDevice(store)


def content_of(store: MemoryStore) -> bytes:
    return pread(store, store.size(), 0)


def held_bytes(store: MemoryStore) -> int:
    return sum(extent.length for extent in store.extents(0, store.size()) if extent.kind.value == "data")


def allocated_blocks(store: MemoryStore) -> list[int]:
    with vhdx.Image.open(store) as image:
        geometry = image.opened.geometry
        return [block for block in range(geometry.block_count) if image.bat.payload_entry(block)]


def assert_clean(store: MemoryStore | Path) -> None:
    assert list(check(store).findings()) == []


def to_image(source: vhdx.BlockDevice, **options: object) -> MemoryStore:
    store = MemoryStore()
    convert(source, store, format="vhdx", **options)  # type: ignore[arg-type]
    assert_clean(store)
    return store


PIECES = st.lists(
    st.tuples(
        st.integers(0, 6 * MIB - 1),
        st.sampled_from((1, 511, 512, 4095, 4096, 4097, 65536, 300_000, MIB)),
        st.integers(0, 255),
    ),
    max_size=8,
)


def drawn_content(size: int, pieces: list[tuple[int, int, int]]) -> bytes:
    """A disk of zeroes with runs of one byte each, which may be zero too."""
    content = bytearray(size)
    for offset, length, value in pieces:
        piece = bytes([value]) * length
        content[offset : offset + length] = piece[: max(0, size - offset)]
    return bytes(content[:size])


@QUICK
@given(
    PIECES,
    st.integers(1, 6 * MIB),
    st.sampled_from((MIB, 2 * MIB, 32 * MIB)),
    st.sampled_from((512, 4096)),
    st.sampled_from(("dynamic", "fixed")),
    st.booleans(),
    st.integers(1, 3),
)
def test_raw_to_image_and_back_is_the_same(
    pieces: list[tuple[int, int, int]],
    size: int,
    block_size: int,
    lss: int,
    kind: str,
    sparse: bool,
    threads: int,
) -> None:
    content = drawn_content(size, pieces)
    options = {"kind": kind, "sparse": sparse, "threads": threads, "logical_sector_size": lss}
    image = to_image(raw(content), block_size=block_size, **options)
    padding = bytes(-size % lss)
    assert ReferenceDisk([image]).size == size + len(padding)
    back = MemoryStore()
    with vhdx.open(image) as disk:
        assert disk.pread(disk.size, 0) == content + padding
        convert(disk, back, sparse=sparse, threads=threads)
    assert content_of(back) == content + padding


@QUICK
@given(chains(max_depth=3), st.booleans())
def test_chain_is_flattened_as_the_reference_reads_it(images: list[ImageBuilder], sparse: bool) -> None:
    stores = [image.build_store() for image in images]
    reference = ReferenceDisk(stores)
    expected = reference.read(0, reference.size)
    with vhdx.open(stores[0], parents=stores[1:]) as disk:
        plain = MemoryStore()
        convert(disk, plain, sparse=sparse)
        assert content_of(plain) == expected
        flat = to_image(disk, sparse=sparse, block_size=MIB)
    with vhdx.open(flat) as disk:
        assert disk.pread(disk.size, 0) == expected
        assert disk.logical_sector_size == reference.sector_size
        assert disk.kind == "dynamic"


@QUICK
@given(PIECES, st.integers(1, 4 * MIB), st.integers(0, 255))
def test_target_of_fixed_length_loses_all_of_its_old_content(
    pieces: list[tuple[int, int, int]], size: int, old: int
) -> None:
    content = drawn_content(size, pieces)

    class Device(MemoryStore):
        is_block_device = True

    device = Device(bytes([old]) * (6 * MIB))
    convert(raw(content), device, overwrite=True)
    assert content_of(device) == content + bytes([old]) * (6 * MIB - size)
    for kind in ("dynamic", "fixed"):
        device = Device(bytes([old]) * (9 * MIB))
        convert(raw(content), device, format="vhdx", kind=kind, block_size=MIB, overwrite=True)
        assert device.size() == 9 * MIB
        with vhdx.open(device) as disk:
            assert disk.pread(size, 0) == content
            assert disk.pread(disk.size - size, size) == bytes(disk.size - size)


@pytest.mark.parametrize("options", [{}, {"format": "vhdx", "kind": "fixed", "block_size": MIB}])
def test_holes_of_the_source_are_written_out_on_a_device(options: dict[str, str]) -> None:
    class Device(MemoryStore):
        is_block_device = True

    device = Device(b"\xee" * (48 * MIB))
    source = raw(b"x", 40 * MIB)  # more than one unit without any data
    convert(source, device, overwrite=True, **options)  # type: ignore[arg-type]
    result = vhdx.open(device) if options else RawDevice(device)
    with result:
        assert result.pread(40 * MIB, 0) == b"x" + bytes(40 * MIB - 1)


def test_device_without_ranges_is_copied_too() -> None:
    content = drawn_content(3 * MIB + 77, [(5, 70_000, 1), (MIB, MIB, 2), (3 * MIB, 77, 3)])
    for sparse in (True, False):
        target = MemoryStore()
        convert(PlainDevice(content), target, sparse=sparse)
        assert content_of(target) == content


def test_file_system_is_asked_once_for_each_run_of_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Asking can cost a walk over the whole run, so asking again for every block would be quadratic.
    content = drawn_content(40 * MIB, [(0, 10 * MIB, 1), (10 * MIB, 10 * MIB, 2), (30 * MIB, 100_000, 3)])
    image = tmp_path / "disk.vhdx"
    convert(raw(content), image, format="vhdx", kind="fixed", block_size=MIB)
    asked: list[int] = []
    with vhdx.open(image) as disk:
        kind = type(disk.images[0].file_store)
        original = kind.extents

        def counting(store: Any, file_offset: int, length: int) -> Iterator[StoreExtent]:
            asked.append(file_offset)
            return original(store, file_offset, length)

        monkeypatch.setattr(kind, "extents", counting)
        convert(disk, tmp_path / "out.vhdx", format="vhdx", block_size=MIB, threads=1)
    assert len(asked) <= 6
    with vhdx.open(tmp_path / "out.vhdx") as disk:
        assert disk.pread(disk.size, 0) == content


def test_zeroes_in_the_data_take_no_space() -> None:
    # All of it is data for the source: the zeroes have to be found.
    content = drawn_content(8 * MIB, [(0, 70_000, 1), (5 * MIB + 65536, 65536, 2)])
    target = MemoryStore()
    convert(PlainDevice(content), target)
    assert held_bytes(target) <= 3 * 65536
    image = to_image(PlainDevice(content), block_size=MIB)
    assert allocated_blocks(image) == [0, 5]
    assert image.size() == 6 * MIB


def test_zeroes_are_kept_as_data_if_so_wanted() -> None:
    target = MemoryStore()
    convert(PlainDevice(bytes(MIB)), target, sparse=False)
    assert held_bytes(target) == MIB
    image = to_image(PlainDevice(bytes(2 * MIB)), block_size=MIB, sparse=False)
    assert allocated_blocks(image) == [0, 1]


@pytest.mark.skipif(not _host.HAVE_SEEK_HOLE, reason="this system does not tell where holes are")
def test_holes_of_the_host_inside_a_block_are_not_read(tmp_path: Path) -> None:
    image = tmp_path / "fixed.vhdx"
    create(image, 64 * MIB, kind="fixed", block_size=MIB)
    with vhdx.open(image) as disk:
        store = disk.images[0].file_store
        read: list[int] = []
        original = type(store).pread_into

        def counting(self: object, buffer: object, file_offset: int) -> int:
            count = original(self, buffer, file_offset)  # type: ignore[arg-type]
            read.append(count)
            return count

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(store), "pread_into", counting)
            convert(disk, tmp_path / "out.raw", sparse=False)
    assert sum(read) < MIB
    assert (tmp_path / "out.raw").stat().st_blocks == 0


def test_blocks_lie_in_the_order_of_the_disk() -> None:
    generator = random.Random(4)
    # Blocks whose first data lies late are decided late; the next ones must not overtake them.
    pieces = [(block * MIB + generator.choice((0, MIB - 4096)), 4096, 1 + block % 255) for block in range(60)]
    pieces = [piece for piece in pieces if generator.random() < 0.8]
    source = PlainDevice(drawn_content(60 * MIB, pieces))
    for threads in (1, 2, 4):
        image = to_image(source, block_size=MIB, threads=threads)
        with vhdx.Image.open(image) as opened:
            places = [opened.bat.payload_entry(block) for block in allocated_blocks(image)]
        assert places == sorted(places)
        assert len(places) == len(pieces)
        with vhdx.open(image) as disk:
            assert disk.pread(disk.size, 0) == source.content


def test_sector_sizes_are_the_sources_unless_told() -> None:
    store = MemoryStore()
    ImageWriter(store, disk_parameters(4 * MIB, logical_sector_size=4096)).finish()
    with vhdx.open(store) as disk:
        with vhdx.open(to_image(disk)) as copy:
            assert (copy.logical_sector_size, copy.physical_sector_size) == (4096, 4096)
            assert copy.disk_id != disk.disk_id
        with vhdx.open(to_image(disk, logical_sector_size=512, disk_id=disk.disk_id)) as copy:
            assert copy.logical_sector_size == 512
            assert copy.disk_id == disk.disk_id


def test_size_that_is_no_multiple_of_a_sector_is_padded_with_zeroes() -> None:
    with vhdx.open(to_image(raw(b"x" * 1000))) as disk:
        assert disk.size == 1024
        assert disk.pread(1024, 0) == b"x" * 1000 + bytes(24)


def test_empty_raw_file_makes_an_empty_raw_file_and_no_image() -> None:
    target = MemoryStore()
    convert(raw(b""), target)
    assert target.size() == 0
    with pytest.raises(RequestError, match="positive"):
        convert(raw(b""), MemoryStore(), format="vhdx")


def test_64_tib_disk_with_a_little_data_is_quick_and_small() -> None:
    source = MemoryStore()
    source.pwrite(b"start", 0)
    source.pwrite(b"end", 64 * TIB - 3)
    image = to_image(RawDevice(source), block_size=MIB)
    assert held_bytes(image) < 3 * MIB
    target = MemoryStore()
    with vhdx.open(image) as disk:
        convert(disk, target)
    assert target.size() == 64 * TIB
    assert pread(target, 3, 64 * TIB - 3) == b"end"


def test_absent_parent_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    parent = ImageBuilder(4 * MIB, name="parent")
    parent.add_block(1, b"x" * 512)
    child = ImageBuilder.child_of(parent, name="child")
    child.add_block(0, b"y" * 512)
    target = MemoryStore(b"old")
    with vhdx.open(child.build_store(), parents="none") as disk:
        with pytest.raises(ParentNotFoundError, match="--parent"):
            convert(disk, tmp_path / "out.raw")
        with pytest.raises(ParentNotFoundError):
            convert(disk, target, overwrite=True)
    assert content_of(target) == b"old"
    assert os.listdir(tmp_path) == []


def test_file_that_is_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x" * 4096)
    os.link(path, tmp_path / "same.raw")
    (tmp_path / "link.raw").symlink_to(path)
    with RawDevice.open(path) as source:
        for name in ("disk.raw", "same.raw", "link.raw"):
            with pytest.raises(RequestError, match="is read from"):
                convert(source, tmp_path / name, overwrite=True)
    assert path.read_bytes() == b"x" * 4096
    store = MemoryStore(b"x" * 512)
    with pytest.raises(RequestError, match="is read from"):
        convert(RawDevice(store), store, overwrite=True)


def test_parent_of_the_source_is_not_written(tmp_path: Path) -> None:
    create(tmp_path / "parent.vhdx", 4 * MIB)
    create(tmp_path / "child.vhdx", parent=tmp_path / "parent.vhdx")
    with vhdx.open(tmp_path / "child.vhdx") as disk, pytest.raises(RequestError, match="is read from"):
        convert(disk, tmp_path / "parent.vhdx", overwrite=True)


def test_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "out.raw"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        convert(raw(b"new"), path)
    assert path.read_bytes() == b"precious"
    convert(raw(b"new"), path, overwrite=True)
    assert path.read_bytes() == b"new"


def test_device_that_is_too_small_is_refused_untouched() -> None:
    class Device(MemoryStore):
        is_block_device = True

    device = Device(b"\xee" * MIB)
    for options in ({}, {"format": "vhdx", "kind": "fixed"}):
        with pytest.raises(RequestError, match="too few"):
            convert(raw(b"x" * 2 * MIB), device, overwrite=True, **options)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="--force"):
        convert(raw(b"x"), device)
    assert content_of(device) == b"\xee" * MIB


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "qcow2"}, "qcow2"),
        ({"threads": 0}, "threads"),
        ({"format": "vhdx", "kind": "thin"}, "thin"),
        ({"format": "vhdx", "block_size": 3 * MIB}, "block size"),
        ({"format": "vhdx", "logical_sector_size": 520}, "sector size"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        convert(raw(b"x" * 512), tmp_path / "out", **options)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_progress_ends_at_the_total() -> None:
    told: list[tuple[int, int]] = []
    convert(raw(b"x" * MIB, 8 * MIB), MemoryStore(), progress=lambda *both: told.append(both))
    assert told[-1] == (MIB, MIB)
    assert all(done <= total for done, total in told)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no fallocate on this system")
def test_preallocated_raw_file_takes_its_space(tmp_path: Path) -> None:
    convert(raw(b"x", 8 * MIB), tmp_path / "out.raw", preallocate=True)
    assert (tmp_path / "out.raw").stat().st_blocks * 512 >= 8 * MIB
    assert (tmp_path / "out.raw").read_bytes() == b"x" + bytes(8 * MIB - 1)


def test_overlay_of_a_dirty_source_is_what_is_copied() -> None:
    image = ImageBuilder(4 * MIB)
    place = image.add_block(1, b"old" * 100_000)
    image.dirty_log(image.change(place + 8192, b"new!" * 1024))
    store = image.build_store()
    reference = ReferenceDisk([store])
    for sparse in (True, False):
        target = MemoryStore()
        with vhdx.open(store) as disk:
            assert disk.is_dirty
            convert(disk, target, sparse=sparse)
        assert content_of(target) == reference.read(0, reference.size)
        assert pread(target, 4096, MIB + 8192) == b"new!" * 1024


def test_odd_chunks_keep_their_zero_runs_apart() -> None:
    # Data that begins in the middle of a granule, and ends before the end of one.
    content = drawn_content(MIB, [(1000, 10, 1), (8192, 4096, 2), (12288, 5000, 0), (600_000, 3, 9)])
    target = MemoryStore()
    convert(PlainDevice(content), target)
    assert content_of(target) == content
