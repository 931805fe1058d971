"""The names under which `vhdx serve` offers images; every wrong one ends the command with one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command import Vhdx


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("n" * 4097, "the export's name has 4097 bytes, at most 4096 are allowed"),
        ("\udcff", "cannot be written as UTF-8"),
    ],
    ids=["long", "bytes"],
)
def test_name_that_clients_cannot_be_told_is_refused(
    vhdx: Vhdx, image: Path, name: str, complaint: str
) -> None:
    for arguments in (("--export", name, image), (f"{name}={image}",)):
        outcome = vhdx("serve", *arguments)
        assert outcome.code == 1
        assert complaint in outcome.error_line


def test_two_exports_of_one_name_are_refused(vhdx: Vhdx, image: Path) -> None:
    outcome = vhdx("serve", image, image)
    assert outcome.code == 1
    assert "two exports are called ''" in outcome.error_line


def test_option_names_one_export_only(vhdx: Vhdx, image: Path) -> None:
    outcome = vhdx("serve", "--export", "a", image, f"b={image}")
    assert outcome.code == 1
    assert "--export names one export" in outcome.error_line
