"""Opening what a command reads or writes."""

import errno
from argparse import Namespace
from pathlib import Path

import pytest

import vhdx
from support.units import MIB
from vhdx.cli.options import Parser, UsageError, add_opening, add_parents, add_writing, opening
from vhdx.cli.sources import open_source
from vhdx.disks.options import OpenOptions
from vhdx.disks.raw import RawDevice
from vhdx.storage import locking


def reading(*arguments: str) -> OpenOptions:
    return opening(_parsed(*arguments))


def writing(*arguments: str) -> OpenOptions:
    return opening(_parsed(*arguments), writable=True)


def _parsed(*arguments: str) -> Namespace:
    parser = Parser(prog="test")
    add_opening(parser)
    add_parents(parser)
    add_writing(parser)
    return parser.parse_args(arguments)


def test_image_is_opened_for_writing_and_its_parents_for_reading(chain: list[Path]) -> None:
    with open_source(str(chain[0]), None, writing()) as disk:
        assert isinstance(disk, vhdx.Disk)
        assert [image.writable for image in disk.images] == [True, False, False]
        disk.pwrite(b"written", 0)
    with vhdx.open(chain[0]) as disk:
        assert disk.pread(7, 0) == b"written"


def test_raw_disk_is_opened_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x" * 1000)
    with pytest.raises(UsageError, match="only with -f raw"):
        open_source(str(path), None, writing())
    with open_source(str(path), "raw", writing()) as disk:
        assert isinstance(disk, RawDevice)
        disk.pwrite(b"written", 993)
    assert path.read_bytes() == b"x" * 993 + b"written"


def test_source_is_opened_for_reading_unless_writing_is_asked_for(image: Path) -> None:
    with open_source(str(image), None, reading()) as disk:
        assert not disk.limits.writable


def test_writer_who_minds_no_lock_is_refused(image: Path) -> None:
    with pytest.raises(UsageError, match="--force-share"):
        open_source(str(image), None, writing("--force-share"))


def test_tracked_image_is_written_to_only_if_told_so(image: Path) -> None:
    Path(f"{image}.rct").touch()
    with pytest.raises(vhdx.ImageStateError, match="--ignore-change-tracking"):
        open_source(str(image), None, writing())
    with open_source(str(image), None, writing("--ignore-change-tracking")) as disk:
        disk.pwrite(b"written", 0)


@pytest.mark.parametrize("name", ["disk.vhdx", "disk.raw"])
def test_file_system_without_locks_is_written_to_only_if_told_so(
    image: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = image if image.name == name else image.with_name(name)
    if path is not image:
        path.write_bytes(bytes(MIB))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(locking, "_lock_ofd", refuse)
    monkeypatch.setattr(locking, "_lock_whole", refuse)
    with pytest.raises(vhdx.ImageLockedError, match="--no-lock"):
        open_source(str(path), path.suffix[1:], writing())
    with open_source(str(path), path.suffix[1:], writing("--no-lock")) as disk:
        disk.pwrite(b"written", 0)
    assert "not locked" in capsys.readouterr().err
