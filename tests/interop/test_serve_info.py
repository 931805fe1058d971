"""What nbdinfo is told of the exports of `vhdx serve`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.programs import attempt, need, run
from support.served_disks import SIZE, chain_of_three, image_of, mottled_raw
from support.serving import Serving, run_vhdx, serving, uri_of

pytestmark = pytest.mark.interop


def nbdinfo(*arguments: str) -> str:
    return run(need("nbdinfo", "libnbd-bin"), *arguments)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return chain_of_three(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chain: list[Path]) -> Iterator[Serving]:
    """A read-only chain, as the default export."""
    need("nbdinfo", "libnbd-bin")
    with serving(tmp_path_factory.mktemp("server"), "--read-only", chain[0]) as found:
        yield found


@pytest.fixture
def writable(tmp_path: Path) -> Iterator[Serving]:
    image = image_of(mottled_raw(tmp_path / "disk.raw"), tmp_path / "disk.vhdx", sector_size=4096)
    with serving(tmp_path, image) as found:
        yield found


def test_size_is_that_of_the_disk(server: Serving) -> None:
    assert nbdinfo("--size", server.uri) == f"{SIZE}\n"


def test_export_is_listed_with_all_that_it_can_do(writable: Serving) -> None:
    (export,) = json.loads(nbdinfo("--list", "--json", writable.uri))["exports"]
    assert export["export-name"] == ""
    assert export["description"] == "disk.vhdx"
    assert export["export-size"] == SIZE
    assert export["contexts"] == ["base:allocation", "vhdx:depth"]
    assert export["is_read_only"] is False
    assert (export["block_size_minimum"], export["block_size_preferred"]) == (4096, 4096)
    assert export["block_size_maximum"] == 32 << 20


@pytest.mark.parametrize(
    "ability", ["cache", "df", "fast-zero", "flush", "fua", "multi-conn", "trim", "zero", "read", "write"]
)
def test_writable_export_has_the_ability(writable: Serving, ability: str) -> None:
    nbdinfo("--can", ability, writable.uri)
    if ability not in {"cache", "read"}:
        nbdinfo("--can", "structured-reply", writable.uri)


@pytest.mark.parametrize("ability", ["cache", "df", "multi-conn", "read"])
def test_read_only_export_has_the_ability(server: Serving, ability: str) -> None:
    nbdinfo("--can", ability, server.uri)


@pytest.mark.parametrize("ability", ["fast-zero", "fua", "trim", "zero", "write"])
def test_read_only_export_lacks_the_ability(server: Serving, ability: str) -> None:
    assert attempt(need("nbdinfo", "libnbd-bin"), "--can", ability, server.uri).returncode == 2


def test_export_is_read_only_where_that_was_said(server: Serving, writable: Serving) -> None:
    nbdinfo("--is", "read-only", server.uri)
    assert attempt(need("nbdinfo", "libnbd-bin"), "--is", "read-only", writable.uri).returncode == 2
    assert attempt(need("nbdinfo", "libnbd-bin"), "--is", "tls", writable.uri).returncode == 2


def test_map_of_allocation_tells_holes_and_zeroes(server: Serving, chain: list[Path]) -> None:
    hole_of_zeroes = 3
    expected = [
        (piece["start"], piece["length"], 0 if piece["data"] else hole_of_zeroes)
        for piece in json.loads(run_vhdx("map", "--json", chain[0]))
    ]
    assert mapped(server.uri, "base:allocation") == joined(expected)


def test_map_of_depth_tells_which_file_holds_a_range(server: Serving, chain: list[Path]) -> None:
    expected = [
        (piece["start"], piece["length"], piece["depth"])
        for piece in json.loads(run_vhdx("map", "--json", chain[0]))
    ]
    assert {depth for _, _, depth in expected} == {0, 1, 2}
    assert mapped(server.uri, "vhdx:depth") == joined(expected)


def mapped(uri: str, context: str) -> list[tuple[int, int, int]]:
    pieces: list[dict[str, Any]] = json.loads(nbdinfo(f"--map={context}", "--json", uri))
    return joined([(piece["offset"], piece["length"], piece["type"]) for piece in pieces])


def joined(pieces: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Neighbours of one kind as one."""
    found: list[tuple[int, int, int]] = []
    for start, length, kind in pieces:
        if found and found[-1][2] == kind:
            start, length = found[-1][0], found.pop()[1] + length
        found.append((start, length, kind))
    return found


def test_several_exports_are_told_apart_by_their_names(tmp_path: Path) -> None:
    first = image_of(mottled_raw(tmp_path / "disk.raw"), tmp_path / "first.vhdx")
    second = tmp_path / "second.raw"
    second.write_bytes(b"second" * 1024)
    images = (f"one={first}", f"zwei & more={second}")
    with serving(tmp_path, "--read-only", *images, exports=2) as server:
        listed = json.loads(nbdinfo("--list", "--json", server.uris[0]))["exports"]
        assert [(each["export-name"], each["export-size"]) for each in listed] == [
            ("one", SIZE),
            ("zwei & more", 6144),
        ]
        assert [int(nbdinfo("--size", uri)) for uri in server.uris] == [SIZE, 6144]
        nameless = attempt(need("nbdinfo", "libnbd-bin"), "--size", uri_of(tmp_path / "nbd.sock"))
        assert "no export named ''" in nameless.stderr


def test_named_export_is_also_the_default_one_when_it_is_alone(tmp_path: Path) -> None:
    image = image_of(mottled_raw(tmp_path / "disk.raw"), tmp_path / "disk.vhdx")
    with serving(tmp_path, "--export", "the disk", image) as server:
        for uri in (server.uri, uri_of(tmp_path / "nbd.sock")):
            assert int(nbdinfo("--size", uri)) == SIZE
        assert server.uri == uri_of(tmp_path / "nbd.sock", "the disk")


def test_unknown_export_is_refused_by_name_and_the_server_goes_on(server: Serving) -> None:
    uri = server.uri.replace(":///", ":///another")
    done = attempt(need("nbdinfo", "libnbd-bin"), "--size", uri)
    assert done.returncode != 0
    assert "no export named 'another'" in done.stderr
    assert int(nbdinfo("--size", server.uri)) == SIZE
