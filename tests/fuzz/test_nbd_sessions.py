"""Conversations with the server from seeds; `proof/fuzz/run_sessions.py` holds more of them."""

from __future__ import annotations

import pytest

from proof.fuzz.sessions import SessionError, hold_session
from vhdx.nbd.protocol.transmission import StructuredReplies
from vhdx.nbd.read_replies import read_parts


def test_no_conversation_makes_the_server_fail() -> None:
    outcomes = [hold_session(seed) for seed in range(1500)]
    assert sum(outcome.replies for outcome in outcomes) > 10_000
    ends = {outcome.end for outcome in outcomes}
    assert "left" in ends
    assert any(end.startswith("a request begins with") for end in ends)


def hold_many() -> None:
    for seed in range(0, 400, 2):
        hold_session(seed)


def test_wrong_bytes_in_an_answer_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_one(device, request, replies, offset, length):  # type: ignore[no-untyped-def]
        return read_parts(device, request, replies, offset ^ 1, length)

    monkeypatch.setattr("vhdx.nbd.reads.read_parts", off_by_one)
    with pytest.raises(SessionError):
        hold_many()


def test_a_reply_that_never_ends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StructuredReplies, "done", lambda *_: b"")
    with pytest.raises(SessionError, match="never answered"):
        hold_many()


def test_memory_that_is_kept_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vhdx.nbd.budget.Budget.release", lambda *_: None)
    with pytest.raises(SessionError, match="not given back"):
        hold_many()
