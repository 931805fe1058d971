"""No served image is harmed: read-only ones stay as they are, snapshots vanish, writers exclude one another."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vhdx
from support.dirty import GROWN, applied, grow, unlogged
from support.programs import need, run
from support.served_disks import SIZE, assert_sound, chain_of_three, flattened, image_of, mottled_raw
from support.serving import connected, environment, run_vhdx, serve_command, serving
from support.units import MIB
from vhdx import _host

pytestmark = pytest.mark.interop

needs_locks = pytest.mark.skipif(not _host.HAVE_OFD_LOCKS, reason="OFD locks are switched off")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return image_of(mottled_raw(tmp_path / "disk.raw"), tmp_path / "disk.vhdx")


def state(path: Path) -> tuple[bytes, int, int]:
    """Bytes, mtime and ctime."""
    found = path.stat()
    return path.read_bytes(), found.st_mtime_ns, found.st_ctime_ns


# -- read-only ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["--read-only", "--snapshot"])
def test_dirty_image_is_replayed_in_memory_and_stays_as_it_is(tmp_path: Path, mode: str) -> None:
    builder = unlogged()
    builder.dirty_log(grow(builder))
    image = builder.write(tmp_path / "dirty.vhdx")
    before = state(image)
    with serving(tmp_path, mode, image, persistent=False) as server:
        run(need("nbdcopy", "libnbd-bin"), server.uri, tmp_path / "out.raw")
    assert (tmp_path / "out.raw").read_bytes() == applied(GROWN)
    assert state(image) == before


def test_dirty_image_that_is_served_for_writing_is_replayed_onto_disk(tmp_path: Path) -> None:
    builder = unlogged()
    builder.dirty_log(grow(builder))
    image = builder.write(tmp_path / "dirty.vhdx")
    with serving(tmp_path, image, persistent=False) as server:
        run(need("qemu-io", "qemu-utils"), "-f", "raw", "-c", "write -P 9 2M 64k", server.uri)
    expected = bytearray(applied(GROWN))
    expected[2 * MIB : 2 * MIB + 65536] = b"\x09" * 65536
    assert_sound(image)
    assert flattened(image, tmp_path / "flat.raw").read_bytes() == expected


def test_read_only_export_is_shared_with_other_readers(image: Path, tmp_path: Path) -> None:
    with serving(tmp_path, "--read-only", image), connected(tmp_path / "nbd.sock"):
        assert "No errors" in run(need("qemu-img", "qemu-utils"), "check", image)
        vhdx.open(image).close()


# -- snapshots ---------------------------------------------------------------------------------------------------


@contextmanager
def snapshot(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """Serve a snapshot; its URI, and the folder for temporary files, which is empty at first."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with serving(tmp_path, "--snapshot", image) as server:
        yield server.uri, folder
        if server.process.poll() is None:
            server.stop()


def test_writes_to_a_snapshot_are_seen_by_all_and_survive_reconnects_but_not_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = chain_of_three(tmp_path)
    before = [state(path) for path in paths]
    model, raw = flattened(paths[0], tmp_path / "model.raw"), mottled_raw(tmp_path / "new.raw", seed=12)
    qemu_io, nbdcopy = need("qemu-io", "qemu-utils"), need("nbdcopy", "libnbd-bin")
    with (
        snapshot(tmp_path, paths[0], monkeypatch) as (uri, folder),
        connected(tmp_path / "nbd.sock") as present,
    ):
        run(qemu_io, "-f", "raw", "-c", "write -P 7 1M 3M", "-c", "discard 8M 2M", "-c", "flush", uri)
        with model.open("r+b") as file:
            file.seek(MIB)
            file.write(b"\x07" * (3 * MIB))
            file.seek(8 * MIB)
            file.write(bytes(2 * MIB))
        assert present.read(MIB - 512, 1024).data[512:] == b"\x07" * 512
        run(nbdcopy, uri, tmp_path / "out.raw")
        run("cmp", tmp_path / "out.raw", model)
        run(nbdcopy, raw, uri)
        run(nbdcopy, uri, tmp_path / "out.raw")
        run("cmp", tmp_path / "out.raw", raw)
    assert [state(path) for path in paths] == before
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_snapshot_leaves_nothing_behind_however_it_ends(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = state(image)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with (
        serving(tmp_path, "--snapshot", image) as server,
        connected(tmp_path / "nbd.sock") as client,
    ):
        client.ask(1, 0, payload=b"n" * MIB)
        assert client.answer().error == 0
        assert client.read(0, MIB).data == b"n" * MIB
        if number == signal.SIGKILL:
            server.kill()
        else:
            server.stop(number)
    assert list(folder.iterdir()) == []
    assert state(image) == before


def test_snapshot_of_a_raw_file_leaves_it_as_it_is(tmp_path: Path) -> None:
    raw = mottled_raw(tmp_path / "disk.raw")
    before = state(raw)
    new = mottled_raw(tmp_path / "new.raw", seed=12)
    nbdcopy = need("nbdcopy", "libnbd-bin")
    with serving(tmp_path, "--snapshot", "-f", "raw", raw) as server:
        run(nbdcopy, new, server.uri)
        run(nbdcopy, server.uri, tmp_path / "out.raw")
    run("cmp", tmp_path / "out.raw", new)
    assert state(raw) == before


# -- users of one image ------------------------------------------------------------------------------------------


def refusal(*arguments: str | Path) -> str:
    """The one line with which a server refuses to start."""
    done = subprocess.run(
        serve_command(*arguments), capture_output=True, text=True, check=False, timeout=60, env=environment()
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@needs_locks
@pytest.mark.parametrize("mode", [[], ["--read-only"], ["--snapshot"]])
def test_image_that_qemu_writes_to_is_refused_at_once(image: Path, tmp_path: Path, mode: list[str]) -> None:
    command = [need("qemu-io", "qemu-utils"), "-f", "vhdx", str(image)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write("length\n")
        holder.stdin.flush()
        holder.stdout.readline()
        line = refusal("--socket", tmp_path / "nbd.sock", *mode, image)
        holder.stdin.close()
    assert f"{image}: the file is in use by another process" in line
    assert not (tmp_path / "nbd.sock").exists()


@needs_locks
def test_image_that_another_server_writes_to_is_refused_at_once(image: Path, tmp_path: Path) -> None:
    with serving(tmp_path, image), connected(tmp_path / "nbd.sock"):
        line = refusal("--socket", tmp_path / "second.sock", image)
        assert f"{image}: the file is in use by another process" in line


@needs_locks
def test_served_image_is_kept_from_qemu_while_a_client_is_there(image: Path, tmp_path: Path) -> None:
    qemu_img = need("qemu-img", "qemu-utils")
    with serving(tmp_path, image), connected(tmp_path / "nbd.sock") as client:
        done = subprocess.run([qemu_img, "info", image], capture_output=True, text=True, check=False)
        assert "lock" in done.stderr
        client.ask(2)  # leaves
        assert client.socket.recv(1) == b""
        wait_for_unlock(qemu_img, image)


def wait_for_unlock(qemu_img: str, image: Path) -> None:
    """The image is closed soon after its last client has left."""
    for _ in range(200):
        if subprocess.run([qemu_img, "info", image], capture_output=True, check=False).returncode == 0:
            return
    raise AssertionError("the image stays locked")


def test_file_that_is_no_image_or_is_not_there_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"Dear Sir or Madam, " * 99)
    assert "-f raw" in refusal("--socket", tmp_path / "nbd.sock", path)
    assert "No such file" in refusal("--socket", tmp_path / "nbd.sock", tmp_path / "absent.vhdx")


def test_child_without_its_parent_is_refused_at_once(tmp_path: Path) -> None:
    leaf, parent, _ = chain_of_three(tmp_path)
    parent.rename(tmp_path / "elsewhere.vhdx")
    line = refusal("--socket", tmp_path / "nbd.sock", "--read-only", leaf)
    assert "parent" in line


def test_image_that_vanishes_while_nobody_uses_it_is_told_to_the_client_and_the_server_goes_on(
    image: Path, tmp_path: Path
) -> None:
    other = image_of(mottled_raw(tmp_path / "other.raw"), tmp_path / "other.vhdx")
    nbdinfo = need("nbdinfo", "libnbd-bin")
    with serving(tmp_path, f"a={image}", f"b={other}", exports=2) as server:
        image.rename(tmp_path / "moved.vhdx")
        done = subprocess.run(
            [nbdinfo, "--size", server.uris[0]], capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert any("'a' cannot be opened" in line for line in server.log)
        assert int(run(nbdinfo, "--size", server.uris[1])) == SIZE
        (tmp_path / "moved.vhdx").rename(image)
        assert int(run(nbdinfo, "--size", server.uris[0])) == SIZE
    assert run_vhdx("compare", "-F", "raw", image, tmp_path / "disk.raw")
