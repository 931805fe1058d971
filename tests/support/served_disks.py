"""Disks to serve, and what they hold."""

import random
from pathlib import Path

import vhdx
from support.units import KIB, MIB
from vhdx.disks.raw import RawDevice
from vhdx.ops.check import check
from vhdx.ops.convert import convert
from vhdx.ops.create import create
from vhdx.rules import Severity

SIZE = 24 * MIB + 8 * KIB


def mottled_raw(path: Path, *, dense: bool = False, seed: int = 11) -> Path:
    """A raw file of SIZE: runs of data of many lengths, with zeroes in and between them unless it is dense."""
    chance = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(SIZE)
        if dense:
            file.write(chance.randbytes(SIZE))
            return path
        for _ in range(30):
            file.seek(chance.randrange(0, SIZE - 400_000) & ~511)
            file.write(chance.randbytes(chance.choice((512, 4096, 70_144, 300_032))))
            file.write(bytes(chance.choice((0, 512, 65536))))
    return path


def image_of(raw: Path, path: Path, *, sector_size: int = 512, block_size: int = MIB) -> Path:
    """A dynamic image with the content of a raw file."""
    with RawDevice.open(raw) as source:
        convert(source, path, format="vhdx", logical_sector_size=sector_size, block_size=block_size)
    return path


def flattened(path: Path, target: Path) -> Path:
    """What an image reads as, as a raw file."""
    with vhdx.open(path) as disk:
        convert(disk, target, format="raw")
    return target


def chain_of_three(folder: Path, *, sector_size: int = 512) -> list[Path]:
    """A leaf, its parent and its grandparent, all written to; the leaf comes first."""
    paths = [folder / f"{name}.vhdx" for name in ("leaf", "parent", "grandparent")]
    chance = random.Random(sector_size)
    for number, path in enumerate(reversed(paths)):
        if number:
            create(path, parent=paths[3 - number], block_size=MIB * 2)
        else:
            create(path, SIZE, block_size=MIB, logical_sector_size=sector_size)
        with vhdx.open(path, "r+") as disk:
            for _ in range(25):
                data = chance.randbytes(chance.choice((100, 512, 70_000, 1_200_000)))
                disk.pwrite(data, chance.randrange(SIZE - len(data)))
            disk.trim(2 * MIB, chance.randrange(11) * 2 * MIB)
    return paths


def assert_sound(path: Path) -> None:
    """A check finds no fault, and the image was closed as it should be."""
    found = [f for f in check(path).findings() if f.severity in (Severity.ERROR, Severity.LEAK)]
    assert found == []
    with vhdx.open(path) as disk:
        assert not disk.is_dirty
