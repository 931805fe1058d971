"""Every device of the library keeps what block devices promise."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import vhdx
from support.cases import pattern
from support.dirty import GROWN, applied, grow, unlogged
from support.units import MIB
from vhdx import _host
from vhdx.blockdev.device import BlockDevice, DirectDevice, WritableDevice
from vhdx.disks.options import Mode, OpenOptions
from vhdx.disks.raw import RawDevice
from vhdx.format.bat import PayloadState
from vhdx.ops.create import create
from vhdx.ops.snapshot import open_snapshot
from vhdx.storage.base import StoreExtent
from vhdx.storage.memory import MemoryStore
from vhdx.storage.source import Owned
from vhdx.testing import ImageBuilder
from vhdx.testing.device_suite import DeviceSuite, DirectDeviceSuite, PlaceSuite, WritableDeviceSuite

SIZE = 6 * MIB + MIB // 2
"""The last block of 1 MiB is half a one."""

Made = tuple[DirectDevice, bytes]


_WRITTEN = ((MIB - 4096, MIB + 69_632), (2 * MIB, 3 * MIB), (SIZE - 1024, SIZE))


def _content() -> bytes:
    content = bytearray(SIZE)
    for seed, (start, end) in enumerate(_WRITTEN, 1):
        content[start:end] = pattern(seed, end - start)
    assert len(content) == SIZE
    return bytes(content)


def _raw_file(folder: Path, tail: int = 0) -> tuple[Path, bytes]:
    content = _content() + b"t" * tail
    path = folder / "disk.raw"
    with path.open("wb") as file:
        file.truncate(len(content))
        for start, end in (*_WRITTEN, (SIZE, SIZE + tail)):
            file.seek(start)
            file.write(content[start:end])
    return path, content


def _write_content(path: Path) -> bytes:
    content = _content()
    with vhdx.open(path, "r+") as disk:
        for start, end in _WRITTEN:
            disk.pwrite(content[start:end], start)
    return content


def _image(folder: Path, name: str = "disk.vhdx", **options: int | str) -> tuple[Path, bytes]:
    path = folder / name
    create(path, SIZE, block_size=MIB, **options)  # type: ignore[arg-type]
    return path, _write_content(path)


def _child(folder: Path) -> tuple[Path, bytes]:
    """Of blocks that are the parent's, partially and fully present, zero, and beyond the parent's end."""
    parent = ImageBuilder(4 * MIB + 4096, name="parent")
    parent.add_block(0, pattern(4, MIB))
    parent.add_block(1, pattern(5, MIB))
    parent.add_block(2, pattern(6, MIB))
    parent.add_block(4, pattern(7, MIB))  # of which all but 4096 bytes lie past the parent's end
    parent.write(folder / "parent.vhdx")
    child = ImageBuilder.child_of(parent, virtual_size=SIZE, name="child")
    child.add_partial_block(1, {sector: bytes((0xC0 + sector & 0xFF,)) * 512 for sector in (1, 2, 9, 2047)})
    child.set_block(2, PayloadState.ZERO)
    child.add_block(3, pattern(8, MIB))
    content = bytearray(SIZE)
    content[:MIB], content[MIB : 2 * MIB] = pattern(4, MIB), pattern(5, MIB)
    for sector in (1, 2, 9, 2047):
        content[MIB + sector * 512 : MIB + (sector + 1) * 512] = bytes((0xC0 + sector & 0xFF,)) * 512
    content[3 * MIB : 4 * MIB], content[4 * MIB : 4 * MIB + 4096] = pattern(8, MIB), pattern(7, MIB)[:4096]
    return child.write(folder / "child.vhdx"), bytes(content)


def _dirty(folder: Path) -> tuple[Path, bytes]:
    image = unlogged()
    image.dirty_log(grow(image))
    return image.write(folder / "dirty.vhdx"), applied(GROWN)


def _dirty_over_data(folder: Path) -> tuple[Path, bytes]:
    """A log that targets payload, as no sound writer leaves it: its bytes lie in the log alone."""
    image = unlogged()
    start = image.content[0][0]
    image.dirty_log(image.change(start + 8192, b"L" * 8192))
    content = bytearray(applied())
    content[8192:16384] = b"L" * 8192
    return image.write(folder / "patched.vhdx"), bytes(content)


IMAGES: dict[str, Callable[[Path], tuple[Path, bytes]]] = {
    "dynamic": _image,
    "fixed": lambda folder: _image(folder, kind="fixed"),
    "4096": lambda folder: _image(folder, logical_sector_size=4096),
    "child": _child,
    "dirty": _dirty,
    "dirty-over-data": _dirty_over_data,
}


@cache
def _files(kind: str) -> tuple[dict[str, bytes], str, bytes]:
    """The files of a kind of image, the leaf's name, and the disk's content; made once."""
    with TemporaryDirectory() as name:
        path, content = IMAGES[kind](Path(name))
        return {each.name: each.read_bytes() for each in Path(name).iterdir()}, path.name, content


def _made(folder: Path, kind: str) -> tuple[Path, bytes]:
    """An image of a kind, and the disk's content."""
    files, leaf, content = _files(kind)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / leaf, content


class _InFiles:
    has_places = _host.HAVE_PREADV


class TestRawFileForReading(_InFiles, PlaceSuite):
    def open_device(self, folder: Path) -> Made:
        path, content = _raw_file(folder)
        return RawDevice.open(path), content


class TestRawFile(_InFiles, DirectDeviceSuite):
    def open_device(self, folder: Path) -> Made:
        path, content = _raw_file(folder)
        return RawDevice.open(path, writable=True), content


class TestRawFileOfNoWholeSectors(_InFiles, DirectDeviceSuite):
    def open_device(self, folder: Path) -> Made:
        path, content = _raw_file(folder, 333)
        return RawDevice.open(path, writable=True), content


class _InPieces(MemoryStore):
    """Tells its extents in halves, as a store may."""

    def extents(self, file_offset: int, length: int) -> Iterator[StoreExtent]:
        for start, count, kind in super().extents(file_offset, length):
            yield StoreExtent(start, count // 2, kind)
            yield StoreExtent(start + count // 2, count - count // 2, kind)


class TestRawMemory(DirectDeviceSuite):
    has_places = False

    def open_device(self, folder: Path) -> Made:
        content = _content()
        return RawDevice(_InPieces(content), writable=True), content


class TestBlockDevice(_InFiles, DirectDeviceSuite):
    @pytest.fixture(autouse=True)
    def _device(self, block_device: str) -> None:
        self.path = block_device

    def open_device(self, folder: Path) -> Made:
        return RawDevice.open(self.path, writable=True), b"d" * MIB


@pytest.fixture(params=sorted(IMAGES))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class _OfEachKind(_InFiles):
    @pytest.fixture(autouse=True)
    def _kind(self, kind: str) -> None:
        self.kind = kind


class TestDiskForReading(_OfEachKind, PlaceSuite):
    def open_device(self, folder: Path) -> Made:
        path, content = _made(folder, self.kind)
        return vhdx.open(path), content


class TestDisk(_OfEachKind, DirectDeviceSuite):
    def open_device(self, folder: Path) -> Made:
        path, content = _made(folder, self.kind)
        return vhdx.open(path, "r+"), content


class TestSnapshot(_OfEachKind, DirectDeviceSuite):
    def open_device(self, folder: Path) -> Made:
        path, content = _made(folder, self.kind)
        return open_snapshot(vhdx.open(path)), content


class TestSnapshotOfARawDisk(_InFiles, DirectDeviceSuite):
    def open_device(self, folder: Path) -> Made:
        path, content = _raw_file(folder)
        return open_snapshot(RawDevice.open(path)), content


class TestImage(_InFiles, DirectDeviceSuite):
    mode: Mode = "r+"

    def open_device(self, folder: Path) -> Made:
        path, content = _made(folder, "dynamic")
        return vhdx.Image.open(path, self.mode), content


class TestImageForReading(_InFiles, PlaceSuite):
    def open_device(self, folder: Path) -> Made:
        path, content = _made(folder, "dynamic")
        return vhdx.Image.open(path), content


class TestImageInMemory(DirectDeviceSuite):
    has_places = False

    def open_device(self, folder: Path) -> Made:
        path, content = _made(folder, "dynamic")
        store = MemoryStore(path.read_bytes())
        return vhdx.Image.open_with(Owned(store), OpenOptions(mode="r+")), content


def test_suites_are_for_the_protocols_they_name() -> None:
    """A device of the least kind can be tested, too."""
    device: type[BlockDevice] = RawDevice
    writable: type[WritableDevice] = RawDevice
    assert (device, writable) == (RawDevice, RawDevice)
    assert issubclass(DirectDeviceSuite, WritableDeviceSuite)
    assert issubclass(WritableDeviceSuite, DeviceSuite)
