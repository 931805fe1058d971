"""The hint that a range will be read soon: what it asks of the files, and that it is never in the way."""

from pathlib import Path

import pytest

import vhdx
from support.units import MIB
from support.written_images import file_bytes
from vhdx import _host
from vhdx.blockdev.device import MAX_READ_AHEAD, BlockDevice
from vhdx.disks.raw import RawDevice
from vhdx.format.bat import PayloadState
from vhdx.ops.create import create
from vhdx.storage.file import FileStore
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder
from vhdx.testing.stores import WatchedStore


class HintedStore(WatchedStore):
    """A store that notes what is asked to be read ahead."""

    def __init__(self, image: ImageBuilder | MemoryStore) -> None:
        super().__init__(image if isinstance(image, MemoryStore) else image.build_store())
        self.hints: list[tuple[int, int]] = []

    def read_ahead(self, length: int, file_offset: int) -> None:
        self.hints.append((length, file_offset))


def test_hint_names_the_data_of_a_range_in_every_file_of_the_chain() -> None:
    parent = ImageBuilder(8 * MIB, name="parent")
    below = parent.add_block(1, b"p" * MIB)
    child = ImageBuilder.child_of(parent, block_size=MIB)
    above = child.add_block(0, b"c" * MIB)
    child.set_block(2, PayloadState.ZERO)
    part = child.add_partial_block(3, {1: b"s"})
    stores = [HintedStore(child), HintedStore(parent)]
    for mode in ("r", "r+"):
        with vhdx.open(stores[0], mode, parents=stores[1:]) as disk:
            disk.cache(4 * MIB - 4096, 4096)
        assert stores[0].hints == [(MIB - 4096, above + 4096), (512, part + 512)]
        assert stores[1].hints == [(MIB, below)]
        for store in stores:
            store.hints.clear()
            assert store.calls == []


def test_absent_parent_and_broken_entry_are_no_error_of_a_hint() -> None:
    parent = ImageBuilder(8 * MIB, name="parent")
    child = ImageBuilder.child_of(parent, block_size=MIB)
    child.add_block(0, b"c" * MIB)
    child.set_block(2, PayloadState.FULLY_PRESENT, 5)
    store = HintedStore(child)
    before = file_bytes(store)
    with vhdx.open(store, parents="none") as disk:
        disk.cache(2 * MIB, 0)
        disk.cache(8 * MIB, 0)
        with pytest.raises(vhdx.CorruptImageError):
            disk.pread(1, 2 * MIB)
    assert [length for length, _ in store.hints] == [MIB, MIB]
    assert file_bytes(store) == before


def test_work_for_a_hint_is_bounded() -> None:
    image = ImageBuilder(1 << 40, 2 * MIB)
    for block in range(64):
        image.add_block(block)
    store = HintedStore(image)
    with vhdx.open(store) as disk:
        disk.cache(disk.size, 0)
        assert sum(length for length, _ in store.hints) == MAX_READ_AHEAD
    parent = ImageBuilder(MIB, name="parent")
    child = ImageBuilder.child_of(parent, block_size=MIB)
    child.add_partial_block(0, dict.fromkeys(range(0, 2048, 2), b"s"))
    store = HintedStore(child)
    with vhdx.open(store, parents="none") as disk:
        disk.cache(MIB, 0)
    assert len(store.hints) == 512
    raw = HintedStore(MemoryStore(bytes(MAX_READ_AHEAD + MIB)))
    with RawDevice.open(raw) as device:
        device.cache(MAX_READ_AHEAD + 5, 7)
    assert raw.hints == [(MAX_READ_AHEAD, 7)]


def devices(folder: Path) -> list[BlockDevice]:
    create(folder / "disk.vhdx", 8 * MIB)
    (folder / "disk.raw").write_bytes(bytes(8 * MIB))
    path = folder / "disk.vhdx"
    return [vhdx.open(path), vhdx.Image.open(path), RawDevice.open(folder / "disk.raw")]


def test_hint_minds_the_range_and_whether_the_device_is_open(tmp_path: Path) -> None:
    for device in devices(tmp_path):
        device.cache(0, 8 * MIB)
        device.cache(8 * MIB, 0)
        for offset, length in ((8 * MIB, 1), (-1, 1), (0, -1), (1 << 70, 1)):
            with pytest.raises(vhdx.RequestError):
                device.cache(length, offset)
        device.close()
        with pytest.raises(vhdx.ImageClosedError):
            device.cache(1, 0)


def test_poisoned_image_takes_no_hints() -> None:
    store = WatchedStore(ImageBuilder(8 * MIB).build_store())
    disk = vhdx.open(store, "r+")

    def fail(call: object) -> None:
        raise OSError(5, "no")

    store.before = fail
    with pytest.raises(OSError, match="no"):
        disk.pwrite(b"n", 0)
    with pytest.raises(vhdx.ImagePoisonedError):
        disk.cache(1, 0)
    disk.close()


def test_hint_for_a_dirty_image_goes_to_the_file_below_the_replay() -> None:
    image = ImageBuilder(8 * MIB)
    place = image.add_block(0, b"o" * MIB)
    image.dirty_log(image.change(place, b"L"))
    store = HintedStore(image)
    with vhdx.open(store) as disk:
        disk.cache(MIB, 0)
    assert store.hints == [(MIB, place)]


@pytest.mark.skipif(not _host.HAVE_FADVISE, reason="the system takes no hints")
def test_file_is_asked_for_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(MIB))
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr("os.posix_fadvise", lambda _fd, at, length, _advice: asked.append((at, length)))
    with FileStore.open(path) as store:
        store.read_ahead(300_000, 100)
    assert [at for at, _ in asked] == [100, 100 + 131072, 100 + 262144]
    assert sum(length for _, length in asked) == 300_000
