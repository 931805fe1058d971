"""Creating images at a path: files that are there when complete and only then, and children of parents."""

import os
from pathlib import Path
from uuid import UUID

import pytest

import vhdx
from support.units import GIB, MIB
from vhdx import LogReplayRequiredError, ParentForbiddenError, RequestError
from vhdx.disks.raw import RawDevice
from vhdx.format.guids import PARENT_LOCATOR, ZERO_GUID
from vhdx.format.metadata import IS_REQUIRED
from vhdx.ops.check import check
from vhdx.ops.convert import convert
from vhdx.ops.create import create
from vhdx.storage.file import FileStore
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder
from vhdx.testing.image import MetadataItem

CONTENT = b"the parent's content" * 100


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A dynamic image of 8 MiB with some content."""
    path = tmp_path / "parent.vhdx"
    source = MemoryStore(CONTENT)
    source.truncate(8 * MIB)
    convert(RawDevice(source), path, format="vhdx", block_size=MIB)
    return path


def assert_clean(path: Path) -> None:
    assert list(check(path).findings()) == []


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_new_image_reads_as_zeroes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "new.vhdx"
    create(path, 40 * MIB, kind=kind)  # type: ignore[arg-type]
    assert_clean(path)
    with vhdx.open(path, strict=True) as disk:
        assert (disk.size, disk.block_size, disk.kind) == (40 * MIB, 32 * MIB, kind)
        assert (disk.logical_sector_size, disk.physical_sector_size) == (512, 4096)
        assert disk.pread(40 * MIB, 0) == bytes(40 * MIB)
    assert os.listdir(tmp_path) == ["new.vhdx"]


def test_fixed_image_has_its_full_length_but_takes_no_space(tmp_path: Path) -> None:
    path = tmp_path / "fixed.vhdx"
    create(path, GIB, kind="fixed")
    assert path.stat().st_size == GIB + 4 * MIB
    assert path.stat().st_blocks * 512 < MIB


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no fallocate on this system")
def test_preallocated_image_takes_its_space(tmp_path: Path) -> None:
    path = tmp_path / "fixed.vhdx"
    create(path, 16 * MIB, kind="fixed", block_size=MIB, preallocate=True)
    assert path.stat().st_blocks * 512 >= 20 * MIB
    assert_clean(path)


def test_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        create(path, MIB)
    assert path.read_bytes() == b"precious"
    create(path, MIB, overwrite=True)
    assert_clean(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "size"),
        ({"size": MIB, "kind": "differencing"}, "needs a parent"),
        ({"size": 7}, "multiple"),
    ],
)
def test_refused_request_makes_no_file(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        create(tmp_path / "new.vhdx", **arguments)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_failed_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def flush(store: FileStore) -> None:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    monkeypatch.setattr(FileStore, "flush", flush)
    with pytest.raises(KeyboardInterrupt):
        create(tmp_path / "new.vhdx", MIB)
    assert calls == 1
    assert os.listdir(tmp_path) == []


def test_child_reads_as_its_parent(tmp_path: Path, parent: Path) -> None:
    child = tmp_path / "child.vhdx"
    create(child, parent=parent)
    assert_clean(child)
    with vhdx.open(child, strict=True) as disk, vhdx.Image.open(parent) as base:
        assert disk.kind == "differencing"
        assert disk.block_size == 2 * MIB
        assert disk.size == base.size
        assert disk.disk_id == base.disk_id
        assert disk.pread(len(CONTENT), 0) == CONTENT
        locator = disk.images[0].locator
        assert locator is not None
        assert locator.linkage == base.header.data_write_guid
        assert locator.linkage2 is None
        assert locator.paths["relative_path"] == ".\\parent.vhdx"
        assert disk.images[0].header.data_write_guid != base.header.data_write_guid


def test_child_of_a_child_reads_through_both(tmp_path: Path, parent: Path) -> None:
    create(tmp_path / "child.vhdx", parent=parent)
    create(tmp_path / "grandchild.vhdx", parent=tmp_path / "child.vhdx")
    with vhdx.open(tmp_path / "grandchild.vhdx") as disk:
        assert len(disk.images) == 3
        assert disk.pread(len(CONTENT), 0) == CONTENT


def test_creating_a_child_leaves_the_parent_byte_identical(tmp_path: Path, parent: Path) -> None:
    before = parent.read_bytes()
    create(tmp_path / "child.vhdx", parent=parent)
    assert parent.read_bytes() == before


@pytest.mark.parametrize(
    ("child", "spelled"),
    [
        ("sub/child.vhdx", "..\\parent.vhdx"),
        ("sub/deep/child.vhdx", "..\\..\\parent.vhdx"),
    ],
)
def test_parent_in_another_directory_is_named_relatively(
    tmp_path: Path, parent: Path, child: str, spelled: str
) -> None:
    path = tmp_path / child
    path.parent.mkdir(parents=True)
    create(path, parent=parent)
    with vhdx.Image.open(path) as image:
        assert image.locator is not None
        assert image.locator.paths["relative_path"] == spelled
    with pytest.raises((ParentForbiddenError, vhdx.ParentNotFoundError)):
        vhdx.open(path)
    with vhdx.open(path, parents=[str(parent)]) as disk:
        assert disk.pread(len(CONTENT), 0) == CONTENT


def test_parent_below_the_child_is_named_with_its_directory(tmp_path: Path, parent: Path) -> None:
    (tmp_path / "base").mkdir()
    moved = parent.rename(tmp_path / "base" / "parent.vhdx")
    create(tmp_path / "child.vhdx", parent=moved)
    with vhdx.Image.open(tmp_path / "child.vhdx") as image:
        assert image.locator is not None
        assert image.locator.paths["relative_path"] == ".\\base\\parent.vhdx"


def test_relative_paths_are_those_of_the_files_not_of_the_process(
    tmp_path: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    create("child.vhdx", parent="../parent.vhdx")
    with vhdx.Image.open("child.vhdx") as image:
        assert image.locator is not None
        assert image.locator.paths["relative_path"] == "..\\parent.vhdx"


def test_parent_behind_a_link_is_named_where_it_really_is(tmp_path: Path, parent: Path) -> None:
    (tmp_path / "real").mkdir()
    moved = parent.rename(tmp_path / "real" / "base.vhdx")
    (tmp_path / "link.vhdx").symlink_to(moved)
    create(tmp_path / "child.vhdx", parent=tmp_path / "link.vhdx")
    with vhdx.Image.open(tmp_path / "child.vhdx") as image:
        assert image.locator is not None
        assert image.locator.paths["relative_path"] == ".\\real\\base.vhdx"


def test_child_may_be_larger_not_smaller(tmp_path: Path, parent: Path) -> None:
    create(tmp_path / "larger.vhdx", 16 * MIB, parent=parent)
    with vhdx.open(tmp_path / "larger.vhdx") as disk:
        assert disk.size == 16 * MIB
        assert disk.pread(len(CONTENT) + 10, 0) == CONTENT + bytes(10)
    with pytest.raises(RequestError, match="hide"):
        create(tmp_path / "smaller.vhdx", 4 * MIB, parent=parent)


def test_child_has_its_parents_sector_size(tmp_path: Path) -> None:
    create(tmp_path / "parent.vhdx", 8 * MIB, logical_sector_size=4096)
    create(tmp_path / "child.vhdx", parent=tmp_path / "parent.vhdx")
    with vhdx.open(tmp_path / "child.vhdx") as disk:
        assert disk.logical_sector_size == 4096
    with pytest.raises(RequestError, match="logical sectors of 4096"):
        create(tmp_path / "other.vhdx", parent=tmp_path / "parent.vhdx", logical_sector_size=512)


def test_child_inherits_items_of_the_disk_only(tmp_path: Path) -> None:
    base = ImageBuilder(8 * MIB, name="parent")
    of_disk, of_file = UUID(int=0xD15C), UUID(int=0xF11E)
    base.metadata.items += [
        MetadataItem(of_disk, b"belongs to the disk", flags=3),
        MetadataItem(of_file, b"belongs to the file", flags=1),
    ]
    path = base.write(tmp_path / "parent.vhdx")
    create(tmp_path / "child.vhdx", parent=path)
    with vhdx.Image.open(tmp_path / "child.vhdx") as image:
        items = {entry.item_id: entry for entry in image.metadata_entries}
        assert image.read_metadata_item(items[of_disk]) == b"belongs to the disk"
        assert of_file not in items
        assert items[PARENT_LOCATOR].flags == IS_REQUIRED
    assert_clean(tmp_path / "child.vhdx")


def test_dirty_parent_is_refused(tmp_path: Path) -> None:
    base = ImageBuilder(8 * MIB, name="parent")
    base.dirty_log(base.change(3 * MIB, bytes(4096)))
    path = base.write(tmp_path / "parent.vhdx")
    with pytest.raises(LogReplayRequiredError, match="not closed properly"):
        create(tmp_path / "child.vhdx", parent=path)
    assert os.listdir(tmp_path) == ["parent.vhdx"]


def test_parent_without_identity_is_refused(tmp_path: Path) -> None:
    base = ImageBuilder(8 * MIB, name="parent")
    for header in base.headers:
        header.data_write_guid = ZERO_GUID
    with pytest.raises(RequestError, match="DataWriteGuid is zero"):
        create(tmp_path / "child.vhdx", parent=base.write(tmp_path / "parent.vhdx"))


def test_parent_that_is_being_written_is_refused(tmp_path: Path, parent: Path) -> None:
    with FileStore.open(parent, writable=True), pytest.raises(vhdx.ImageLockedError):
        create(tmp_path / "child.vhdx", parent=parent)


def test_parent_is_locked_until_the_child_is_complete(
    tmp_path: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, refused = FileStore.flush, []

    def flush(store: FileStore) -> None:
        with pytest.raises(vhdx.ImageLockedError):
            FileStore.open(parent, writable=True)
        refused.append(True)
        original(store)

    monkeypatch.setattr(FileStore, "flush", flush)
    create(tmp_path / "child.vhdx", parent=parent)
    assert refused


def test_child_does_not_replace_its_own_parent(tmp_path: Path, parent: Path) -> None:
    before = parent.read_bytes()
    (tmp_path / "link.vhdx").symlink_to(parent)
    for path in (parent, tmp_path / "link.vhdx"):
        with pytest.raises(RequestError, match="is read from"):
            create(path, parent=parent, overwrite=True)
    assert parent.read_bytes() == before


def test_child_cannot_be_fixed(tmp_path: Path, parent: Path) -> None:
    with pytest.raises(RequestError, match="differencing"):
        create(tmp_path / "child.vhdx", parent=parent, kind="fixed")


@pytest.mark.skipif(os.sep == "\\", reason="backslashes separate directories here")
def test_parent_with_a_backslash_in_its_name_is_refused(tmp_path: Path, parent: Path) -> None:
    odd = parent.rename(tmp_path / "a\\b.vhdx")
    with pytest.raises(RequestError, match="backslash"):
        create(tmp_path / "child.vhdx", parent=odd)


def test_image_in_a_store_of_the_callers() -> None:
    store = MemoryStore()
    create(store, 4 * MIB)
    with pytest.raises(RequestError, match="overwrite"):
        create(store, 4 * MIB)
    create(store, 8 * MIB, overwrite=True)
    with vhdx.open(store) as disk:
        assert disk.size == 8 * MIB


def test_fixed_image_on_a_device_reads_as_zeroes_whatever_was_there() -> None:
    class Device(MemoryStore):
        is_block_device = True

    device = Device(b"\xee" * (10 * MIB))
    with pytest.raises(RequestError, match="overwrite"):
        create(device, 4 * MIB, kind="fixed", block_size=MIB)
    create(device, 4 * MIB, kind="fixed", block_size=MIB, overwrite=True)
    assert device.size() == 10 * MIB
    with vhdx.open(device) as disk:
        assert disk.pread(4 * MIB, 0) == bytes(4 * MIB)
