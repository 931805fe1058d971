"""Disks as streams."""

import io
import os
import threading

import pytest

import vhdx
from support.units import MIB
from vhdx import ParentNotFoundError
from vhdx.disks.raw import RawDevice
from vhdx.ops.pipe import write_to_pipe
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder, ReferenceDisk


def image() -> MemoryStore:
    builder = ImageBuilder(4 * MIB + 512)
    builder.add_block(1, b"content" * 1000)
    builder.add_block(4, b"end" * 10)
    return builder.build_store()


def test_every_byte_comes_in_order_zeroes_included() -> None:
    store, out = image(), io.BytesIO()
    told: list[tuple[int, int]] = []
    with vhdx.open(store) as disk:
        write_to_pipe(disk, out, lambda *both: told.append(both))
    assert out.getvalue() == ReferenceDisk([store]).read(0, 4 * MIB + 512)
    assert told[-1] == (4 * MIB + 512, 4 * MIB + 512)


def test_real_pipe_takes_its_time() -> None:
    reader, writer = os.pipe()
    received = bytearray()

    def receive() -> None:
        with os.fdopen(reader, "rb") as file:
            while piece := file.read(10_000):
                received.extend(piece)

    thread = threading.Thread(target=receive)
    thread.start()
    with vhdx.open(image()) as disk, os.fdopen(writer, "wb", buffering=0) as pipe:
        write_to_pipe(disk, pipe)
    thread.join()
    assert received == ReferenceDisk([image()]).read(0, 4 * MIB + 512)


def test_short_writes_are_continued() -> None:
    class Slow(io.BytesIO):
        def write(self, data: object, /) -> int:
            with memoryview(data) as view:  # type: ignore[arg-type]
                return super().write(view[:1000])

    out = Slow()
    write_to_pipe(RawDevice(MemoryStore(b"abc" * 5000)), out)
    assert out.getvalue() == b"abc" * 5000


def test_pipe_that_does_not_wait_is_an_error() -> None:
    class Full(io.BytesIO):
        def write(self, data: object, /) -> int:
            return 0

    with pytest.raises(BlockingIOError):
        write_to_pipe(RawDevice(MemoryStore(b"abc")), Full())


def test_reader_that_goes_away_is_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as pipe, pytest.raises(BrokenPipeError):
        write_to_pipe(RawDevice(MemoryStore(b"abc")), pipe)


def test_absent_parent_is_an_error_before_the_first_byte() -> None:
    child = ImageBuilder.child_of(ImageBuilder(4 * MIB, name="parent"))
    child.add_block(0, b"x")
    out = io.BytesIO()
    with vhdx.open(child.build_store(), parents="none") as disk, pytest.raises(ParentNotFoundError):
        write_to_pipe(disk, out)
    assert out.getvalue() == b""
