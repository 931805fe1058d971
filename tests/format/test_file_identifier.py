"""The file type identifier: never fails on the creator, never writes more than its 520 bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhdx.format.file_identifier import IDENTIFIER_SIZE, FileIdentifier


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=128))
def test_creator_reads_back(creator: str) -> None:
    data = FileIdentifier(creator).encode()
    assert len(data) == IDENTIFIER_SIZE
    assert data[:8] == b"vhdxfile"
    assert FileIdentifier.decode(data) == FileIdentifier(creator)


def test_creator_that_is_too_long_is_cut() -> None:
    data = FileIdentifier("x" * 300).encode()
    assert len(data) == IDENTIFIER_SIZE
    assert FileIdentifier.decode(data).creator == "x" * 256


@given(st.binary(min_size=512, max_size=512))
def test_any_bytes_are_some_creator(creator: bytes) -> None:
    assert "\0" not in FileIdentifier.decode(b"vhdxfile" + creator).creator


@pytest.mark.parametrize(
    ("creator", "expected"),
    [
        (b"\x00\xd8a\x00\x00\x00", "\ufffda"),
        (b"a\x00\x00\x00b\x00", "a"),
        (b"\x00\x00", ""),
    ],
)
def test_creator_ends_at_its_first_nul_and_replaces_lone_surrogates(creator: bytes, expected: str) -> None:
    assert FileIdentifier.decode(b"vhdxfile" + creator.ljust(512, b"\0")).creator == expected
