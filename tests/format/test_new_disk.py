"""The parameters of a new disk, what is refused, and where its parts will lie."""

import pytest

from support.units import GIB, KIB, MIB, TIB
from vhdx import RequestError
from vhdx.format.geometry import Geometry
from vhdx.format.layout import ImageLayout
from vhdx.format.new_disk import check_parameters, disk_parameters


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "positive"),
        ({"size": -512}, "positive"),
        ({"size": 1000}, "multiple of the logical sector size"),
        ({"size": 512, "logical_sector_size": 4096}, "multiple"),
        ({"size": 64 * TIB + 512}, "64 TiB"),
        ({"size": MIB, "block_size": 0}, "block size 0"),
        ({"size": MIB, "block_size": 3 * MIB}, "block size"),
        ({"size": MIB, "block_size": 512 * KIB}, "block size"),
        ({"size": MIB, "block_size": 512 * MIB}, "block size"),
        ({"size": MIB, "logical_sector_size": 1024}, "logical sector size 1024"),
        ({"size": MIB, "logical_sector_size": 0}, "logical sector size 0"),
        ({"size": MIB, "physical_sector_size": 8192}, "physical sector size 8192"),
        ({"size": MIB, "logical_sector_size": 4096, "physical_sector_size": 512}, "smaller"),
        ({"size": MIB, "kind": "sparse"}, "sparse"),
    ],
)
def test_impossible_parameters_are_refused_by_name(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        disk_parameters(**arguments)  # type: ignore[arg-type]


def test_defaults_are_those_of_windows() -> None:
    parameters = disk_parameters(GIB)
    assert (parameters.block_size, parameters.physical_sector_size) == (32 * MIB, 4096)
    assert disk_parameters(GIB, kind="differencing").block_size == 2 * MIB
    assert disk_parameters(GIB, logical_sector_size=4096).physical_sector_size == 4096
    check_parameters(disk_parameters(64 * TIB, block_size=MIB))


def test_layout_of_the_largest_disk() -> None:
    layout = ImageLayout(Geometry(64 * TIB, MIB, 512, False))
    assert layout.bat_length == 513 * MIB
    assert layout.file_size(2) == 518 * MIB
