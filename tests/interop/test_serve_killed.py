"""A killed server loses nothing that a flush of any of its clients covered, and QEMU replays what it left."""

from pathlib import Path

import pytest

from proof.crash.killing import kill_rounds
from proof.crash.killing_server import serve_and_kill
from support.programs import need

pytestmark = pytest.mark.interop

ROUNDS = 8
"""proof/crash/kill_server.py does more of them."""


def test_killed_server_loses_nothing_that_any_client_had_flushed(tmp_path: Path) -> None:
    need("qemu-img", "qemu-utils")
    dirty = kill_rounds(tmp_path, ROUNDS, seed=7, attack=serve_and_kill)
    assert dirty > ROUNDS // 2, "the server was hardly ever killed while its log was in use"
