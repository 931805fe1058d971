"""libnbd, through its Python binding, asks a served disk everything that it knows how to ask."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.programs import run
from support.served_disks import assert_sound, chain_of_three, flattened, image_of, mottled_raw
from support.serving import Serving, serving
from support.units import MIB
from vhdx.testing import ImageBuilder

pytestmark = pytest.mark.interop

SYSTEM_PYTHON = "/usr/bin/python3"
CLIENT = Path(__file__).with_name("libnbd_client.py")

Served = tuple[Serving, Path]


@pytest.fixture(scope="module", autouse=True)
def need_binding() -> None:
    done = subprocess.run([SYSTEM_PYTHON, "-c", "import nbd"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"libnbd's binding is not there for {SYSTEM_PYTHON} (Debian: python3-libnbd)")


def ask(scenario: str, server: Serving, content: Path) -> None:
    """Have the client play a scenario, which must come to its end."""
    run(SYSTEM_PYTHON, CLIENT, scenario, server.uri, content)


@pytest.fixture(scope="module", params=[512, 4096])
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A chain of three files with sectors of this size, served read-only, and what it holds."""
    folder = tmp_path_factory.mktemp("chain")
    leaf, *_ = chain_of_three(folder, sector_size=request.param)
    content = flattened(leaf, folder / "content.raw")
    with serving(folder, "--read-only", leaf) as server:
        yield server, content


@pytest.mark.parametrize(
    "scenario",
    [
        "replies_of_every_form_hold_the_same",
        "holes_come_as_holes",
        "read_that_may_not_be_split_is_one_chunk",
        "every_status_is_true",
        "one_status_is_the_first_of_all",
        "many_reads_in_flight_are_each_answered_right",
        "cached_ranges_read_as_before",
        "writes_to_a_read_only_export_are_refused",
    ],
)
def test_read_only_chain_passes_the_scenario(chain: Served, scenario: str) -> None:
    ask(scenario, *chain)


@pytest.mark.parametrize(
    "scenario",
    [
        "requests_past_the_end_are_refused",
        "odd_requests_leave_the_connection_in_step",
        "writes_of_every_alignment_are_all_there",
        "zeroes_and_trims_read_as_they_should",
        "many_writes_in_flight_all_arrive",
        "write_on_one_connection_is_flushed_by_another",
        "replies_of_every_form_hold_the_same",
        "many_reads_in_flight_are_each_answered_right",
        "cached_ranges_read_as_before",
    ],
)
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_writable_export_passes_the_scenario(tmp_path: Path, scenario: str, sector_size: int) -> None:
    raw = mottled_raw(tmp_path / "disk.raw")
    image = image_of(raw, tmp_path / "disk.vhdx", sector_size=sector_size)
    with serving(tmp_path, image) as server:
        ask(scenario, server, raw)
    assert_sound(image)
    run("cmp", flattened(image, tmp_path / "flat.raw"), raw)


def test_status_of_a_disk_with_many_changes_has_them_all(tmp_path: Path) -> None:
    builder = ImageBuilder(200 * MIB)
    for block in range(0, 200, 2):
        builder.add_block(block, bytes([block + 1]) * 4096)
    image = builder.write(tmp_path / "disk.vhdx")
    content = flattened(image, tmp_path / "content.raw")
    with serving(tmp_path, "--read-only", image) as server:
        ask("status_has_as_many_descriptors_as_there_are_changes", server, content)


def test_flush_on_one_connection_covers_writes_on_another(tmp_path: Path) -> None:
    raw = mottled_raw(tmp_path / "disk.raw")
    image = image_of(raw, tmp_path / "disk.vhdx")
    with serving(tmp_path, image) as server:
        ask("write_on_one_connection_is_flushed_by_another", server, raw)
        server.kill()
    run("cmp", flattened(image, tmp_path / "flat.raw"), raw)
