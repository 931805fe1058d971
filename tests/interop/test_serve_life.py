"""A server's life: where it listens, when it ends, what it leaves, what it says."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import vhdx
from support.nbd_connection import Talk
from support.programs import need, run
from support.served_disks import SIZE, assert_sound, image_of, mottled_raw
from support.serving import (
    STOP_SECONDS,
    connected,
    environment,
    run_vhdx,
    serve_command,
    serving,
    uri_of,
)
from support.units import KIB, MIB
from vhdx.ops.create import create

pytestmark = pytest.mark.interop

READ, WRITE, DISC, FLUSH = range(4)
CLIENTS, BUSY = 50, 10
SLOT = 16 * KIB
AREA = SIZE // BUSY // SLOT * SLOT
"""Each busy client writes in an area of its own, one slot after the other."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return image_of(mottled_raw(tmp_path / "disk.raw"), tmp_path / "disk.vhdx")


def nbdinfo_size(uri: str) -> int:
    return int(run(need("nbdinfo", "libnbd-bin"), "--size", uri))


# -- the end -----------------------------------------------------------------------------------------------------


class BusyClient(threading.Thread):
    """Writes slot after slot, four at a time, and flushes, until the server is gone."""

    def __init__(self, talk: Talk, number: int) -> None:
        super().__init__(daemon=True)
        self.talk = talk
        self.number = number
        self.sent = 0
        self.answered: set[int] = set()
        self.under_way = threading.Event()
        self.failure: str | None = None

    def run(self) -> None:
        try:
            waiting = 0
            while True:
                while waiting < 4 and self.sent < AREA // SLOT:
                    self.talk.ask(
                        WRITE, self.offset(self.sent), cookie=self.sent, payload=self.slot(self.sent)
                    )
                    self.sent += 1
                    waiting += 1
                    if self.sent % 8 == 0:
                        self.talk.ask(FLUSH, cookie=1 << 32)
                        waiting += 1
                reply = self.talk.answer()
                waiting -= 1
                if reply.error:
                    self.failure = f"error {reply.error}"
                    return
                if reply.cookie < 1 << 32:
                    self.answered.add(reply.cookie)
                self.under_way.set()
        except (EOFError, ConnectionError):
            pass

    def offset(self, slot: int) -> int:
        return self.number * AREA + slot * SLOT

    def slot(self, slot: int) -> bytes:
        return bytes([self.number + 1, slot % 251 + 1]) * (SLOT // 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_server_with_fifty_clients_ends_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    image, pid_file = tmp_path / "disk.vhdx", tmp_path / "pid"
    create(image, SIZE, block_size=MIB)
    with serving(tmp_path, "--pid-file", pid_file, image) as server, ExitStack() as stack:
        talks = [stack.enter_context(connected(tmp_path / "nbd.sock")) for _ in range(CLIENTS)]
        clients = [BusyClient(*each) for each in zip(talks, range(BUSY), strict=False)]
        for client in clients:
            client.start()
        for client in clients:
            assert client.under_way.wait(STOP_SECONDS)
        assert int(pid_file.read_text()) == server.process.pid
        os.kill(int(pid_file.read_text()), number)
        server.wait()
        for client in clients:
            client.join(STOP_SECONDS)
            assert client.failure is None
        for talk in talks[BUSY:]:
            assert talk.socket.recv(1) == b""
    assert not pid_file.exists()
    assert not (tmp_path / "nbd.sock").exists()
    assert_sound(image)
    with vhdx.open(image) as disk:
        for client in clients:
            for slot in range(client.sent):
                found, expected = disk.pread(SLOT, client.offset(slot)), client.slot(slot)
                assert found == expected or (slot not in client.answered and not any(found))


def test_reply_under_way_is_finished_before_the_end(image: Path, tmp_path: Path) -> None:
    with serving(tmp_path, image) as server, connected(tmp_path / "nbd.sock") as client:
        client.ask(READ, 0, 24 * MIB)
        client.socket.recv(1, socket.MSG_PEEK)  # it has begun, and more than a socket holds is left
        server.process.send_signal(signal.SIGTERM)
        assert client.answer().data == (tmp_path / "disk.raw").read_bytes()[: 24 * MIB]
        assert client.socket.recv(1) == b""
        server.wait()


def test_client_that_takes_no_replies_does_not_keep_the_server(image: Path, tmp_path: Path) -> None:
    with serving(tmp_path, image) as server, connected(tmp_path / "nbd.sock") as client:
        for cookie in range(20):
            client.ask(READ, 0, 2 * MIB, cookie=cookie)
        client.socket.recv(1, socket.MSG_PEEK)
        server.stop()
    assert_sound(image)


def test_server_ends_when_its_last_client_has_left(image: Path, tmp_path: Path) -> None:
    with serving(tmp_path, image, persistent=False) as server:
        # Looking is not yet coming.
        assert (
            len(json.loads(run(need("nbdinfo", "libnbd-bin"), "--list", "--json", server.uri))["exports"])
            == 1
        )
        with connected(tmp_path / "nbd.sock"):
            assert nbdinfo_size(server.uri) == SIZE
        server.wait()
    assert not (tmp_path / "nbd.sock").exists()


def test_persistent_server_goes_on_when_its_last_client_has_left(image: Path, tmp_path: Path) -> None:
    with serving(tmp_path, image) as server:
        for _ in range(3):
            assert nbdinfo_size(server.uri) == SIZE
        assert server.process.poll() is None


# -- addresses ---------------------------------------------------------------------------------------------------


def test_socket_without_a_path_lies_in_a_folder_of_its_own(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with serving(tmp_path, image, address=()) as server:
        assert nbdinfo_size(server.uri) == SIZE
        (folder,) = tmp_path.glob("vhdx-*")
    assert not folder.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_loopback_address_is_served_without_an_option(image: Path, tmp_path: Path, host: str) -> None:
    if host == "[::1]" and not has_ipv6():
        pytest.skip("this machine has no IPv6 (Linux: net.ipv6.conf.lo.disable_ipv6=0)")
    with serving(tmp_path, image, address=("--listen", f"{host}:0")) as server:
        assert re.fullmatch(rf"nbd://{re.escape(host)}:\d+/", server.uri)
        assert nbdinfo_size(server.uri) == SIZE


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_public_address_without_tls_is_refused_with_the_ways_out(image: Path) -> None:
    for address in ("0.0.0.0:0", "[::]:0"):
        done = subprocess.run(
            serve_command("--listen", address, image),
            capture_output=True,
            text=True,
            check=False,
            timeout=STOP_SECONDS,
            env=environment(),
        )
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert "--allow-plaintext" in line
        assert "--tls-certs" in line


def test_public_address_is_listened_on_when_that_is_asked_for(image: Path, tmp_path: Path) -> None:
    address = ("--listen", "0.0.0.0:0", "--allow-plaintext")
    with serving(tmp_path, image, address=address) as server:
        assert nbdinfo_size(server.uri.replace("0.0.0.0", "127.0.0.1")) == SIZE


ACTIVATE = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_socket_from_the_service_manager_is_served_and_left_alone(image: Path, tmp_path: Path) -> None:
    path = tmp_path / "activated.sock"
    command = [sys.executable, "-c", ACTIVATE, str(path), *serve_command(image)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        guard = threading.Timer(60, process.kill)
        guard.start()
        assert process.stdout is not None
        assert process.stdout.readline().strip() == uri_of(path)
        assert nbdinfo_size(uri_of(path)) == SIZE
        assert process.wait(STOP_SECONDS) == 0
        guard.cancel()
    assert path.exists()  # it is the service manager's


# -- what it says ------------------------------------------------------------------------------------------------


@pytest.fixture
def dialogue(image: Path, tmp_path: Path) -> Iterator[list[str]]:
    """What a server with --verbose and --stats has to say of a client that reads, writes and flushes."""
    with serving(tmp_path, "--verbose", "--stats", image, persistent=False) as server:
        with connected(tmp_path / "nbd.sock") as client:
            for _ in range(3):
                client.read(0, 4096)
            client.read(SIZE, 512)
            client.ask(WRITE, 8192, payload=random.Random(1).randbytes(512))
            client.answer()
            client.ask(FLUSH)
            client.answer()
            client.ask(DISC)
            assert client.socket.recv(1) == b""
        server.wait()
        lines = server.log
    yield lines


def test_verbose_tells_of_every_request_and_of_every_client(dialogue: list[str]) -> None:
    text = "\n".join(dialogue)
    peer = re.escape(f"pid {os.getpid()}.") + r"\d+"
    assert re.search(f"^vhdx: {peer}: connected to ''$", text, re.MULTILINE)
    assert len(re.findall(f"^vhdx: {peer}: read 4096 at 0$", text, re.MULTILINE)) == 3
    assert re.search(f"^vhdx: {peer}: write 512 at 8192$", text, re.MULTILINE)
    assert re.search(f"^vhdx: {peer}: flush 0 at 0$", text, re.MULTILINE)
    assert re.search(f"^vhdx: {peer}: left$", text, re.MULTILINE)


def test_statistics_count_what_was_asked_for(dialogue: list[str]) -> None:
    figures = {
        name: (int(requests), int(length))
        for name, requests, length in re.findall(
            r"^vhdx: ([a-z-]+): (\d+) requests, (\d+) bytes; microseconds: p50 \d+, p90 \d+, p99 \d+, p100 \d+$",
            "\n".join(dialogue),
            re.MULTILINE,
        )
    }
    assert figures["write"] == (1, 512)
    assert figures["flush"] == (1, 0)
    assert figures["read"][0] == 4


def test_log_is_one_line_for_each_client(image: Path, tmp_path: Path) -> None:
    with serving(tmp_path, image, persistent=False) as server:
        run(need("nbdcopy", "libnbd-bin"), "--connections=1", server.uri, "null:")
        server.wait()
        assert [re.sub(r"pid [0-9.]+", "CLIENT", line) for line in server.log] == [
            "vhdx: CLIENT: connected to ''"
        ]


def test_pid_file_that_cannot_be_written_stops_the_start(image: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent" / "pid"
    done = subprocess.run(
        serve_command("--socket", tmp_path / "nbd.sock", "--pid-file", absent, image),
        capture_output=True,
        text=True,
        check=False,
        timeout=STOP_SECONDS,
        env=environment(),
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert str(absent) in line
    assert not (tmp_path / "nbd.sock").exists()
    assert run_vhdx("check", image)
