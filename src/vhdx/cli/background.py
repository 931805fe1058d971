"""Going on in the background, once it is certain that the work succeeds."""

from __future__ import annotations

import io
import os
import sys
from typing import Final

from vhdx.cli.options import UsageError

_READY: Final = b"+"


class Background:
    """The process that goes on in the background. The command waits until this process is ready, or has ended."""

    def __init__(self, ready_fd: int) -> None:
        self._ready_fd = ready_fd

    def ready(self) -> None:
        """Let the command end with success, and give up the terminal: errors go to the system's log from now on."""
        sys.stdout.flush()
        sys.stderr.flush()
        os.chdir("/")
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        os.close(nowhere)
        sys.stderr = _SystemLog()
        os.write(self._ready_fd, _READY)
        os.close(self._ready_fd)


class _SystemLog(io.TextIOBase):
    """A text stream of which every line becomes an entry of the system's log."""

    def write(self, text: str) -> int:
        """Log what is written."""
        import syslog

        for line in text.splitlines():
            if line:
                syslog.syslog(syslog.LOG_WARNING | syslog.LOG_DAEMON, line)
        return len(text)


def fork_to_background() -> Background | int:
    """Fork. Returns a Background in the new process, and in the old one the exit code to end with.

    The old process waits until the new one is ready (then the code is 0), or has ended before that (then it is the
    code of the new one). Until then the user sees what the new process writes to stderr. To be called before there
    are threads. Raises: UsageError where processes cannot fork.
    """
    if not hasattr(os, "fork"):
        raise UsageError("this system has no background processes: use --foreground")
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        os.close(reader)
        os.setsid()
        return Background(writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as status:
        if status.read(1) == _READY:
            return 0
    _, result = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(result)
