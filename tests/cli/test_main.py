"""The command as a whole: verbs, versions, exit codes, start-up."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from support.command import Argument, Vhdx
from vhdx.cli import main as cli_main
from vhdx.cli.main import COMMANDS

HEAVY = [
    *("numpy", "fsspec", "rich", "asyncio", "logging", "hypothesis", "ctypes", "json", "socket", "shutil"),
    *("multiprocessing", "importlib.metadata", "concurrent.futures", "mfusepy", "vhdx.fuse"),
]


def test_version_is_that_of_the_package(vhdx: Vhdx) -> None:
    assert vhdx("--version") == (0, f"vhdx {metadata.version('vhdx')}\n", "")


def test_help_names_every_command(vhdx: Vhdx) -> None:
    code, out, err = vhdx("--help")
    assert (code, err) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^    {name} ", out, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(vhdx: Vhdx, command: str) -> None:
    code, out, err = vhdx(command, "--help")
    assert (code, err) == (0, "")
    assert f"usage: vhdx {command}" in out


@pytest.mark.parametrize("arguments", [("explode",), ("info",), ("info", "--explode", "x"), ("--explode",)])
def test_bad_command_line_is_one_line_and_exit_code_1(vhdx: Vhdx, arguments: tuple[str, ...]) -> None:
    outcome = vhdx(*arguments)
    assert outcome.code == 1
    assert "--help" in outcome.error_line
    assert outcome.out == ""


def test_options_cannot_be_abbreviated(vhdx: Vhdx, image: Path) -> None:
    assert vhdx("info", "--js", image).code == 1


def test_bad_comparison_has_exit_code_2_because_1_means_different(vhdx: Vhdx) -> None:
    assert vhdx("compare", "a").code == 2


def test_interrupt_is_one_line_and_exit_code_130(
    vhdx: Vhdx, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vhdx.cli.commands.info.image_info", interrupted)
    outcome = vhdx("info", image)
    assert (outcome.code, outcome.error_line) == (130, "vhdx: interrupted")


def test_info_imports_nothing_heavy(image: Path) -> None:
    script = (
        "import sys; from vhdx.cli.main import main;"
        " code = main(['info', sys.argv[1]]);"
        f" print(code, [name for name in {HEAVY!r} if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, image], check=True, capture_output=True, encoding="utf-8"
    )
    assert run.stdout.splitlines()[-1] == "0 []"


def test_a_command_imports_no_other_command(image: Path) -> None:
    script = (
        "import sys; from vhdx.cli.main import COMMANDS, main; main(['info', sys.argv[1]]);"
        " print([name for name in COMMANDS if f'vhdx.cli.commands.{name}' in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, image], check=True, capture_output=True, encoding="utf-8"
    )
    assert run.stdout.splitlines()[-1] == "['info']"


def test_module_and_console_script_are_the_same_command(vhdx_process: Vhdx) -> None:
    assert vhdx_process("--version").code == 0
    (script,) = metadata.entry_points(group="console_scripts", name="vhdx")
    assert script.load() is cli_main.entry_point


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, many_extents: Path) -> None:
    command: list[Argument] = [sys.executable, "-m", "vhdx", "map", many_extents]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_full_disk_under_stdout_is_one_line(image: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with full.open("wb") as out:
        run = subprocess.run(
            [sys.executable, "-m", "vhdx", "info", image], check=False, stdout=out, stderr=subprocess.PIPE
        )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert b"No space left on device" in line


@pytest.mark.parametrize(
    "verb", [["info"], ["check"], ["map", "--json"], ["dump", "--json"], ["check", "--json"]]
)
def test_closed_stdout_is_one_line_and_exit_code_1(image: Path, verb: list[str]) -> None:
    run = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -m vhdx "$@" >&-', sys.executable, *verb, image],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert "standard output is closed" in line


def test_complaints_never_land_among_the_output(image: Path) -> None:
    run = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -m vhdx check --json "$1" 2>&-', sys.executable, f"{image}.none"],
        check=False,
        stdout=subprocess.PIPE,
    )
    assert run.returncode == 1
    assert b"vhdx:" not in run.stdout


def test_closed_streams_are_not_given_to_an_image(image: Path) -> None:
    run = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -m vhdx info "$1" <&- 2>&-', sys.executable, image],
        check=False,
        stdout=subprocess.PIPE,
    )
    assert run.returncode == 0
    assert b"virtual size" in run.stdout.lower()


def test_without_a_command_the_help_is_shown(vhdx: Vhdx) -> None:
    code, out, _ = vhdx()
    assert code == 0
    assert out == vhdx("--help").out


def test_version_has_a_short_option_and_a_full_disk_is_told(vhdx: Vhdx) -> None:
    assert vhdx("-V") == vhdx("--version")
    if Path("/dev/full").exists():
        with Path("/dev/full").open("wb") as out:
            run = subprocess.run(
                [sys.executable, "-m", "vhdx", "--version"], check=False, stdout=out, stderr=subprocess.PIPE
            )
        assert run.returncode == 1
        assert b"No space left" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(("inof", "x"), "'info'"), (("unmuont", "x"), "'unmount'"), (("info", "--jsn", "x"), "'--json'")],
)
def test_what_was_meant_is_asked(vhdx: Vhdx, arguments: tuple[str, ...], meant: str) -> None:
    outcome = vhdx(*arguments)
    assert outcome.code == 1
    assert f"did you mean {meant}?" in outcome.error_line


def test_options_may_stand_between_file_names(vhdx: Vhdx, tmp_path: Path) -> None:
    assert vhdx("create", tmp_path / "a.vhdx", "--block-size", "1M", "64M").code == 0
    assert vhdx("create", "--fixed", tmp_path / "b.vhdx", "--block-size", "1M", "4M").code == 0
    assert vhdx("compare", tmp_path / "a.vhdx", "-p", tmp_path / "a.vhdx").code == 0
