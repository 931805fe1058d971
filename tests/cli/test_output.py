"""Text for people: escaping and sizes."""

import errno
import io
import json
from collections.abc import Iterator

import pytest

from vhdx.cli.output import describe_os_error, escape, print_json_list, short_size, size_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("disk.vhdx", "disk.vhdx"),
        ("Größe 日本", "Größe 日本"),
        (".\\parent.vhdx", ".\\parent.vhdx"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("\udcff", "\\xff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_characters_that_show_nothing_are_escaped(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1024 KiB"),
        (64 << 40, "64 TiB"),
        (1 << 63, "8 EiB"),
        (1 << 80, "1048576 EiB"),
    ],
)
def test_sizes_are_rounded_to_a_tenth(size: int, text: str) -> None:
    assert short_size(size) == text


def test_long_sizes_are_given_in_bytes_too() -> None:
    assert size_text(1 << 30) == "1 GiB (1073741824 bytes)"
    assert size_text(512) == "512 bytes"


@pytest.mark.parametrize("items", [[], [1], [{"start": 0}, {"start": 1}]])
def test_printed_list_is_json(items: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    print_json_list(items)
    assert json.loads(capsys.readouterr().out) == items


def test_list_is_printed_while_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)

    def items() -> Iterator[int]:
        for number in range(3):
            assert out.getvalue().count("\n") == max(0, number - 1)
            yield number

    print_json_list(items())


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "a"),
            "a: Permission denied; check its permissions",
        ),
        (OSError(errno.ENOSPC, "No space left", b"\xff"), "\udcff: No space left; free some space"),
        (OSError("odd"), "odd"),
        (OSError(), "OSError"),
    ],
)
def test_error_of_the_system_names_file_reason_and_way_out(error: OSError, text: str) -> None:
    assert describe_os_error(error).startswith(text)
