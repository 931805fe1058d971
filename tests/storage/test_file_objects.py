"""File objects without a descriptor of their own."""

import gzip
import io
import tempfile
from pathlib import Path

import pytest

from vhdx.storage.base import pread
from vhdx.storage.file import FileStore
from vhdx.storage.fileobj import FileObjectStore, store_of


def test_bytes_io_is_read_and_written() -> None:
    file_object = io.BytesIO(b"0123456789")
    store = store_of(file_object)
    assert isinstance(store, FileObjectStore)
    assert (store.name, store.writable, store.fileno()) == ("file object", True, None)
    store.pwrite(b"ab", 8)
    store.close()
    assert file_object.getvalue() == b"01234567ab"


def test_object_stays_open_when_its_store_is_closed() -> None:
    file_object = io.BytesIO(b"kept")
    store_of(file_object).close()
    assert file_object.read() == b"kept"


def test_gzip_file_gives_what_it_holds_and_not_its_compressed_bytes(tmp_path: Path) -> None:
    path = tmp_path / "image.gz"
    path.write_bytes(gzip.compress(b"content" * 1000))
    with gzip.open(path) as file_object:
        store = store_of(file_object)  # type: ignore[arg-type]
        assert pread(store, 14, 6993) == b"content"
        assert not getattr(store, "writable")  # noqa: B009
        store.close()


def test_temporary_file_has_a_descriptor_and_a_spooled_one_need_not(tmp_path: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=tmp_path) as named, tempfile.SpooledTemporaryFile() as spooled:
        named.write(b"abc")
        spooled.write(b"abc")
        for file_object, kind in ((named, FileStore), (spooled, FileObjectStore)):
            store = store_of(file_object)
            assert isinstance(store, kind)
            assert pread(store, 5, 0) == b"abc"
            store.close()


class _Reluctant(io.RawIOBase):
    """Gives at most three bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self._inner = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._inner.seek(offset, whence)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._inner.readinto(buffer[:3])


def test_short_reads_are_continued() -> None:
    store = FileObjectStore(_Reluctant(b"0123456789"))  # type: ignore[arg-type]
    assert pread(store, 100, 1) == b"123456789"
    with pytest.raises(io.UnsupportedOperation):
        store.pwrite(b"x", 0)


class _OnlyRead:
    """Has read and seek, and nothing else."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer

    def seek(self, offset: int, whence: int = 0) -> int:
        return 3 if whence == 2 else offset

    def read(self, length: int) -> bytes | None:
        return self._answer


def test_object_that_only_reads_and_seeks_is_enough() -> None:
    assert pread(FileObjectStore(_OnlyRead(b"abc")), 3, 0) == b"abc"  # type: ignore[arg-type]


def test_object_that_does_not_wait_is_an_error() -> None:
    with pytest.raises(BlockingIOError):
        pread(FileObjectStore(_OnlyRead(None)), 3, 0)  # type: ignore[arg-type]


def test_text_object_is_refused() -> None:
    with pytest.raises(TypeError, match="binary"):
        store_of(io.StringIO())  # type: ignore[arg-type]
