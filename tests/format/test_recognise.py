"""What a file is, from its first and last bytes."""

import pytest

from vhdx.format.recognise import PROBE_SIZE, recognise

FOOTER = b"conectix".ljust(PROBE_SIZE, b"\0")


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"vhdxfile", "vhdx"),
        (b"QFI\xfb\0\0\0\3", "qcow2"),
        (b"KDMV", "vmdk"),
        (b"# Disk DescriptorFile\n", "vmdk"),
        (b"<<< Oracle VM VirtualBox".ljust(64, b"\0") + b"\x7f\x10\xda\xbe", "vdi"),
        (FOOTER, "vhd"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"EVF\x09\x0d\x0a\xff\0", "ewf"),
    ],
)
def test_signature_at_the_beginning_tells_the_format(start: bytes, name: str) -> None:
    assert recognise(start.ljust(PROBE_SIZE, b"\0")).name == name


@pytest.mark.parametrize("end", [FOOTER, b"x" + FOOTER[:-1]], ids=["512 bytes", "511 bytes"])
def test_footer_alone_tells_a_fixed_vhd(end: bytes) -> None:
    assert recognise(bytes(PROBE_SIZE), end).name == "vhd"


def test_vhdx_stays_one_whatever_stands_at_its_end() -> None:
    assert recognise(b"vhdxfile", FOOTER).name == "vhdx"


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"", "an empty file"),
        (bytes(PROBE_SIZE), "begins with zeroes"),
        (b"\xeb".ljust(510, b"\0") + b"\x55\xaa", "boot signature"),
        (b"hello", "no known disk image"),
        (b"vhdxfil", "no known disk image"),
    ],
)
def test_what_shows_no_format_may_be_a_raw_disk(start: bytes, words: str) -> None:
    kind = recognise(start, start)
    assert kind.name is None
    assert words in str(kind)
