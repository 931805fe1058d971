"""Reading the values of options."""

import argparse

import pytest

from vhdx.cli.options import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("4K", 4096),
        ("4k", 4096),
        ("10M", 10 << 20),
        ("2G", 2 << 30),
        ("64T", 64 << 40),
        ("1P", 1 << 50),
        ("007", 7),
    ],
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["1.5G", "0.5K", "2,5M", "1."])
def test_fractions_are_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"fraction.*smaller unit"):
        parse_size(text)


@pytest.mark.parametrize(
    "text", ["", "G", "-1", "+1", "1GB", "1GiB", "0x10", "1e9", "1_000", " 1", "٣", "²", "1\x1b", "9" * 5000]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_size(text)
