"""The same images read by us, by QEMU, by libvhdi and by dissect.

Each peer is asked only for what it gets right. libvhdi and dissect ignore a dirty log. dissect reads wrongly
across the end of a block, and runs of a sector bitmap that do not begin with a byte: it is asked for pieces
that begin at multiples of 32 KiB within a block. QEMU knows neither 4096-byte sectors nor parents.
"""

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import vhdx
from support.units import KIB, MIB
from vhdx.ops.create import create
from vhdx.testing import ImageBuilder
from vhdx.testing.hostile import base_image

pytestmark = pytest.mark.interop

Read = Callable[[int, int], bytes]
PIECE = 32 * KIB


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: qemu-utils)")
    return found


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What a test has opened is closed with it."""
    with ExitStack() as opened:
        yield opened


def through_libvhdi(paths: list[Path], stack: ExitStack) -> Read:
    """Read a chain, leaf first, through libvhdi."""
    pyvhdi: Any = pytest.importorskip("pyvhdi", reason="libvhdi-python is not installed")
    files = [pyvhdi.file() for _ in paths]
    for file, path in zip(files, paths, strict=True):
        file.open(str(path))
        stack.callback(file.close)
    for child, parent in pairwise(files):
        child.set_parent(parent)
    leaf = files[0]

    def read(offset: int, length: int) -> bytes:
        data: bytes = leaf.read_buffer_at_offset(length, offset)
        return data

    return read


def through_dissect(paths: list[Path], stack: ExitStack) -> Read:
    """Read a chain through dissect, which finds the parents beside the leaf."""
    module: Any = pytest.importorskip(
        "dissect.hypervisor.disk.vhdx", reason="dissect.hypervisor is not installed"
    )
    disk = module.VHDX(paths[0])
    layer = disk
    while layer is not None:
        stack.callback(layer.fh.close)
        layer = layer.parent

    def read(offset: int, length: int) -> bytes:
        start, end = offset // PIECE * PIECE, min(-(-(offset + length) // PIECE) * PIECE, disk.size)
        pieces = []
        for at in range(start, end, PIECE):
            count = -(-min(PIECE, end - at) // disk.sector_size)
            pieces.append(disk.read_sectors(at // disk.sector_size, count))
        return b"".join(pieces)[offset - start :][:length]

    return read


def through_qemu(paths: list[Path], stack: ExitStack) -> Read:
    """Read one image through qemu-img convert."""
    raw = paths[0].with_suffix(".raw")
    run(tool("qemu-img"), "convert", "-f", "vhdx", "-O", "raw", paths[0], raw)
    file = stack.enter_context(raw.open("rb"))

    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return read


PEERS = {"libvhdi": through_libvhdi, "dissect": through_dissect, "qemu": through_qemu}
each_peer = pytest.mark.parametrize("peer", PEERS)
each_chain_peer = pytest.mark.parametrize("peer", ["libvhdi", "dissect"])


def assert_alike(disk: vhdx.Disk, read: Read, seed: int = 0) -> None:
    """Compare everything that is not zero by our account, the edges of what is, and many odd places."""
    for offset, length in _places(disk, random.Random(seed)):
        ours, theirs = disk.pread(length, offset), read(offset, length)
        assert ours == theirs, f"{length} bytes at {offset} differ"


def _places(disk: vhdx.Disk, chance: random.Random) -> Iterator[tuple[int, int]]:
    for extent in disk.extents():
        whole = extent.length if not extent.zero else min(extent.length, 4 * MIB)
        for at in range(extent.offset, extent.offset + whole, 4 * MIB):
            yield at, min(4 * MIB, extent.offset + whole - at)
        yield extent.end - min(extent.length, 5000), min(extent.length, 5000)
    for _ in range(80):
        offset = chance.randrange(disk.size)
        yield offset, min(chance.choice((1, 513, 4095, 66_000)), disk.size - offset)


SIZES = {1: 9 * MIB + 512, 2: 33 * MIB - 512, 8: 64 * MIB, 32: 70 * MIB + 1024, 256: 513 * MIB + 512}


@pytest.fixture(scope="module", params=[(block, kind) for block in SIZES for kind in ("dynamic", "fixed")])
def qemu_image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image made and filled by QEMU, with patterns at odd places."""
    block, kind = request.param
    path = tmp_path_factory.mktemp("qemu") / f"{block}-{kind}.vhdx"
    options = f"block_size={block}M,subformat={kind}"
    run(tool("qemu-img"), "create", "-q", "-f", "vhdx", "-o", options, path, str(SIZES[block]))
    fill(path, random.Random(block))
    return path


def fill(path: Path, chance: random.Random) -> None:
    """Write patterns with qemu-io."""
    with vhdx.open(path) as disk:
        size = disk.size
    commands: list[str] = []
    for _ in range(25):
        offset = chance.randrange(size // 512) * 512
        length = min(chance.choice((512, 1536, 70 * KIB, 2 * MIB)), size - offset)
        commands += ["-c", f"write -P {chance.randrange(1, 256)} {offset} {length}"]
    commands += ["-c", f"write -P 7 {size - 512} 512", "-c", f"write -z 0 {min(MIB, size)}"]
    run(tool("qemu-io"), "-f", "vhdx", *commands, path)


@each_peer
def test_image_of_qemu_reads_as_the_peer_reads_it(qemu_image: Path, peer: str, stack: ExitStack) -> None:
    with vhdx.open(qemu_image) as disk:
        assert disk.pread(512, disk.size - 512) == b"\7" * 512
        assert_alike(disk, PEERS[peer]([qemu_image], stack))


@each_peer
@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_image_of_ours_that_qemu_filled_reads_as_the_peer_reads_it(
    tmp_path: Path, peer: str, kind: Any, stack: ExitStack
) -> None:
    path = tmp_path / "ours.vhdx"
    create(path, 40 * MIB + 1536, kind=kind, block_size=2 * MIB)
    fill(path, random.Random(kind))
    with vhdx.open(path) as disk:
        assert_alike(disk, PEERS[peer]([path], stack))


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        (peer, name)
        for peer in PEERS
        for name in ("dynamic", "fixed", "large-blocks", "extras")
        if (peer, name) != ("dissect", "extras")  # it refuses metadata items that it does not know
    ],
)
def test_built_image_reads_as_the_peer_reads_it(
    tmp_path: Path, peer: str, name: str, stack: ExitStack
) -> None:
    paths = write_base(name, tmp_path)
    with vhdx.open(paths[0]) as disk:
        assert_alike(disk, PEERS[peer](paths, stack))


@each_chain_peer
@pytest.mark.parametrize("name", ["dynamic-4096", "chain", "chain-4096"])
def test_built_chain_reads_as_the_peer_reads_it(
    tmp_path: Path, peer: str, name: str, stack: ExitStack
) -> None:
    paths = write_base(name, tmp_path)
    with vhdx.open(paths[0]) as disk:
        assert len(disk.images) == len(paths)
        assert_alike(disk, PEERS[peer](paths, stack))


@each_chain_peer
def test_built_chain_of_three_reads_as_the_peer_reads_it(tmp_path: Path, peer: str, stack: ExitStack) -> None:
    base = ImageBuilder(4 * MIB, 2 * MIB, name="base")
    for block in range(2):
        base.add_block(block, random.Random(block).randbytes(2 * MIB))
    middle = ImageBuilder.child_of(base, block_size=MIB, name="middle")
    middle.add_partial_block(1, dict.fromkeys((*range(8), *range(2000, 2048)), b"middle" * 80))
    leaf = ImageBuilder.child_of(middle, name="leaf")
    leaf.add_partial_block(1, dict.fromkeys(range(4, 90), b"leaf" * 100))
    paths = [image.write(tmp_path / f"{image.name}.vhdx") for image in (leaf, middle, base)]
    with vhdx.open(paths[0]) as disk:
        assert len(disk.images) == 3
        assert_alike(disk, PEERS[peer](paths, stack))


def write_base(name: str, directory: Path) -> list[Path]:
    """Write an image that mutations start from; return its files, leaf first."""
    paths = []
    for store in base_image(name).stores:
        path = directory / f"{store.name}.vhdx"
        content = bytearray(8 * MIB)
        with path.open("wb") as file:
            for extent in store.extents(0, store.size()):
                for at in range(extent.file_offset, extent.file_offset + extent.length, len(content)):
                    count = store.pread_into(content, at)
                    if any(content[:count]):
                        file.seek(at)
                        file.write(content[:count])
            file.truncate(store.size())
        paths.append(path)
    return paths


@each_peer
def test_real_image_reads_as_the_peer_reads_it(
    sample: Path, tmp_path: Path, peer: str, stack: ExitStack
) -> None:
    with vhdx.open(sample) as disk:
        copy = tmp_path / sample.name
        shutil.copyfile(sample, copy)
        if disk.is_dirty:  # which no peer replays in memory
            run(tool("qemu-img"), "check", "-q", "-r", "all", copy)
        assert_alike(disk, PEERS[peer]([copy], stack))


def test_dirty_image_reads_as_qemu_reads_it_once_repaired(qemu_dirty_sample: Path, tmp_path: Path) -> None:
    copy = tmp_path / "dirty.vhdx"
    shutil.copyfile(qemu_dirty_sample, copy)
    qemu_img = tool("qemu-img")
    run(qemu_img, "check", "-q", "-r", "all", copy)
    with vhdx.open(qemu_dirty_sample) as before, vhdx.open(copy) as after:
        assert before.is_dirty
        assert not after.is_dirty
        assert_alike(before, after_read(after))


def after_read(disk: vhdx.Disk) -> Read:
    return lambda offset, length: disk.pread(length, offset)
