"""Block arithmetic against the published tables and against a plain enumeration of the BAT."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.units import GIB, KIB, MIB, TIB
from vhdx.format.geometry import Geometry

RATIOS = [
    (512, MIB, 4096),
    (512, 2 * MIB, 2048),
    (512, 32 * MIB, 128),
    (512, 256 * MIB, 16),
    (4096, MIB, 32768),
    (4096, 2 * MIB, 16384),
    (4096, 32 * MIB, 1024),
    (4096, 256 * MIB, 128),
]
TABLE = [
    # virtual size, block size, sector size, ratio, payload blocks, chunks, entries without / with parent
    (GIB, 32 * MIB, 512, 128, 32, 1, 32, 129),
    (10 * GIB, 32 * MIB, 512, 128, 320, 3, 322, 387),
    (10 * GIB, MIB, 512, 4096, 10240, 3, 10242, 12291),
    (4 * GIB, 2 * MIB, 512, 2048, 2048, 1, 2048, 2049),
    (4 * GIB + 512, 2 * MIB, 512, 2048, 2049, 2, 2050, 4098),
    (64 * TIB, MIB, 512, 4096, 67108864, 16384, 67125247, 67125248),
    (64 * TIB, MIB, 4096, 32768, 67108864, 2048, 67110911, 67110912),
]


@pytest.mark.parametrize(("sector_size", "block_size", "ratio"), RATIOS)
def test_chunk_ratio_is_the_published_one(sector_size: int, block_size: int, ratio: int) -> None:
    assert Geometry(GIB, block_size, sector_size, False).chunk_ratio == ratio


@pytest.mark.parametrize("row", TABLE)
def test_counts_are_the_published_ones(row: tuple[int, ...]) -> None:
    size, block_size, sector_size, ratio, blocks, chunks, plain_entries, child_entries = row
    plain = Geometry(size, block_size, sector_size, False)
    child = Geometry(size, block_size, sector_size, True)
    assert plain.chunk_ratio == ratio
    assert (plain.block_count, plain.chunk_count) == (blocks, chunks)
    assert (plain.entry_count, child.entry_count) == (plain_entries, child_entries)
    assert plain.bat_size == 8 * plain_entries


def test_largest_bat_is_537001984_bytes() -> None:
    assert Geometry(64 * TIB, MIB, 512, True).bat_size == 537001984


def test_final_entry_of_a_320_block_disk_is_321() -> None:
    assert Geometry(10 * GIB, 32 * MIB, 512, False).entry_of_block(319) == 321


geometries = st.builds(
    lambda sectors, exponent, sector_size, parent: Geometry(
        sectors * sector_size, MIB << exponent, sector_size, parent
    ),
    st.integers(1, 64 * TIB // (4 * KIB)),
    st.integers(0, 8),
    st.sampled_from((512, 4096)),
    st.booleans(),
)


@given(geometries, st.data())
def test_locating_an_entry_inverts_both_index_formulas(geometry: Geometry, data: st.DataObject) -> None:
    block = data.draw(st.integers(0, geometry.block_count - 1))
    chunk = block // geometry.chunk_ratio
    assert geometry.locate_entry(geometry.entry_of_block(block)) == (chunk, block)
    assert geometry.locate_entry(geometry.entry_of_bitmap(chunk)) == (chunk, None)


@given(geometries, st.integers(0, 1 << 27))
def test_every_entry_is_that_of_what_it_locates(geometry: Geometry, index: int) -> None:
    chunk, block = geometry.locate_entry(index)
    again = geometry.entry_of_bitmap(chunk) if block is None else geometry.entry_of_block(block)
    assert again == index


@given(geometries)
def test_last_entry_in_use_is_that_of_the_last_block_or_bitmap(geometry: Geometry) -> None:
    last = geometry.entry_count - 1
    if geometry.has_parent:
        assert last == geometry.entry_of_bitmap(geometry.chunk_count - 1)
    else:
        assert last == geometry.entry_of_block(geometry.block_count - 1)


@given(geometries)
def test_blocks_cover_the_disk_exactly(geometry: Geometry) -> None:
    last = geometry.block_count - 1
    length = geometry.block_length(last)
    assert 0 < length <= geometry.block_size
    assert last * geometry.block_size + length == geometry.virtual_size
    assert last == 0 or geometry.block_length(0) == geometry.block_size


@given(st.integers(1, 300), st.integers(6, 8), st.booleans())
def test_entries_interleave_as_a_plain_enumeration_says(blocks: int, exponent: int, parent: bool) -> None:
    geometry = Geometry(blocks * (MIB << exponent), MIB << exponent, 512, parent)
    entries: list[tuple[int, int | None]] = []
    for block in range(blocks):
        entries.append((block // geometry.chunk_ratio, block))
        if block % geometry.chunk_ratio == geometry.chunk_ratio - 1:
            entries.append((block // geometry.chunk_ratio, None))
    found = [geometry.locate_entry(index) for index in range(len(entries))]
    assert found == entries
    if not parent:
        assert geometry.entry_count == len(entries) - (entries[-1][1] is None)
