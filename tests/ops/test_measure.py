"""Predicting sizes: what is predicted is what conversion makes."""

from pathlib import Path

import pytest

import vhdx
from support.units import MIB, TIB
from vhdx import RequestError
from vhdx.disks.raw import RawDevice
from vhdx.ops.convert import convert
from vhdx.ops.measure import Measurement, measure
from vhdx.storage.memory import MemoryStore

PLACES = (0, 3 * MIB, 3 * MIB + 65536, 9 * MIB)


def source() -> RawDevice:
    store = MemoryStore()
    for place in PLACES:
        store.pwrite(b"x" * 65536, place)
    store.truncate(12 * MIB + 100)
    return RawDevice(store)


@pytest.mark.parametrize("block_size", [MIB, 2 * MIB, 32 * MIB])
@pytest.mark.parametrize("lss", [512, 4096])
def test_dynamic_image_has_the_predicted_length(block_size: int, lss: int) -> None:
    target = MemoryStore()
    convert(source(), target, format="vhdx", block_size=block_size, logical_sector_size=lss)
    predicted = measure(source(), format="vhdx", block_size=block_size, logical_sector_size=lss)
    assert predicted.required == target.size()
    full = MemoryStore()
    convert(source(), full, format="vhdx", kind="fixed", block_size=block_size, logical_sector_size=lss)
    assert predicted.fully_allocated == full.size()


def test_fixed_image_needs_host_space_for_its_data_only() -> None:
    measured = measure(source(), format="vhdx", kind="fixed", block_size=MIB)
    assert measured == Measurement(4 * MIB + 4 * 65536, 4 * MIB + 13 * MIB)


def test_raw_needs_its_data_now_and_its_size_later() -> None:
    assert measure(source()) == Measurement(4 * 65536, 12 * MIB + 100)
    assert measure(source()).as_json() == {"required": 262144, "fully-allocated": 12 * MIB + 100}


def test_size_alone_measures_an_empty_disk() -> None:
    assert measure(MIB) == Measurement(0, MIB)
    assert measure(64 * TIB, format="vhdx", block_size=MIB) == Measurement(516 * MIB, 516 * MIB + 64 * TIB)
    assert measure(700, format="vhdx").fully_allocated == 36 * MIB


def test_impossible_targets_are_refused() -> None:
    with pytest.raises(RequestError, match="64 TiB"):
        measure(65 * TIB, format="vhdx")
    with pytest.raises(RequestError, match="qcow2"):
        measure(MIB, format="qcow2")  # type: ignore[arg-type]
    with pytest.raises(RequestError):
        measure(-1)


def test_measuring_reads_metadata_only(tmp_path: Path) -> None:
    convert(source(), tmp_path / "disk.vhdx", format="vhdx", block_size=MIB)
    with vhdx.open(tmp_path / "disk.vhdx") as disk:
        assert (
            measure(disk, format="vhdx", block_size=MIB).required == (tmp_path / "disk.vhdx").stat().st_size
        )
