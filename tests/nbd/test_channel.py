"""A channel on a plain socket."""

from __future__ import annotations

import socket

import pytest

from vhdx.nbd.channel import SocketChannel

fcntl = pytest.importorskip("fcntl")
resource = pytest.importorskip("resource")

GUARD_SECONDS = 20.0


def test_client_whose_descriptor_has_a_large_number_is_waited_for() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this process may not have so many descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    try:
        ours, theirs = socket.socketpair()
        with ours, theirs, socket.socket(fileno=fcntl.fcntl(theirs, fcntl.F_DUPFD, 1500)) as high:
            channel = SocketChannel(high, "client")
            assert not channel.wait(0.0)
            ours.sendall(b"x")
            assert channel.wait(GUARD_SECONDS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
