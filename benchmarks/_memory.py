"""Peak memory of one run of a command."""

import os
from collections.abc import Sequence


def peak_mib(command: Sequence[str]) -> float:
    """Run a command with its output thrown away; return its largest resident size in MiB."""
    child = os.fork()
    if child == 0:  # pragma: no cover - replaced by the command
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.execvp(command[0], list(command))
    _, status, usage = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / 1024
