"""How much work a call is, whatever the machine: lines of the library that it runs."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import vhdx

_LIBRARY = str(Path(vhdx.__file__).parent)


def lines_run(action: Callable[[], object]) -> int:
    """Count the lines of the library that this thread runs in a call, repeated ones as often as they run."""
    count = 0

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        return on_line if frame.f_code.co_filename.startswith(_LIBRARY) else None

    def on_line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return on_line

    former = sys.gettrace()
    sys.settrace(enter)
    try:
        action()
    finally:
        sys.settrace(former)
    return count
