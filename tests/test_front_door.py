"""The package's front door: what is promised is there, and nothing is loaded before it is used."""

import subprocess
import sys

import vhdx


def test_every_promised_name_is_there_and_comes_from_its_room() -> None:
    for name in vhdx.__all__:
        assert getattr(vhdx, name) is not None
        assert name in dir(vhdx)
    assert vhdx.open.__module__ == "vhdx.disks.chain"


def test_star_import_gives_exactly_what_is_promised() -> None:
    names: dict[str, object] = {}
    exec("from vhdx import *", names)
    assert set(vhdx.__all__) == names.keys() - {"__builtins__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(vhdx, "no_such_name")


def test_importing_the_package_loads_none_of_its_rooms() -> None:
    program = "import sys, vhdx; print([name for name in sys.modules if name.startswith('vhdx.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
