"""Any sound image and chain reads as the reference reader says, whatever its states, log and sizes."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vhdx
from support.units import MIB
from vhdx import Image
from vhdx.testing import CountingStore, ImageBuilder, ReferenceDisk
from vhdx.testing.image.strategies import chains, dirty_images, images, requests

examples = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def compare(builders: list[ImageBuilder], data: st.DataObject) -> None:
    """Read the chain here and there, and compare with the reference."""
    stores = [builder.build_store() for builder in builders]
    reference = ReferenceDisk(stores)
    with vhdx.open(CountingStore(stores[0]), parents=stores[1:], strict=True) as disk:
        assert disk.size == reference.size
        for _ in range(3):
            offset, length = data.draw(requests(disk.size))
            expected = reference.read(offset, length)
            assert disk.pread(length, offset) == expected
            check_extents(disk, offset, expected)


def check_extents(disk: vhdx.Disk, offset: int, expected: bytes) -> None:
    """Extents are in order and without gaps; zero ones are zero, data is where they say."""
    position = offset
    for extent in disk.extents(offset, len(expected)):
        assert extent.offset == position
        position += extent.length
        piece = expected[extent.offset - offset : position - offset]
        if extent.zero:
            assert not any(piece)
        else:
            assert extent.file_offset is not None
            found = bytearray(extent.length)
            assert disk.images[extent.depth].store.pread_into(found, extent.file_offset) == extent.length
            assert found == piece
    assert position == offset + len(expected)


@given(images(), st.data())
@examples
def test_image_reads_as_the_reference_says(image: ImageBuilder, data: st.DataObject) -> None:
    compare([image], data)


@given(chains(), st.data())
@examples
def test_chain_reads_as_the_reference_says(chain: list[ImageBuilder], data: st.DataObject) -> None:
    compare(chain, data)


@given(dirty_images(), st.data())
@examples
def test_dirty_image_reads_as_the_reference_says(image: ImageBuilder, data: st.DataObject) -> None:
    compare([image], data)


@given(st.integers(0, 4 * MIB), st.integers(0, 64 * 1024))
def test_cutting_a_read_in_two_changes_nothing(offset: int, length: int) -> None:
    image = ImageBuilder(4 * MIB)
    image.add_block(1, bytes(range(256)) * 4096)
    image.add_block(3, b"\3" * MIB)
    length = min(length, 4 * MIB - offset)
    with Image.open(image.build_store()) as opened:
        whole = opened.pread(length, offset)
        cut = length // 3
        assert opened.pread(cut, offset) + opened.pread(length - cut, offset + cut) == whole
