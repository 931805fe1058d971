"""QEMU as a client of `vhdx serve`: qemu-img and qemu-io work on a served disk as on a file."""

import json
import random
from pathlib import Path

import pytest

from support.programs import attempt, need, run
from support.served_disks import SIZE, assert_sound, chain_of_three, flattened, image_of, mottled_raw
from support.serving import Serving, run_vhdx, serving
from support.units import KIB, MIB
from vhdx.ops.create import create

pytestmark = pytest.mark.interop


def qemu_img(*arguments: str | Path) -> str:
    return run(need("qemu-img", "qemu-utils"), *arguments)


def qemu_io(server: Serving, *commands: str) -> str:
    options = [part for command in commands for part in ("-c", command)]
    said = run(need("qemu-io", "qemu-utils"), "-f", "raw", *options, server.uri)
    assert "failed" not in said, said
    return said


def test_chain_is_converted_compared_and_mapped_over_nbd(tmp_path: Path) -> None:
    leaf, *_ = chain_of_three(tmp_path)
    flat = flattened(leaf, tmp_path / "flat.raw")
    with serving(tmp_path, "--read-only", leaf) as server:
        qemu_img("convert", "-f", "raw", "-O", "raw", server.uri, tmp_path / "out.raw")
        run("cmp", tmp_path / "out.raw", flat)
        qemu_img("convert", "-f", "raw", "-O", "qcow2", "-m", "16", "-W", server.uri, tmp_path / "out.qcow2")
        qemu_img("compare", "-f", "raw", "-F", "qcow2", server.uri, tmp_path / "out.qcow2")
        qemu_img("compare", "-f", "raw", "-F", "raw", server.uri, flat)
        assert json.loads(qemu_img("info", "--output=json", server.uri))["virtual-size"] == SIZE
        pieces = json.loads(qemu_img("map", "--output=json", "-f", "raw", server.uri))
    found = {at for piece in pieces if piece["data"] for at in steps(piece)}
    expected = {
        at for piece in json.loads(run_vhdx("map", "--json", leaf)) if piece["data"] for at in steps(piece)
    }
    assert found == expected


def steps(piece: dict[str, int]) -> range:
    """Sectors of a piece of a map."""
    return range(piece["start"] // 512, (piece["start"] + piece["length"]) // 512)


def test_disk_is_converted_into_a_served_one(tmp_path: Path) -> None:
    raw, image = mottled_raw(tmp_path / "disk.raw"), tmp_path / "disk.vhdx"
    create(image, SIZE, block_size=2 * MIB)
    with serving(tmp_path, image) as server:
        qemu_img("convert", "-n", "-f", "raw", "-O", "raw", "-m", "8", "-W", raw, server.uri)
        qemu_img("compare", "-f", "raw", "-F", "raw", server.uri, raw)
    assert_same(image, raw)


def assert_same(image: Path, model: Path) -> None:
    """Both QEMU and we find the image sound, and in it the content of the model."""
    assert_sound(image)
    assert "No errors" in qemu_img("check", "-f", "vhdx", image)
    qemu_img("compare", "-f", "vhdx", "-F", "raw", image, model)
    run_vhdx("compare", "-F", "raw", image, model)


def test_patterns_written_by_qemu_io_are_what_the_image_holds(tmp_path: Path) -> None:
    image, model = tmp_path / "disk.vhdx", bytearray(SIZE)
    create(image, SIZE, block_size=MIB)
    chance = random.Random(23)
    with serving(tmp_path, image) as server:
        for _ in range(6):
            qemu_io(server, *patterns(chance, model), "flush")
            qemu_io(server, *readings(chance, model))
    (tmp_path / "model.raw").write_bytes(model)
    assert_same(image, tmp_path / "model.raw")


def patterns(chance: random.Random, model: bytearray) -> list[str]:
    """Commands that change the disk in every way there is, done to the model as well."""
    commands = []
    for _ in range(40):
        length = chance.choice((512, 4 * KIB, 68 * KIB, MIB, 3 * MIB))
        offset = chance.randrange(SIZE - length) & ~511
        # Trimmed blocks of ours read as zeroes; parts of blocks stay as they are, which QEMU does not know.
        verb = chance.choice(("write", "write -f", "aio_write", "write -z", "write -z -u", "discard"))
        if verb == "discard":
            offset, length = offset & ~(MIB - 1), max(length & ~(MIB - 1), MIB)
        value = 0 if "-z" in verb or verb == "discard" else chance.randrange(1, 256)
        pattern = f"-P {value} " if value else ""
        commands.append(f"{verb} {pattern}{offset} {length}")
        if verb == "aio_write":
            commands.append("aio_flush")
        model[offset : offset + length] = bytes([value]) * length
    return commands


def readings(chance: random.Random, model: bytearray) -> list[str]:
    """Commands that fail unless the disk holds what the model holds, wherever that is of one value."""
    commands = []
    for _ in range(200):
        length = chance.choice((512, 4 * KIB, 64 * KIB))
        offset = chance.randrange(SIZE - length) & ~511
        if model.count(model[offset], offset, offset + length) == length:
            commands.append(f"{chance.choice(('read', 'aio_read'))} -P {model[offset]} {offset} {length}")
    assert len(commands) > 50
    return [*commands, "aio_flush"]


def test_many_writes_of_qemu_in_flight_at_once_all_arrive(tmp_path: Path) -> None:
    image, model = tmp_path / "disk.vhdx", bytearray(SIZE)
    create(image, SIZE, block_size=MIB)
    commands = []
    for number in range(120):
        offset, value = number * 200 * KIB, number + 1
        model[offset : offset + 8 * KIB] = bytes([value]) * (8 * KIB)
        commands.append(f"aio_write -P {value} {offset} 8k")
    with serving(tmp_path, image, persistent=False) as server:
        qemu_io(server, *commands, "aio_flush", "flush")
    (tmp_path / "model.raw").write_bytes(model)
    assert_same(image, tmp_path / "model.raw")


def test_pattern_that_differs_is_found_by_qemu(tmp_path: Path) -> None:
    """The witness itself: qemu-io notices a wrong byte."""
    image = image_of(mottled_raw(tmp_path / "disk.raw", dense=True), tmp_path / "disk.vhdx")
    with serving(tmp_path, image) as server:
        done = attempt(need("qemu-io", "qemu-utils"), "-r", "-f", "raw", "-c", "read -P 1 0 512", server.uri)
    assert "Pattern verification failed" in done.stdout


def test_qemu_is_told_that_a_read_only_export_is(tmp_path: Path) -> None:
    image = image_of(mottled_raw(tmp_path / "disk.raw"), tmp_path / "disk.vhdx")
    before = image.read_bytes()
    with serving(tmp_path, "--read-only", image) as server:
        done = attempt(need("qemu-io", "qemu-utils"), "-f", "raw", "-c", "write 0 512", server.uri)
        assert done.returncode != 0
        assert "Permission denied" in done.stderr
    assert image.read_bytes() == before


def test_unknown_export_is_refused_with_the_servers_reason(tmp_path: Path) -> None:
    image = image_of(mottled_raw(tmp_path / "disk.raw"), tmp_path / "disk.vhdx")
    with serving(tmp_path, "--export", "disk", image) as server:
        done = attempt(need("qemu-img", "qemu-utils"), "info", server.uri.replace("disk?", "another?"))
        assert done.returncode != 0
        assert "there is no export 'another'" in done.stderr
