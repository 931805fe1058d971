"""The examples in docs/testing.md are test modules, and all their tests pass."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vhdx

PAGE = Path(__file__).parents[1] / "docs" / "testing.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run_tests(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Run a test module by itself, as somebody else's project would."""
    module = folder / "test_example.py"
    module.write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(module)]
    environment = os.environ | {"PYTHONPATH": str(Path(vhdx.__file__).parents[1])}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def test_every_room_of_the_kit_has_an_example() -> None:
    rooms = re.findall(r"^\| `(vhdx\.testing\.\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rooms) == len(EXAMPLES)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_passes_as_it_stands(number: int, tmp_path: Path) -> None:
    done = run_tests(tmp_path, EXAMPLES[number])
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE)
    assert "skipped" not in done.stdout


def test_example_that_fails_is_noticed(tmp_path: Path) -> None:
    assert run_tests(tmp_path, "def test_wrong():\n    assert False\n").returncode == 1
