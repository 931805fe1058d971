"""A line on stderr that tells how far a long operation is, how fast, and how long it will take."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from vhdx.cli.output import short_size

if TYPE_CHECKING:
    from typing import Self

_PATIENCE_SECONDS: Final = 0.5
"""An operation that takes less time than this shows nothing."""
_REFRESH_SECONDS: Final = 0.1
_STEP_PERCENT: Final = 10
"""After how much of the way the next line is printed, where lines cannot be overwritten."""


class ProgressLine:
    """Context manager whose instances are called as `progress(done_bytes, total_bytes)`.

    On a terminal one line is overwritten, and wiped at the end; elsewhere, if `always`, a line is printed for
    every tenth of the way. No colours are used.
    """

    def __init__(self, *, always: bool = False) -> None:
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._always = always
        self._started = self._shown_at = time.monotonic()
        self._width = 0
        self._next_percent = 0

    def __call__(self, done_bytes: int, total_bytes: int, /) -> None:
        """Show where the operation is."""
        now = time.monotonic()
        if self._is_terminal:
            is_due = now - self._shown_at >= _REFRESH_SECONDS
            is_long = self._always or now - self._started >= _PATIENCE_SECONDS
            if is_long and (is_due or done_bytes == total_bytes):
                self._shown_at = now
                self._overwrite(progress_text(done_bytes, total_bytes, now - self._started))
        elif self._always:
            percent = _percent(done_bytes, total_bytes)
            if percent >= self._next_percent:
                self._next_percent = int(percent) // _STEP_PERCENT * _STEP_PERCENT + _STEP_PERCENT
                self._print(progress_text(done_bytes, total_bytes, now - self._started) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Wipe the line, so that something else can be printed; the next call brings it back."""
        if self._width:
            self._overwrite("")
            self._print("\r")

    def _overwrite(self, text: str) -> None:
        # Spaces instead of an escape sequence: they wipe the old line on every terminal.
        self._print("\r" + text.ljust(self._width))
        self._width = len(text)

    def _print(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:  # nobody reads stderr any more: the operation goes on, and shows nothing
            self._is_terminal = self._always = False


def _percent(done: int, total: int) -> float:
    return 100 * done / total if total else 100.0


def progress_text(done_bytes: int, total_bytes: int, seconds: float) -> str:
    """What the line says."""
    text = (
        f"{_percent(done_bytes, total_bytes):5.1f} %  {short_size(done_bytes)} of {short_size(total_bytes)}"
    )
    if seconds <= 0 or not done_bytes:
        return text
    rate = done_bytes / seconds
    text += f"  {short_size(int(rate))}/s"
    if done_bytes < total_bytes:
        text += f"  {_duration((total_bytes - done_bytes) / rate)} left"
    return text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
