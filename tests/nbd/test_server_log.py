"""The server's log and its figures."""

from __future__ import annotations

import random

import pytest

from vhdx.nbd.protocol.transmission import Request
from vhdx.nbd.server_log import Latencies, ServerLog


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_right_to_an_eighth(seed: int) -> None:
    rng = random.Random(seed)
    times = [int(rng.lognormvariate(6, 2)) for _ in range(2000)]
    latencies = Latencies()
    for time_us in times:
        latencies.add(4096, time_us)
    times.sort()
    for percent in (50, 90, 99, 100):
        exact = times[max(0, -(-len(times) * percent // 100) - 1)]
        assert exact <= latencies.percentile(percent) <= exact * 9 / 8
    assert latencies.count == 2000
    assert latencies.bytes == 2000 * 4096


def test_server_without_requests_has_no_figures_to_log() -> None:
    assert Latencies().percentile(99) == 0
    assert list(ServerLog(print).statistics()) == []


def test_a_request_is_logged_only_when_asked_for() -> None:
    lines: list[str] = []
    request = Request(0, 0, 1, 8192, 4096, 0)
    ServerLog(lines.append).served("client", [request], 0.0)
    assert lines == []
    ServerLog(lines.append, verbose=True).served(
        "client", [request, request._replace(command=6, flags=2)], 0.0
    )
    assert lines == ["client: read 4096 at 8192", "client: write-zeroes 4096 at 8192 flags 0x2"]


def test_statistics_have_a_line_for_each_command() -> None:
    server_log = ServerLog(print, statistics=True)
    server_log.served("client", [Request(0, 0, 1, 0, 512, 0)] * 3, 0.0)
    server_log.served("client", [Request(99, 0, 1, 0, 0, 0)], 0.0)
    first, second = server_log.statistics()
    assert first.startswith("read: 3 requests, 1536 bytes; microseconds: p50 ")
    assert second.startswith("command 99: 1 requests, 0 bytes")
