"""How a disk is opened: what is asked for is understood, or refused by name."""

import re
from pathlib import Path
from typing import Any

import pytest

import vhdx
from vhdx.disks.chain import open_chain
from vhdx.disks.image import Image
from vhdx.disks.options import OpenOptions
from vhdx.storage.memory import MemoryStore
from vhdx.storage.source import Owned
from vhdx.testing.hostile import base_image


@pytest.mark.parametrize(
    ("wrong", "allowed"),
    [
        ({"mode": "w"}, "'r' or 'r+'"),
        ({"mode": None}, "'r' or 'r+'"),
        ({"replay": "refused"}, "'auto', 'refuse' or 'ignore'"),
        ({"replay": True}, "'auto', 'refuse' or 'ignore'"),
        ({"parents": "parent.vhdx"}, "'same-dir', 'none', sources"),
        ({"parents": Path("parent.vhdx")}, "'same-dir', 'none', sources"),
        ({"parents": None}, "'same-dir', 'none', sources"),
        ({"mode": "r+", "replay": "ignore"}, "is for reading"),
    ],
)
def test_value_that_is_none_of_those_allowed_is_refused_before_a_file_is_touched(
    wrong: dict[str, Any], allowed: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(allowed)):
        vhdx.open("there is no such file", **wrong)


def test_image_refuses_what_the_disk_refuses() -> None:
    with pytest.raises(ValueError, match="'auto', 'refuse' or 'ignore'"):
        Image.open("there is no such file", replay="never")  # type: ignore[arg-type]


def test_parents_are_opened_for_reading_and_as_strictly_as_the_leaf() -> None:
    options = OpenOptions(
        mode="r+", replay="refuse", strict=True, lock=False, no_lock_ok=True, ignore_change_tracking=True
    )
    assert options.for_parents() == OpenOptions(replay="refuse", strict=True, lock=False)


def test_disk_ends_at_a_missing_parent_if_somebody_wants_to_know_of_it() -> None:
    base = base_image("deep-chain")
    missing: list[vhdx.ChainError] = []
    options = OpenOptions(parents=base.stores[1:2], on_missing_parent=missing.append)
    with open_chain(base.stores[0], options) as disk:
        assert len(disk.images) == 2
        assert not disk.is_complete
    assert [type(error) for error in missing] == [vhdx.ParentNotFoundError]


@pytest.mark.parametrize("content", [b"", bytes(1 << 20)])
def test_store_that_goes_over_is_closed_when_opening_fails(content: bytes) -> None:
    store = MemoryStore(content)
    with pytest.raises(vhdx.NotVhdxError):
        Image.open_with(Owned(store), OpenOptions())
    with pytest.raises(ValueError, match="closed"):
        store.size()
