"""fio writes and reads a served disk at random, many requests at once, and verifies every block by its checksum."""

from pathlib import Path

import pytest

from support.programs import attempt, need, run
from support.served_disks import assert_sound
from support.serving import serving
from support.units import MIB
from vhdx.ops.create import create

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def fio() -> str:
    found = need("fio", "fio")
    if "nbd" not in run(found, "--enghelp"):
        pytest.skip("this fio has no engine for NBD (Debian's package fio has)")
    return found


@pytest.mark.parametrize("connections", [1, 2])
@pytest.mark.parametrize("block_size", ["4k", "64k", "512-70k"])
def test_every_block_is_verified(tmp_path: Path, fio: str, block_size: str, connections: int) -> None:
    image = tmp_path / "disk.vhdx"
    create(image, 64 * MIB, block_size=MIB)
    sizes = f"--bsrange={block_size}" if "-" in block_size else f"--bs={block_size}"
    with serving(tmp_path, image) as server:
        # Each job has a part of the disk for itself, writes it all in random order, and reads it in another.
        done = attempt(
            fio,
            "--name=verify",
            "--ioengine=nbd",
            f"--uri={server.uri}",
            "--rw=randrw",
            sizes,
            f"--numjobs={connections}",
            f"--size={16 // connections}m",
            f"--offset_increment={16 // connections}m",
            "--iodepth=32",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--do_verify=1",
            "--fsync=64",
            "--group_reporting",
            "--verify_state_save=0",
            f"--directory={tmp_path}",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "verify" not in done.stderr
    assert_sound(image)
