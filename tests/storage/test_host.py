"""Abilities, chosen once."""

import os
import subprocess
import sys

import pytest

from vhdx import _host

_TELL = """
from vhdx import _host
print(*sorted(name for name in dir(_host) if name.startswith("HAVE_") and getattr(_host, name)))
"""

_LOADED = """
import sys
import vhdx.storage.file, vhdx.storage.overlay, vhdx.storage.memory, vhdx.storage.copy, vhdx.storage.new_file
print(*sorted(sys.modules))
"""


def _run(script: str, **variables: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "VHDX_PORTABLE"}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), **variables}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def test_portable_mode_switches_everything_off() -> None:
    assert _run(_TELL, VHDX_PORTABLE="1") == []


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has them all")
@pytest.mark.parametrize("value", ["", "0"])
def test_linux_has_everything(value: str) -> None:
    expected = sorted(name for name in dir(_host) if name.startswith("HAVE_"))
    assert _run(_TELL, VHDX_PORTABLE=value) == expected


def test_importing_the_stores_loads_nothing_slow() -> None:
    slow = {"ctypes", "numpy", "asyncio", "logging", "subprocess", "tempfile", "socket"}
    assert slow.isdisjoint(_run(_LOADED))
