"""Find a differencing image's parent, and make sure that it is the one ([MS-VHDX] 2.6.2.6.3).

Every path in a locator was chosen by whoever made the file. So by default a parent is looked for only in the
child's own directory, under the last component of each path, as a regular file that is no symbolic link;
nothing else is opened, nor looked at to see whether it exists. The caller widens that by naming parents, a
root directory, or a function. Whatever is found must have the DataWriteGuid that the child demands.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vhdx import _host
from vhdx._text import quoted
from vhdx.disks.image import Image
from vhdx.disks.options import OpenOptions, ParentFunction, ParentRequest, ParentRoot
from vhdx.errors import (
    ChainError,
    ParentForbiddenError,
    ParentMismatchError,
    ParentNotFoundError,
)
from vhdx.storage.base import path_of
from vhdx.storage.file import FileStore
from vhdx.storage.source import Owned, Source

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class _Search:
    """What a search has met, for the error if it fails."""

    child: Image
    tried: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)

    def accepts(self, image: Image) -> bool:
        """Whether `image` is the parent; it is closed and noted if not."""
        locator = self.child.locator
        assert locator is not None
        if image.header.data_write_guid in locator.linkages:
            return True
        self.mismatches.append(
            f"{image.name} has DataWriteGuid {image.header.data_write_guid},"
            f" expected {' or '.join(sorted(map(str, locator.linkages)))}"
        )
        image.close()
        return False

    def failure(self) -> ChainError:
        """The error that says the most."""
        child = self.child.name
        if self.mismatches:
            return ParentMismatchError(
                f"{child}: the file found is not its parent, or has changed: {'; '.join(self.mismatches)}"
            )
        if self.forbidden:
            outside = "; ".join(self.forbidden)
            return ParentForbiddenError(
                f"{child}: its parent lies where it is not looked for by itself: {outside};"
                " name it with --parent PATH, or allow a directory with --parent-root DIR"
            )
        tried = "; ".join(self.tried) or "no path was given"
        return ParentNotFoundError(
            f"{child}: its parent was not found; tried: {tried}; name it with --parent PATH"
        )


class ParentFinder:
    """Finds the parents of one chain under one policy; a source that the caller named is used once."""

    def __init__(self, options: OpenOptions) -> None:
        policy = options.parents
        self.enabled = policy != "none"
        self._options = options.for_parents()
        self._named: list[Source] = []
        self._function: ParentFunction | None = None
        self._root: Path | None = None
        if isinstance(policy, ParentRoot):
            self._root = Path(policy.directory)
        elif callable(policy):
            self._function = policy
        elif not isinstance(policy, str):
            self._named = list(policy)

    def find(self, child: Image, depth: int) -> Image:
        """Open the parent of a differencing image.

        Raises: ParentNotFoundError, ParentForbiddenError, ParentMismatchError, FormatError, OSError.
        """
        locator = child.locator
        assert locator is not None
        search = _Search(child)
        image = self._from_function(search, depth) if self._function else self._from_named(search)
        if image is None and self._root is not None:
            image = self._from_root(search, self._root)
        if image is None and self._function is None:
            image = self._from_directory(search)
        if image is None:
            raise search.failure()
        if image.logical_sector_size != child.logical_sector_size:
            image.close()
            raise ParentMismatchError(
                f"{child.name}: its logical sector size is {child.logical_sector_size},"
                f" that of its parent {image.name} is {image.logical_sector_size}"
            )
        return image

    def _from_function(self, search: _Search, depth: int) -> Image | None:
        assert self._function is not None
        child = search.child
        assert child.locator is not None
        source = self._function(ParentRequest(child.name, _path_of(child), child.locator, depth))
        if source is None:
            search.tried.append("the caller's function, which gave none")
            return None
        image = Image.open_with(source, self._options)
        return image if search.accepts(image) else None

    def _from_named(self, search: _Search) -> Image | None:
        for source in self._named:
            image = Image.open_with(source, self._options)
            if search.accepts(image):
                self._named.remove(source)
                return image
        return None

    def _from_directory(self, search: _Search) -> Image | None:
        child = search.child
        path = _path_of(child)
        if path is None:
            return None
        assert child.locator is not None
        names: dict[str, None] = {}
        for key, value in child.locator.paths.items():
            components = split_path(value)
            if components and _is_file_name(components[-1]):
                names[components[-1]] = None
            if not _is_plain_relative(key, components):
                search.forbidden.append(f"{key} {quoted(value)}")
        for name in names:
            image = self._open_beside(search, path.parent, name)
            if image is not None and search.accepts(image):
                return image
        return None

    def _open_beside(self, search: _Search, directory: Path, name: str) -> Image | None:
        """Open a regular file of a directory, never through a link."""
        shown = str(directory / name)
        search.tried.append(shown)
        try:
            store = _open_in_directory(directory, name, shown, lock=self._options.lock)
        except (FileNotFoundError, IsADirectoryError, UnicodeEncodeError):
            # Names that Windows allows, such as those with unpaired surrogates, may be none here.
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
            if error.errno == errno.ELOOP:
                search.forbidden.append(f"{shown} (a symbolic link)")
                return None
            if error.errno == errno.EINVAL:
                search.forbidden.append(f"{shown} (no regular file)")
                return None
            raise
        if store.is_block_device:
            store.close()
            search.forbidden.append(f"{shown} (a block device)")
            return None
        store.path = shown  # for the search of its own parent
        return Image.open_with(Owned(store), self._options)

    def _from_root(self, search: _Search, root: Path) -> Image | None:
        real_root = Path(os.path.realpath(root))
        assert search.child.locator is not None
        for value in search.child.locator.paths.values():
            for candidate in _below_root(real_root, _path_of(search.child), split_path(value)):
                search.tried.append(str(candidate))
                try:
                    real = Path(os.path.realpath(candidate))
                    is_inside = real.is_relative_to(real_root) and real.is_file()
                except (OSError, UnicodeEncodeError):  # A name that Windows allows may be none here.
                    continue
                if not is_inside:
                    continue
                image = Image.open_with(real, self._options)
                if search.accepts(image):
                    return image
        return None


def split_path(value: str) -> list[str]:
    """Components of a locator's path, whichever separator it uses; drives and prefixes are components."""
    return [part for part in value.replace("/", "\\").split("\\") if part not in ("", ".")]


def _is_file_name(name: str) -> bool:
    """Whether a component can name a file of the child's directory and nothing else."""
    return name != ".." and "\0" not in name and ":" not in name and name not in ("?", "*")


def _is_plain_relative(key: str, components: list[str]) -> bool:
    return key == "relative_path" and len(components) == 1 and _is_file_name(components[0])


def _below_root(root: Path, child_path: Path | None, components: list[str]) -> Iterator[Path]:
    """Where in a root a path may lead: relative to the child, then ever shorter ends of it below the root."""
    if child_path is not None and ".." in components:
        joined = os.path.normpath(child_path.absolute().parent.joinpath(*components))
        if Path(joined).is_relative_to(root):
            yield Path(joined)
    names = [component for component in components if _is_file_name(component)]
    for start in range(len(names)):
        yield root.joinpath(*names[start:])


def _path_of(image: Image) -> Path | None:
    path = path_of(image.file_store)
    return None if path is None else Path(path)


def _open_in_directory(directory: Path, name: str, shown: str, *, lock: bool) -> FileStore:
    """Open a file of a directory that cannot be exchanged for another in between."""
    if not _host.HAVE_DIR_FD:
        return FileStore.open(directory / name, lock=lock, follow_symlinks=False)
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return FileStore.open(name, lock=lock, dir_fd=directory_fd, follow_symlinks=False, name=shown)
    finally:
        os.close(directory_fd)
