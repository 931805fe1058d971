"""`stream()` is a file object like any other."""

import io
import shutil
import tarfile
import zlib

import pytest

import vhdx
from support.units import MIB
from vhdx.testing import ImageBuilder
from vhdx.testing.hostile import base_image


@pytest.fixture
def disk() -> vhdx.Disk:
    base = base_image("deep-chain")
    return vhdx.open(base.stores[0], parents=base.stores[1:])


def test_stream_reads_what_the_disk_holds(disk: vhdx.Disk) -> None:
    whole = disk.pread(disk.size, 0)
    stream = disk.stream()
    assert stream.read() == whole
    assert stream.read() == b""
    assert stream.seek(-1000, io.SEEK_END) == disk.size - 1000
    assert stream.read(5000) == whole[-1000:]


@pytest.mark.parametrize("seed", range(4))
def test_stream_moves_as_a_file_of_the_same_content_does(disk: vhdx.Disk, seed: int) -> None:
    import random

    chance = random.Random(seed)
    stream, model = disk.stream(), io.BytesIO(disk.pread(disk.size, 0))
    for _ in range(200):
        match chance.randrange(5):
            case 0:
                position = chance.randrange(disk.size + 5000)
                assert stream.seek(position) == model.seek(position)
            case 1:
                step = chance.randint(0, 3000)
                assert stream.seek(step, io.SEEK_CUR) == model.seek(step, io.SEEK_CUR)
            case 2:
                step = -chance.randrange(disk.size)
                assert stream.seek(step, io.SEEK_END) == model.seek(step, io.SEEK_END)
            case 3:
                length = chance.choice((0, 1, 511, 100_000))
                assert stream.read(length) == model.read(length)
            case _:
                buffer, expected = bytearray(700), bytearray(700)
                assert stream.readinto(buffer) == model.readinto(expected)
                assert buffer == expected
        assert stream.tell() == model.tell()


def test_stream_tells_what_it_can_do(disk: vhdx.Disk) -> None:
    stream = disk.stream()
    assert stream.readable()
    assert stream.seekable()
    assert not stream.writable()
    with pytest.raises(io.UnsupportedOperation):
        stream.write(b"x")
    with pytest.raises(io.UnsupportedOperation):
        stream.truncate()
    with pytest.raises(io.UnsupportedOperation):
        stream.fileno()


def test_stream_refuses_impossible_positions(disk: vhdx.Disk) -> None:
    stream = disk.stream()
    with pytest.raises(ValueError, match="negative"):
        stream.seek(-1)
    with pytest.raises(ValueError, match="whence"):
        stream.seek(0, 3)


def test_closed_stream_refuses_and_leaves_the_disk_open(disk: vhdx.Disk) -> None:
    with disk.stream() as stream:
        assert stream.read(1)
    for call in (stream.read, stream.tell, lambda: stream.seek(0), lambda: stream.readinto(bytearray(1))):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert disk.pread(1, 0)


def test_shutil_and_zlib_take_the_stream(disk: vhdx.Disk) -> None:
    copy = io.BytesIO()
    shutil.copyfileobj(disk.stream(), copy)
    assert copy.getvalue() == disk.pread(disk.size, 0)
    crc = 0
    with io.BufferedReader(disk.stream()) as reader:
        while piece := reader.read(12_345):
            crc = zlib.crc32(piece, crc)
    assert crc == zlib.crc32(copy.getvalue())


def test_tarfile_reads_an_archive_on_the_disk() -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("one", "two"):
            member = tarfile.TarInfo(name)
            member.size = 300_000
            tar.addfile(member, io.BytesIO(name.encode() * 100_000))
    content = archive.getvalue()
    image = ImageBuilder(4 * MIB)
    # The second half lies before the first one in the file.
    image.add_block(1, content[MIB:])
    image.add_block(0, content[:MIB])
    stream = vhdx.open(image.build_store()).stream()
    with tarfile.open(fileobj=stream) as tar:
        assert tar.getnames() == ["one", "two"]
        member_file = tar.extractfile("two")
        assert member_file is not None
        assert member_file.read() == b"two" * 100_000


def test_buffers_of_other_item_sizes_are_filled(disk: vhdx.Disk) -> None:
    import array

    buffer = array.array("Q", bytes(8 * 100))
    disk.pread_into(buffer, 512)
    assert buffer.tobytes() == disk.pread(800, 512)
