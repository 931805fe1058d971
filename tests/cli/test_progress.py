"""The progress line."""

import io
from typing import ClassVar

import pytest

from vhdx.cli.progress import ProgressLine, progress_text


class Clock:
    """Time as the tests want it."""

    now: ClassVar[float] = 0.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    Clock.now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: Clock.now)
    return Clock


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def make_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal. Not a fixture: pytest sets stderr anew when a test begins."""
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    return stream


def test_line_tells_share_rate_and_time_left() -> None:
    text = progress_text(1 << 30, 4 << 30, 10.0)
    assert text == " 25.0 %  1 GiB of 4 GiB  102.4 MiB/s  0:30 left"


def test_time_left_of_more_than_an_hour_is_shown_in_hours() -> None:
    assert progress_text(1, 3601, 1.0).endswith("1:00:00 left")


def test_operation_of_zero_bytes_is_shown_as_done() -> None:
    assert progress_text(0, 0, 1.0) == "100.0 %  0 bytes of 0 bytes"


def test_short_operation_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = make_terminal(monkeypatch)
    with ProgressLine() as progress:
        Clock.now = 0.1
        progress(1, 1)
    assert terminal.getvalue() == ""


def test_line_on_a_terminal_is_overwritten_and_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = make_terminal(monkeypatch)
    with ProgressLine() as progress:
        for second in (1, 2):
            Clock.now = second
            progress(second, 4)
    first, second_line, blank, end = terminal.getvalue().split("\r")[1:]
    assert "25.0 %" in first
    assert "50.0 %" in second_line
    assert blank.strip() == ""
    assert end == ""
    assert "\n" not in terminal.getvalue()


def test_no_escape_sequences_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = make_terminal(monkeypatch)
    with ProgressLine(always=True) as progress:
        for second in range(10):
            Clock.now = second
            progress(second, 9)
    assert "\x1b" not in terminal.getvalue()


def test_line_is_not_shown_where_there_is_no_terminal_unless_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for always in (False, True):
        with ProgressLine(always=always) as progress:
            for step in range(101):
                Clock.now += 1
                progress(step, 100)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == (11 if always else 0)


def test_watcher_that_goes_away_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Terminal):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Broken())
    with ProgressLine() as progress:
        Clock.now = 10.0
        progress(1, 2)
        progress(2, 2)
