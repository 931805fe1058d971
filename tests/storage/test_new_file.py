"""New files that appear complete or not at all."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from vhdx.errors import ImageLockedError
from vhdx.storage import durable, libc
from vhdx.storage.file import FileStore
from vhdx.storage.new_file import NewFile


def _names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def _unsupported(code: int = errno.EOPNOTSUPP) -> Any:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def test_file_appears_only_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "new.vhdx"
    with NewFile(path) as new:
        new.store.pwrite(b"content", 0)
        assert not path.exists()
        (name,) = _names(tmp_path)
        assert name.startswith(".new.vhdx.")
        assert name.endswith(".partial")
        assert name == Path(new.temporary_path).name
        was_complete = new.is_complete
    assert (was_complete, new.is_complete) == (False, True)
    assert path.read_bytes() == b"content"
    assert _names(tmp_path) == ["new.vhdx"]
    with pytest.raises(ValueError, match="closed"):
        new.store.size()


def test_relative_name_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with NewFile("new") as new:
        new.store.pwrite(b"x", 0)
    assert _names(tmp_path) == ["new"]


def test_mode_honours_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        with NewFile(tmp_path / "new"):
            pass
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, OSError])
def test_any_exception_removes_the_temporary_and_leaves_the_name_alone(
    tmp_path: Path, error: type[BaseException], overwrite: bool
) -> None:
    path = tmp_path / "new"
    if overwrite:
        path.write_bytes(b"old")
    with pytest.raises(error), NewFile(path, overwrite=overwrite) as new:
        new.store.pwrite(b"half", 0)
        raise error
    assert _names(tmp_path) == (["new"] if overwrite else [])
    if overwrite:
        assert path.read_bytes() == b"old"


def test_existing_file_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError) as caught, NewFile(path):
        pytest.fail("the block was entered")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["old"]


def test_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to("nowhere")
    with pytest.raises(FileExistsError), NewFile(path):
        pass
    assert _names(tmp_path) == ["link"]


@pytest.mark.parametrize("way", ["link", "rename", "portable"])
def test_lost_race_for_the_name_leaves_the_winner_s_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way != "link":
        monkeypatch.setattr(os, "link", _unsupported())
    if way == "portable":
        monkeypatch.setattr(libc, "rename_noreplace", _unsupported())
    path = tmp_path / "new"
    with pytest.raises(FileExistsError), NewFile(path) as new:
        new.store.pwrite(b"mine", 0)
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert _names(tmp_path) == ["new"]
    assert not new.is_complete


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_file_system_without_hard_links_still_gets_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "link", _unsupported(code))
    for name in ("one", "two"):
        with NewFile(tmp_path / name) as new:
            new.store.pwrite(b"x", 0)
        monkeypatch.setattr(libc, "rename_noreplace", _unsupported(errno.EINVAL))
    assert _names(tmp_path) == ["one", "two"]


def test_overwriting_keeps_the_old_content_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with NewFile(path, overwrite=True) as new:
        new.store.pwrite(b"new", 0)
        new.store.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert _names(tmp_path) == ["file"]


def test_overwriting_what_is_not_there_makes_it(tmp_path: Path) -> None:
    with NewFile(tmp_path / "file", overwrite=True):
        pass
    assert _names(tmp_path) == ["file"]


def test_overwriting_through_a_link_replaces_its_target(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with NewFile(link, overwrite=True) as new:
        new.store.pwrite(b"new", 0)
        assert len(_names(tmp_path / "far")) == 2  # the temporary lies on the target's file system
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_only_a_regular_file_is_overwritten(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    for name in ("fifo", "directory"):
        with pytest.raises(OSError, match="is a"), NewFile(tmp_path / name, overwrite=True):
            pass
    assert _names(tmp_path) == ["directory", "fifo"]


def test_content_is_flushed_before_the_rename_and_the_directory_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, events = tmp_path / "new", list[tuple[str, bool]]()
    real_data, real_directory = durable.sync_data, os.fsync

    def sync_data(fd: int) -> None:
        events.append(("data", path.exists()))
        assert os.fstat(fd).st_ino == Path(new.temporary_path).stat().st_ino
        real_data(fd)

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            events.append(("directory", path.exists()))
        real_directory(fd)

    with NewFile(path) as new:
        new.store.pwrite(b"x", 0)
        monkeypatch.setattr(durable, "sync_data", sync_data)
        monkeypatch.setattr(os, "fsync", fsync)
    assert events == [("data", False), ("directory", True)]


def test_failed_flush_makes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="Input/output"), NewFile(tmp_path / "new"):
        monkeypatch.setattr(durable, "sync_data", _unsupported(errno.EIO))
    assert _names(tmp_path) == []


def test_store_may_be_closed_before_the_block_ends(tmp_path: Path) -> None:
    with NewFile(tmp_path / "new") as new:
        new.store.pwrite(b"x", 0)
        new.store.close()
    assert (tmp_path / "new").read_bytes() == b"x"


def test_temporary_is_locked_and_the_finished_file_is_not(tmp_path: Path) -> None:
    with NewFile(tmp_path / "new") as new, pytest.raises(ImageLockedError):
        FileStore.open(new.temporary_path)
    FileStore.open(tmp_path / "new", writable=True).close()


def test_failed_entry_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vhdx.storage.locking.lock_file", _unsupported(errno.EIO))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Input/output"), NewFile(tmp_path / "new"):
        pass
    assert _names(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with NewFile(tmp_path / "good"):
        pass
    with pytest.raises(RuntimeError), NewFile(tmp_path / "bad"):
        raise RuntimeError
    assert len(os.listdir("/proc/self/fd")) == before


def test_taken_temporary_names_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".new.000000.partial").write_bytes(b"another's")
    names = iter([b"\0\0\0", b"\0\0\0", b"\0\0\1"])
    monkeypatch.setattr(os, "urandom", lambda _: next(names))
    with NewFile(tmp_path / "new") as new:
        assert new.temporary_path.endswith(".new.000001.partial")
    assert (tmp_path / ".new.000000.partial").read_bytes() == b"another's"


def test_another_s_temporary_survives_when_no_name_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".new.000000.partial").write_bytes(b"another's")
    monkeypatch.setattr(os, "urandom", bytes)
    with pytest.raises(FileExistsError), NewFile(tmp_path / "new"):
        pass
    assert (tmp_path / ".new.000000.partial").read_bytes() == b"another's"


@pytest.mark.parametrize("letter", ["x", "ä", "語"])
def test_longest_name_has_room_for_its_temporary(tmp_path: Path, letter: str) -> None:
    name = letter * (255 // len(letter.encode()))
    with NewFile(tmp_path / name):
        pass
    assert _names(tmp_path) == [name]


def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), NewFile(tmp_path / "missing" / "new"):
        pass
