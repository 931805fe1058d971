"""Each invariant, with what it guards broken on purpose: the examination must go red."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from proof.fuzz.invariants import InvariantError, examine
from proof.fuzz.work_limits import check_limit, facts_of
from support.units import GIB, MIB
from vhdx.blockdev.device import Range
from vhdx.blockdev.extent import Extent
from vhdx.disks.image import Image
from vhdx.disks.layered_device import LayeredDevice
from vhdx.engine import log_replay, opening, read_plan
from vhdx.engine.bat_table import BatTable
from vhdx.engine.interval_set import IntervalSet
from vhdx.engine.table_summary import TableSummary
from vhdx.findings import Finding
from vhdx.format.bat import CONTENT, ContentSource, PayloadState
from vhdx.format.checksum import crc32c
from vhdx.format.guids import METADATA_REGION
from vhdx.ops import check
from vhdx.storage.base import ByteStore, pread
from vhdx.storage.overlay import OverlayStore
from vhdx.testing import ImageBuilder
from vhdx.testing.hostile import base_image


def assert_noticed(stores: tuple[ByteStore, ...], message: str, *, measure_memory: bool = False) -> None:
    with pytest.raises(InvariantError, match=message):
        examine(stores, measure_memory=measure_memory)


def assert_base_noticed(name: str, message: str) -> None:
    assert_noticed(base_image(name).stores, message)


@pytest.mark.parametrize("error", [KeyError, OverflowError, RecursionError, MemoryError, IndexError])
def test_foreign_exception_is_noticed(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def broken(*_: object) -> None:
        raise error("broken")

    monkeypatch.setattr(opening, "read_region_tables", broken)
    assert_base_noticed("dynamic", f"open auto: {error.__name__} escaped")


def test_foreign_exception_of_a_read_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise KeyError("broken")

    monkeypatch.setattr(LayeredDevice, "pread", broken)
    monkeypatch.setattr(LayeredDevice, "_fill", broken)
    assert_base_noticed("dynamic", r"read \d+ at 0: KeyError escaped")


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.pwrite(b"x", 0),
        lambda store: store.truncate(0),
        lambda store: store.write_zeroes(1, 0),
        lambda store: store.flush(),
    ],
)
def test_any_change_of_the_file_is_noticed(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[ByteStore], None]
) -> None:
    plain: Any = opening.read_identifier

    def broken(store: ByteStore, *rest: Any) -> Any:
        change(store)
        return plain(store, *rest)

    monkeypatch.setattr(opening, "read_identifier", broken)
    assert_base_noticed("dynamic", "StoreChangedError escaped")


def far_metadata() -> tuple[ByteStore, ...]:
    image = ImageBuilder()
    image.each_region(METADATA_REGION, file_offset=GIB, length=2 * GIB)
    image.content += [(GIB + offset, data) for offset, data in image.metadata.encode()]
    image.file_length = 3 * GIB
    return (image.build_store(),)


def test_read_as_long_as_a_field_says_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain: Any = opening.read_metadata_table

    def broken(store: ByteStore, region: Any, breach: Any) -> Any:
        for at in range(region.file_offset, region.file_offset + region.length // 256, MIB):
            pread(store, MIB, at)
        return plain(store, region, breach)

    assert examine(far_metadata()).kind == "clean"
    monkeypatch.setattr(opening, "read_metadata_table", broken)
    assert_noticed(far_metadata(), "bytes read, at most")


def test_allocation_as_large_as_a_field_says_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain: Any = opening.read_metadata_table

    def broken(store: ByteStore, region: Any, breach: Any) -> Any:
        buffer = bytearray(region.length // 8)
        return plain(store, region, breach) if buffer else None

    monkeypatch.setattr(opening, "read_metadata_table", broken)
    assert_noticed(far_metadata(), "bytes of memory, at most", measure_memory=True)


def test_cache_that_keeps_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: BatTable, block: int) -> int:
        place = self.region.file_offset + self.geometry.entry_of_block(block) * 8
        return int.from_bytes(pread(self.store, 4096, place // 4096 * 4096)[place % 4096 :][:8], "little")

    monkeypatch.setattr(BatTable, "payload_entry", broken)
    image = ImageBuilder(8192 * MIB)
    for block in range(0, 6000, 2):
        image.set_block(block, PayloadState.ZERO)
    assert_noticed((image.build_store(),), "extents: .* reads, at most|extents: .* bytes read, at most")


def test_checksum_over_what_is_plainly_no_entry_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    image = ImageBuilder(log_length=2 * MIB)
    (entry,) = image.dirty_log([])
    entry.patch(8, image.log_length.to_bytes(4, "little"))
    data = entry.encode(image.length())
    for position in range(4096, image.log_length, 4096):
        image.content.append((image.log_offset + position, data))
    store = image.build_store()
    assert examine((store,)).refusal == "log-no-sequence"
    plain = log_replay.LogRing._body_fault

    def broken(self: log_replay.LogRing, position: int, header: Any) -> Any:
        crc = 0
        for at in range(0, min(header.entry_length, self.length), MIB):
            crc = crc32c(self.read(position + at, MIB), crc)
        return plain(self, position, header)

    monkeypatch.setattr(log_replay.LogRing, "_body_fault", broken)
    assert_noticed((store,), "bytes checksummed, at most|bytes read, at most")


def test_loop_over_bitmaps_that_chunks_share_is_noticed() -> None:
    # What a scan that looks at each of 7,710 chunks' bitmaps read before it was bounded.
    store = base_image("chain").stores[0]
    assert check_limit(facts_of(store), 0).bytes_read < 7710 * MIB // 16


def replace_content(monkeypatch: pytest.MonkeyPatch, state: PayloadState, content: ContentSource) -> None:
    changed = list(CONTENT)
    changed[state] = content
    monkeypatch.setattr(read_plan, "CONTENT", tuple(changed))


def test_former_content_that_shows_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_content(monkeypatch, PayloadState.UNMAPPED, ContentSource.FILE)
    assert_base_noticed("dynamic", "differ from the reference at")


def test_parent_that_shows_through_a_partial_block_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_content(monkeypatch, PayloadState.PARTIALLY_PRESENT, ContentSource.FILE)
    assert_base_noticed("chain", "differ from the reference at")


def change_extents(monkeypatch: pytest.MonkeyPatch, change: Callable[[Extent], Extent]) -> None:
    plain = LayeredDevice.extents

    def broken(self: LayeredDevice, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        return map(change, plain(self, offset, length))

    monkeypatch.setattr(LayeredDevice, "extents", broken)


def test_data_that_is_called_zero_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    change_extents(monkeypatch, lambda extent: extent._replace(zero=True, file_offset=None))
    assert_base_noticed("dynamic", "said to be zero and is not")


def test_extent_with_the_wrong_place_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    change_extents(monkeypatch, lambda extent: extent._replace(file_offset=MIB if extent.data else None))
    assert_base_noticed("fixed", "does not lie where it is said to")


def test_extents_with_a_gap_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    change_extents(monkeypatch, lambda extent: extent._replace(length=extent.length - 1))
    assert_base_noticed("dynamic", "does not go on from")


def test_ranges_that_pass_by_the_replay_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    image = ImageBuilder()
    place = image.add_block(0, b"old" * 4096)
    image.dirty_log(image.change(place, b"new" * 2000))
    stores = (image.build_store(),)
    assert examine(stores).reference == "equal"

    def broken(self: LayeredDevice, offset: int, length: int) -> Iterator[Range]:
        for piece in plain(self, offset, length):
            yield piece._replace(store=stores[0]) if isinstance(piece.store, OverlayStore) else piece

    plain = LayeredDevice._ranges
    monkeypatch.setattr(LayeredDevice, "_ranges", broken)
    assert_noticed(stores, "ranges of .* hold something else")


def test_log_that_is_ignored_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain: Any = opening._replay
    monkeypatch.setattr(opening, "_replay", lambda *arguments: plain(*arguments[:-1], "ignore"))
    assert_base_noticed("dirty", "differ from the reference at|the reference reader cannot read")


def test_check_that_is_stricter_than_open_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Image, *_: object, **__: object) -> Image:
        raise OSError("broken")

    monkeypatch.setattr(Image, "open", broken)
    assert_base_noticed("dynamic", "open refuses what check finds nothing wrong with")


def test_check_that_misses_what_reading_meets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    image = ImageBuilder()
    image.set_block(0, PayloadState.RESERVED_4)
    assert examine((image.build_store(),)).kind == "opened"

    def broken(*_: object) -> Generator[Finding, None, TableSummary]:
        yield from ()
        return TableSummary(0, 0, IntervalSet())

    monkeypatch.setattr(check, "scan_table", broken)
    assert_noticed((image.build_store(),), "cannot be read though check is clean")
