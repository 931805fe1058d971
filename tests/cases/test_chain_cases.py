"""Parents that are missing, wrong, too many or in forbidden places: cases 128 to 137 of the format's table."""

import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

import vhdx
from support.cases import codes, content_of, pattern, sound, sound_child, store_of
from support.units import MIB
from vhdx import (
    ChainCycleError,
    ChainError,
    Image,
    NotVhdxError,
    ParentForbiddenError,
    ParentMismatchError,
    ParentNotFoundError,
    ParentRequest,
)
from vhdx.format import guids
from vhdx.format.bat import PayloadState, make_entry
from vhdx.rules import RuleCode
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder, LocatorFields, LocatorPair

OTHER_GUID = "{0badcafe-0bad-4afe-8bad-0badcafe0bad}"


def locator(image: ImageBuilder) -> LocatorFields:
    assert image.locator is not None
    return image.locator


def set_pair(image: ImageBuilder, which: str, /, **fields: object) -> None:
    pair = locator(image).pair(which)
    for name, value in fields.items():
        assert hasattr(pair, name)
        setattr(pair, name, value)


def add_pair(image: ImageBuilder, key: str | bytes, value: str | bytes, **fields: int) -> None:
    locator(image).pairs.append(LocatorPair(key, value, **fields))


def test_case_026_zero_linkage_recognises_no_parent() -> None:
    child, parent = sound_child()
    parent.each_header(data_write_guid=UUID(int=0))
    set_pair(child, "parent_linkage", value=str(UUID(int=0)))
    with pytest.raises(ParentMismatchError):
        vhdx.open(store_of(child), parents=[store_of(parent)])


def test_case_128_child_without_path_opens_only_with_a_named_parent(tmp_path: Path) -> None:
    child, parent = sound_child()
    locator(child).drop("relative_path")
    path = child.write(tmp_path / "child.vhdx")
    parent.write(tmp_path / "parent.vhdx")
    with pytest.raises(ParentNotFoundError, match="no path was given"):
        vhdx.open(path)
    with vhdx.open(path, parents=[tmp_path / "parent.vhdx"]) as disk:
        assert disk.pread(disk.size, 0) == content_of(child, parent)
        assert codes(disk.findings) == [RuleCode.LOCATOR_NO_PATH]


def test_case_129_missing_parent_is_reported_with_the_paths_tried(tmp_path: Path) -> None:
    child, _ = sound_child()
    path = child.write(tmp_path / "child.vhdx")
    with pytest.raises(ParentNotFoundError) as caught:
        vhdx.open(path)
    assert str(tmp_path / "parent.vhdx") in str(caught.value)
    assert "--parent" in str(caught.value)


def test_parent_beside_the_child_is_found(tmp_path: Path) -> None:
    child, parent = sound_child()
    path = child.write(tmp_path / "child.vhdx")
    parent.write(tmp_path / "parent.vhdx")
    with vhdx.open(path) as disk:
        assert [Path(image.name).name for image in disk.images] == ["child.vhdx", "parent.vhdx"]
        assert disk.pread(disk.size, 0) == content_of(child, parent)


def test_ancestors_beside_the_child_are_found_one_after_the_other(tmp_path: Path) -> None:
    child, parent = sound_child()
    leaf = ImageBuilder.child_of(child, name="leaf")
    leaf.add_partial_block(0, {3: b"\xa3" * 512})
    path = leaf.write(tmp_path / "leaf.vhdx")
    child.write(tmp_path / "child.vhdx")
    parent.write(tmp_path / "parent.vhdx")
    with vhdx.open(path) as disk:
        assert len(disk.images) == 3
        assert disk.pread(disk.size, 0) == content_of(leaf, child, parent)


@pytest.mark.parametrize("name", ["both_headers", "current_header"], ids=lambda name: f"case_130_{name}")
def test_parent_that_has_changed_is_refused(name: str, tmp_path: Path) -> None:
    child, parent = sound_child()
    changed = parent.headers if name == "both_headers" else parent.headers[1:]
    for header in changed:
        header.data_write_guid = UUID(OTHER_GUID)
    path = child.write(tmp_path / "child.vhdx")
    parent.write(tmp_path / "parent.vhdx")
    with pytest.raises(ParentMismatchError) as caught:
        vhdx.open(path)
    assert OTHER_GUID[1:-1] in str(caught.value)
    assert str(ImageBuilder(name="parent").linkage) not in OTHER_GUID


def test_case_131_parent_of_another_sector_size_is_refused() -> None:
    parent = ImageBuilder(4 * MIB, logical_sector_size=4096, name="parent")
    child = ImageBuilder.child_of(parent)
    child.item(guids.LOGICAL_SECTOR_SIZE).data = struct.pack("<I", 512)
    with pytest.raises(ParentMismatchError, match=r"logical sector size is 512.*is 4096"):
        vhdx.open(store_of(child), parents=[store_of(parent)])


@pytest.mark.parametrize(
    ("parent_size", "child_size"),
    [(2 * MIB, 4 * MIB), (4 * MIB, 2 * MIB), (2 * MIB + 512, 3 * MIB), (512, 3 * MIB)],
    ids=lambda size: f"case_132_{size}",
)
def test_parent_may_be_smaller_or_larger(parent_size: int, child_size: int) -> None:
    parent = ImageBuilder(parent_size, name="parent")
    for block in range(parent.geometry.block_count):
        parent.add_block(block, pattern(block + 1, MIB))
    child = ImageBuilder.child_of(parent, virtual_size=child_size)
    child.add_partial_block(1, {0: b"\xcc" * 512, 1000: b"\xdd" * 512})
    with vhdx.open(store_of(child), parents=[store_of(parent)]) as disk:
        assert disk.pread(child_size, 0) == content_of(child, parent)


def test_case_132_small_layer_in_the_middle_hides_what_lies_below() -> None:
    base = ImageBuilder(4 * MIB, name="base")
    base.add_block(3, pattern(1, MIB))
    base.add_block(0, pattern(2, MIB))
    middle = ImageBuilder.child_of(base, virtual_size=MIB, name="middle")
    leaf = ImageBuilder.child_of(middle, virtual_size=4 * MIB, name="leaf")
    with vhdx.open(store_of(leaf), parents=[store_of(base), store_of(middle)]) as disk:
        assert disk.pread(4 * MIB, 0) == pattern(2, MIB) + bytes(3 * MIB)
        assert disk.pread(4 * MIB, 0) == content_of(leaf, middle, base)


def link(child: ImageBuilder, parent: ImageBuilder, path: str) -> None:
    child.locator = LocatorFields.of([("parent_linkage", str(parent.linkage)), ("relative_path", path)])


def test_case_133_file_that_is_its_own_parent_is_refused(tmp_path: Path) -> None:
    image = ImageBuilder(kind="differencing", name="self")
    link(image, image, ".\\self.vhdx")
    path = image.write(tmp_path / "self.vhdx")
    with pytest.raises(ChainCycleError, match="own ancestor"):
        vhdx.open(path)


def test_case_133_file_that_is_its_own_parent_under_another_name_is_refused(tmp_path: Path) -> None:
    image = ImageBuilder(kind="differencing", name="self")
    link(image, image, ".\\again.vhdx")
    path = image.write(tmp_path / "self.vhdx")
    (tmp_path / "again.vhdx").hardlink_to(path)
    with pytest.raises(ChainCycleError, match="own ancestor"):
        vhdx.open(path)


def test_case_133_two_files_that_are_each_others_parent_are_refused(tmp_path: Path) -> None:
    first = ImageBuilder(kind="differencing", name="first")
    second = ImageBuilder(kind="differencing", name="second")
    link(first, second, "second.vhdx")
    link(second, first, "first.vhdx")
    path = first.write(tmp_path / "first.vhdx")
    second.write(tmp_path / "second.vhdx")
    with pytest.raises(ChainCycleError, match="own ancestor"):
        vhdx.open(path)


def test_case_133_store_that_is_its_own_parent_is_refused() -> None:
    image = ImageBuilder(kind="differencing", name="self")
    link(image, image, "self.vhdx")
    store = store_of(image)
    with pytest.raises(ChainCycleError):
        vhdx.open(store, parents=lambda request: store)


class Generations:
    """Answers every request for a parent with one more child, until the last, which has none."""

    def __init__(self, depth: int) -> None:
        endless = ImageBuilder(MIB, kind="differencing", name="generation")
        link(endless, endless, "generation.vhdx")
        self.child = endless.build_store()
        last = ImageBuilder(MIB, name="generation")
        last.add_block(0, pattern(1))
        self.last = last.build_store()
        self.depth = depth
        self.asked = 0

    def fresh(self, store: MemoryStore) -> MemoryStore:
        data = bytearray(store.size())
        store.pread_into(data, 0)
        return MemoryStore(data)

    def __call__(self, request: ParentRequest) -> MemoryStore:
        self.asked += 1
        assert request.depth == self.asked - 1
        return self.fresh(self.last if self.asked == self.depth else self.child)


def test_case_134_chain_without_end_is_refused_at_the_depth_limit() -> None:
    generations = Generations(10_000)
    with pytest.raises(ChainCycleError, match="256"):
        vhdx.open(generations.fresh(generations.child), parents=generations)
    assert generations.asked == 255


def test_case_134_chain_of_256_files_reads_through_to_its_base() -> None:
    generations = Generations(255)
    with vhdx.open(generations.fresh(generations.child), parents=generations) as disk:
        assert len(disk.images) == 256
        assert disk.pread(4096, 0) == pattern(1)
        assert [extent.depth for extent in disk.extents()] == [255]


def set_path(image: ImageBuilder, key: str, path: str) -> None:
    locator(image).drop("relative_path")
    add_pair(image, key, path)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("relative_path", "..\\parent.vhdx"),
        ("relative_path", "..\\..\\..\\..\\..\\..\\..\\..\\..\\etc\\passwd"),
        ("relative_path", "../parent.vhdx"),
        ("relative_path", "sub\\..\\..\\parent.vhdx"),
        ("relative_path", "sub\\parent.vhdx"),
        ("absolute_win32_path", "\\\\?\\c:\\disks\\parent.vhdx"),
        ("absolute_win32_path", "\\\\?\\UNC\\server\\share\\parent.vhdx"),
        ("absolute_win32_path", "\\\\server\\share\\parent.vhdx"),
        ("absolute_win32_path", "\\\\.\\PhysicalDrive0"),
        ("absolute_win32_path", "/etc/passwd"),
        ("volume_path", "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\parent.vhdx"),
    ],
    ids=lambda text: f"case_135_{text}",
)
def test_path_that_leaves_the_directory_is_not_followed(key: str, path: str, tmp_path: Path) -> None:
    child, parent = sound_child()
    set_path(child, key, path)
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    leaf = child.write(home / "child.vhdx")
    parent.write(tmp_path / "parent.vhdx")
    parent.write(home / "sub" / "parent.vhdx")
    with pytest.raises(ParentForbiddenError) as caught:
        vhdx.open(leaf)
    assert "--parent" in str(caught.value)
    assert "--parent-root" in str(caught.value)
    with vhdx.open(leaf, parents="none") as disk:
        assert not disk.is_complete
        with pytest.raises(ParentNotFoundError):
            disk.pread(512, 0)
        assert disk.pread(512, 512) == b"\xc1" * 512


def test_case_135_absolute_path_is_tried_by_its_last_name_beside_the_child(tmp_path: Path) -> None:
    child, parent = sound_child()
    set_path(child, "absolute_win32_path", "\\\\?\\c:\\disks\\parent.vhdx")
    leaf = child.write(tmp_path / "child.vhdx")
    parent.write(tmp_path / "parent.vhdx")
    with vhdx.open(leaf) as disk:
        assert disk.pread(disk.size, 0) == content_of(child, parent)


def test_case_135_link_beside_the_child_is_not_followed(tmp_path: Path) -> None:
    child, parent = sound_child()
    home = tmp_path / "home"
    home.mkdir()
    leaf = child.write(home / "child.vhdx")
    (home / "parent.vhdx").symlink_to(parent.write(tmp_path / "parent.vhdx"))
    with pytest.raises(ParentForbiddenError, match="symbolic link"):
        vhdx.open(leaf)


def test_case_135_root_that_the_caller_names_is_searched_and_not_left(tmp_path: Path) -> None:
    child, parent = sound_child()
    set_path(child, "relative_path", "..\\parent.vhdx")
    home = tmp_path / "home"
    home.mkdir()
    leaf = child.write(home / "child.vhdx")
    parent.write(tmp_path / "parent.vhdx")
    with vhdx.open(leaf, parents=vhdx.ParentRoot(tmp_path)) as disk:
        assert disk.pread(disk.size, 0) == content_of(child, parent)
    with pytest.raises(ChainError):
        vhdx.open(leaf, parents=vhdx.ParentRoot(home))


def test_case_136_dirty_parent_is_replayed_in_memory_and_not_touched(tmp_path: Path) -> None:
    child, parent = sound_child()
    offset = parent.add_block(1, pattern(9))
    del parent.bat[1]
    parent.dirty_log(parent.bat_change(1, make_entry(PayloadState.FULLY_PRESENT, offset)))
    child.set_block(1, PayloadState.NOT_PRESENT)
    leaf = child.write(tmp_path / "child.vhdx")
    base = parent.write(tmp_path / "parent.vhdx")
    before = base.read_bytes()
    times = (base.stat().st_mtime_ns, base.stat().st_ctime_ns)
    with vhdx.open(leaf) as disk:
        assert not disk.is_dirty
        assert disk.images[1].is_dirty
        assert disk.pread(4096, MIB) == pattern(9)
        assert disk.pread(disk.size, 0) == content_of(child, parent)
    assert base.read_bytes() == before
    assert (base.stat().st_mtime_ns, base.stat().st_ctime_ns) == times


def test_case_137_parent_of_the_older_format_is_refused_by_name(tmp_path: Path) -> None:
    child, _ = sound_child()
    leaf = child.write(tmp_path / "child.vhdx")
    (tmp_path / "parent.vhdx").write_bytes(bytes(MIB) + b"conectix".ljust(512, b"\0"))
    with pytest.raises(NotVhdxError, match=r"VHD \(version 1\)"):
        vhdx.open(leaf)


@pytest.mark.parametrize(
    "open_with",
    [Image.open, lambda store: vhdx.open(store, parents="none")],
    ids=["case_129_image", "case_129_disk"],
)
def test_sectors_of_an_absent_parent_are_an_error_and_never_zeroes(
    open_with: Callable[[object], Image],
) -> None:
    child, _ = sound_child()
    with open_with(store_of(child)) as opened:
        assert opened.pread(1024, 512) == b"\xc1" * 512 + b"\xc2" * 512
        for length, offset in ((512, 0), (1, 511), (513, 0), (512, 2 * MIB)):
            with pytest.raises(ParentNotFoundError, match="parent"):
                opened.pread(length, offset)
        assert [extent.unreadable for extent in opened.extents(0, 1536)] == [True, False]


def test_parent_cases_start_from_sound_images() -> None:
    child, parent = sound_child()
    assert content_of(parent) == content_of(sound())
    with vhdx.open(store_of(child), parents=[store_of(parent)], strict=True) as disk:
        assert disk.findings == []
        assert disk.pread(disk.size, 0) == content_of(child, parent)
