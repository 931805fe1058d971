"""A small Linux guest that boots in QEMU and runs one script: a kernel, busybox, and the kernel's NBD client.

`bash .ci/guest FOLDER` puts what it is made of into a folder; VHDX_GUEST says where that is.
"""

import lzma
import os
import re
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from support.programs import need

BOOT_SECONDS = 240
"""A guest that takes longer hangs; an idle machine needs ten."""

_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "nbd")
"""What the guest needs; what its kernel has built in is no file."""

_PROLOGUE = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export LD_LIBRARY_PATH=/lib
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for module in {modules}; do insmod /$module.ko; done
ifconfig lo up
ifconfig eth0 10.0.2.15 up
echo
"""
_EPILOGUE = """
poweroff -f
"""
HOST = "10.0.2.2"
"""The host's loopback, as the guest sees it."""


class _File(NamedTuple):
    name: str
    mode: int
    content: bytes = b""


def boot(script: str, *options: str) -> list[str]:
    """Boot the guest with these options of QEMU's, run a shell script in it, and return what that printed.

    It is emulated, not virtualised: it boots wherever QEMU runs.
    """
    qemu = need("qemu-system-x86_64", "qemu-system-x86")
    folder = _parts()
    (kernel,) = folder.glob("boot/vmlinuz-*")
    ramdisk = folder / f"initrd.{os.getpid()}"
    ramdisk.write_bytes(_cpio([*_system(folder), *_started(folder, script)]))
    try:
        done = subprocess.run(
            [
                *(qemu, "-accel", "tcg", "-m", "256", "-nodefaults", "-nographic", "-no-reboot"),
                *("-serial", "stdio", "-kernel", kernel, "-initrd", ramdisk),
                *("-append", "console=ttyS0 quiet panic=-1"),
                *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
                *options,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=BOOT_SECONDS,
        )
    finally:
        ramdisk.unlink()
    console = done.stdout.decode("utf-8", "replace").splitlines()
    assert done.returncode == 0, (done.stderr, console)
    return [line.strip() for line in console]


def _parts() -> Path:
    folder = os.environ.get("VHDX_GUEST")
    if folder is None:
        pytest.skip("there is no guest (Debian: bash .ci/guest FOLDER, and set VHDX_GUEST=FOLDER)")
    return Path(folder)


def _system(folder: Path) -> Iterator[_File]:
    """Programs and the libraries that they need."""
    for name in ("bin", "dev", "lib", "lib64", "mnt", "proc", "sys"):
        yield _File(name, stat.S_IFDIR | 0o755)
    client = next(
        path for path in (folder / "sbin/nbd-client", folder / "usr/sbin/nbd-client") if path.exists()
    )
    (busybox,) = folder.glob("**/bin/busybox")
    yield _program("bin/busybox", busybox)
    yield _program("bin/nbd-client", client)
    yield _File("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    for library in _libraries(folder, client):
        place = "lib64" if library.name.startswith("ld-linux") else "lib"
        yield _program(f"{place}/{library.name}", library)


def _libraries(folder: Path, program: Path) -> Iterator[Path]:
    places = (f"{folder}/lib/x86_64-linux-gnu", f"{folder}/usr/lib/x86_64-linux-gnu")
    told = subprocess.run(
        ["ldd", program],
        env=os.environ | {"LD_LIBRARY_PATH": ":".join(places)},
        capture_output=True,
        text=True,
        check=True,
    )
    for word in told.stdout.split():
        if word.startswith("/"):
            yield Path(word)


def _started(folder: Path, script: str) -> Iterator[_File]:
    """The kernel's modules, and the first process, which loads them and runs the script."""
    modules = dict(_modules(folder, _MODULES))
    for name, content in modules.items():
        yield _File(f"{name}.ko", stat.S_IFREG | 0o644, content)
    prologue = _PROLOGUE.format(modules=" ".join(modules))
    yield _File("init", stat.S_IFREG | 0o755, (prologue + script + _EPILOGUE).encode())


def _modules(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of modules, behind those that they depend on."""
    for name in names:
        for path in folder.glob(f"**/{name}.ko*"):
            content = path.read_bytes()
            if path.suffix == ".xz":
                content = lzma.decompress(content)
            (needed,) = re.findall(rb"\0depends=([^\0]*)\0", content)
            yield from _modules(folder, [each for each in needed.decode().split(",") if each])
            yield name, content


def _program(name: str, path: Path) -> _File:
    return _File(name, stat.S_IFREG | 0o755, path.read_bytes())


def _cpio(files: list[_File]) -> bytes:
    """An archive as the kernel takes it (format "newc")."""
    archive = bytearray()
    for number, (name, mode, content) in enumerate([*files, _File("TRAILER!!!", 0)], 1):
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        archive += bytes(-len(archive) % 4) + content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
