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
        ("512B", 512),
        ("10GB", 10 << 30),
        ("10GiB", 10 << 30),
        ("127gb", 127 << 30),
        ("1.5G", 1536 << 20),
        ("0.5K", 512),
        ("2.25MiB", 2304 << 10),
    ],
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["0.3K", "1.1G", "0.5", "0.0001K"])
def test_a_part_of_a_byte_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"whole number of bytes.*smaller unit"):
        parse_size(text)


@pytest.mark.parametrize("text", ["1,000", "2,5M", "1,024,000", "1,000.5G"])
def test_a_comma_is_refused_for_what_it_is(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="comma"):
        parse_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "G",
        "-1",
        "+1",
        "1.",
        ".5G",
        "1GBB",
        "1iB",
        "1KK",
        "1..5G",
        "0x10",
        "1e9",
        "1_000",
        " 1",
        "٣",
        "²",
        "1\x1b",
        "9" * 5000,
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_size(text)
