"""Running other programs in tests; a missing one skips the test and names the package that has it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

GUARD_SECONDS = 300
"""A program that takes longer hangs."""


def need(program: str, package: str) -> str:
    """Path of a program; skips the test where it is absent."""
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    found = shutil.which(program, path=places)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian: {package})")
    return found


def run(*command: str | Path) -> str:
    """Run a program that must succeed; return what it printed."""
    done = attempt(*command)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def attempt(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program that may fail."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=GUARD_SECONDS
    )
