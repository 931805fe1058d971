"""A Linux guest lives on served disks: one that QEMU attaches for it, and one that its own kernel attaches."""

import hashlib
import random
import re
from pathlib import Path

import pytest

from support.guest import HOST, boot
from support.programs import need, run
from support.served_disks import assert_sound
from support.serving import run_vhdx, serving
from support.units import MIB

pytestmark = pytest.mark.interop

SCRIPT = """
work() {
    mount -t ext4 $1 /mnt && echo $2 mounted
    echo $2 old $(sha256sum /mnt/old)
    rm /mnt/old
    dd if=/dev/urandom of=/mnt/new bs=64k count=40 2>/dev/null
    echo $2 new $(sha256sum /mnt/new)
    fstrim /mnt && echo $2 trimmed
    umount /mnt && echo $2 unmounted
}
work /dev/vda qemu
nbd-client -l HOST PORT
nbd-client -N kernel -C 2 HOST PORT /dev/nbd0 && echo connected
work /dev/nbd0 kernel
nbd-client -d /dev/nbd0 && echo disconnected
"""

OLD = random.Random(1).randbytes(500_000)


def file_system(folder: Path, name: str) -> Path:
    """An image with an ext4 file system in it, and in that a file."""
    tree, raw, image = folder / f"{name}.tree", folder / f"{name}.raw", folder / f"{name}.vhdx"
    tree.mkdir()
    (tree / "old").write_bytes(OLD)
    with raw.open("wb") as file:
        file.truncate(48 * MIB)
    run(need("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-d", tree, raw)
    run_vhdx("convert", "--block-size", "1M", raw, image)
    return image


def test_guest_reads_writes_and_trims_through_qemu_and_through_its_own_client(tmp_path: Path) -> None:
    images = [file_system(tmp_path, name) for name in ("qemu", "kernel")]
    exports = [f"{image.stem}={image}" for image in images]
    with serving(tmp_path, *exports, exports=2, address=("--listen", "127.0.0.1:0")) as server:
        port = re.findall(r":(\d+)/", server.uris[0])[0]
        blockdev = (
            "driver=nbd,node-name=disk,server.type=inet,server.host=127.0.0.1,"
            f"server.port={port},export=qemu,discard=unmap"
        )
        script = SCRIPT.replace("HOST", HOST).replace("PORT", port)
        console = boot(script, "-blockdev", blockdev, "-device", "virtio-blk-pci,drive=disk")
    words = [line.split()[:3] for line in console]
    for image in images:
        name, back, new = image.stem, tmp_path / f"{image.stem}.back.raw", tmp_path / f"{image.stem}.new"
        assert [name, "old", hashlib.sha256(OLD).hexdigest()] in words, console
        for done in ("mounted", "trimmed", "unmounted"):
            assert f"{name} {done}" in console, console
        assert_sound(image)
        run_vhdx("convert", image, back)
        run(need("e2fsck", "e2fsprogs"), "-fn", back)
        run(need("debugfs", "e2fsprogs"), "-R", f"dump /new {new}", back)
        digest = hashlib.sha256(new.read_bytes()).hexdigest()
        assert [name, "new", digest] in words, console
    assert {"qemu: qemu.vhdx", "kernel: kernel.vhdx", "connected", "disconnected"} <= set(console), console
