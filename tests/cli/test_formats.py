"""A format is a row in a list: with it, every command opens disks that have it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import Vhdx
from support.units import MIB
from vhdx.blockdev.device import Ability, Limits
from vhdx.blockdev.span import Span, SpanKind
from vhdx.disks.formats import FORMATS, Format
from vhdx.disks.layered_device import LayeredDevice
from vhdx.disks.options import OpenOptions
from vhdx.findings import Finding
from vhdx.ops.snapshot import open_snapshot
from vhdx.storage.base import ByteStore

FOOTER_LENGTH = 512


class FixedVhd(LayeredDevice):
    """What a format has to supply to be read: a layer. A fixed VHD is a raw disk with a footer behind it."""

    findings: list[Finding] = []  # noqa: RUF012 - an image without any

    def __init__(self, store: ByteStore) -> None:
        self._store = store
        super().__init__((self,))

    @property
    def name(self) -> str:
        return self._store.name

    @property
    def size(self) -> int:
        return self._store.size() - FOOTER_LENGTH

    @property
    def store(self) -> ByteStore:
        return self._store

    @property
    def limits(self) -> Limits:
        return Limits(512, 512, 512, ranges=Ability.NATIVE, block_status=Ability.NATIVE)

    def spans(self, offset: int, length: int) -> Iterator[Span]:
        yield Span(SpanKind.DATA, offset, length, offset)

    def plain_file_offset(self, offset: int, length: int) -> int:
        return offset

    def _close_layers(self) -> None:
        self._store.close()


def open_fixed(store: ByteStore, options: OpenOptions) -> LayeredDevice:
    assert not options.writable
    return FixedVhd(store)


@pytest.fixture
def vhd(tmp_path: Path) -> Path:
    path = tmp_path / "disk.vhd"
    path.write_bytes(b"d" * MIB + b"conectix".ljust(FOOTER_LENGTH, b"\0"))
    return path


@pytest.fixture
def with_vhd(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Format("vhd", (".vhd",), open_fixed, can_be_made=False)  # type: ignore[arg-type]
    monkeypatch.setitem(FORMATS, "vhd", row)


def test_format_that_is_known_but_not_opened_is_named(vhdx: Vhdx, vhd: Path) -> None:
    outcome = vhdx("map", vhd)
    assert outcome.code == 1
    assert "not a VHDX but a VHD (version 1) image" in outcome.err


@pytest.mark.usefixtures("with_vhd")
def test_with_a_row_more_every_command_opens_disks_of_a_further_format(vhdx: Vhdx, vhd: Path) -> None:
    raw = vhd.with_suffix(".raw")
    assert vhdx("convert", vhd, raw).code == 0
    assert raw.read_bytes() == b"d" * MIB
    assert vhdx("compare", "-f", "vhd", "-F", "raw", vhd, raw).code == 0
    assert str(vhd) in vhdx("map", vhd).out
    assert vhdx("measure", "-O", "raw", vhd).code == 0
    assert vhdx("convert", vhd, raw.with_suffix(".vhdx")).code == 0


@pytest.mark.usefixtures("with_vhd")
def test_what_is_only_read_is_not_offered_for_making(vhdx: Vhdx, vhd: Path) -> None:
    assert vhdx("convert", "-f", "vhd", vhd, vhd.with_name("copy.vhd")).code == 1
    assert vhdx("convert", vhd, vhd.with_name("copy"), "-O", "vhd").code == 1


def test_snapshot_takes_a_disk_of_any_format(vhd: Path) -> None:
    from vhdx.storage.file import FileStore

    with open_snapshot(FixedVhd(FileStore.open(vhd))) as disk:
        disk.pwrite(b"new", 1)
        assert disk.pread(5, 0) == b"dnewd"
        assert [layer.name for layer in disk.layers][1:] == [str(vhd)]
