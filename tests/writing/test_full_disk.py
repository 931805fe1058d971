"""A real file system that runs full under an image: a plain error, nothing lost, and writing goes on afterwards."""

import errno
from pathlib import Path

import pytest

import vhdx
from support.media import fill
from support.units import MIB
from support.written_images import assert_sound
from vhdx import _host
from vhdx.ops.create import create
from vhdx.storage.file import FileStore
from vhdx.testing.crash import Content


def write_until_full(disk: vhdx.Disk, model: Content, *, flush: bool) -> OSError:
    """Write block after block; the model gets what was written without an error."""
    for number in range(64):
        data = bytes([number + 1]) * 300_000
        try:
            disk.pwrite(data, number * MIB + 5000)
            model.write(data, number * MIB + 5000)
            if flush:
                disk.flush()
        except OSError as error:
            return error
    raise AssertionError("the file system never ran full")


@pytest.mark.skipif(
    not _host.HAVE_FALLOCATE, reason="space cannot be reserved: a full disk may poison the image"
)
@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("kind", ["dynamic", "child"])
def test_image_on_a_full_file_system_loses_nothing_and_goes_on(
    small_disk: Path, kind: str, flush: bool
) -> None:
    path, parent = small_disk / "disk.vhdx", small_disk / "parent.vhdx"
    model = Content(size=64 * MIB)
    if kind == "child":
        create(parent, 64 * MIB, block_size=MIB)
        create(path, parent=parent, block_size=MIB)
    else:
        create(path, 64 * MIB, block_size=MIB)
    ballast = fill(small_disk, 9 * MIB)
    disk = vhdx.open(path, "r+")
    error = write_until_full(disk, model, flush=flush)
    assert error.errno == errno.ENOSPC
    assert disk.pread(64 * MIB, 0) == model.read(64 * MIB, 0)
    disk.pwrite(b"in place", 6000)
    model.write(b"in place", 6000)
    disk.flush()
    ballast.unlink()
    disk.pwrite(b"n" * MIB, 40 * MIB)
    model.write(b"n" * MIB, 40 * MIB)
    disk.close()
    with FileStore.open(path) as store:
        parents = [FileStore.open(parent)] if kind == "child" else []
        assert_sound([store, *parents], model)
        for each in parents:
            each.close()


def test_image_that_is_opened_on_a_full_file_system_is_not_harmed(small_disk: Path) -> None:
    path = small_disk / "disk.vhdx"
    create(path, 64 * MIB, block_size=MIB)
    model = Content(size=64 * MIB)
    with vhdx.open(path, "r+") as disk:
        disk.pwrite(b"k" * MIB, 0)
    model.write(b"k" * MIB, 0)
    ballast = fill(small_disk)
    disk = vhdx.open(path, "r+")
    with pytest.raises(OSError, match="space") as caught:
        disk.pwrite(b"n" * MIB, 5 * MIB)
    assert caught.value.errno == errno.ENOSPC
    assert disk.pread(64 * MIB, 0) == model.read(64 * MIB, 0)
    ballast.unlink()
    disk.pwrite(b"n" * MIB, 5 * MIB)
    model.write(b"n" * MIB, 5 * MIB)
    disk.close()
    with FileStore.open(path) as store:
        assert_sound([store], model)
