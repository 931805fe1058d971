"""How to open a disk: one value, made where the request comes in, that every file of the disk is opened by."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from vhdx.engine.opening import ReplayMode
from vhdx.engine.tuning import DEFAULT_TUNING, Tuning
from vhdx.storage.source import Owned, Source, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from vhdx.errors import ChainError
    from vhdx.format.parent_locator import ParentLocator
    from vhdx.storage.base import ByteStore

Mode = Literal["r", "r+"]


@dataclass(frozen=True, slots=True)
class ParentRoot:
    """Look for parents below this directory, wherever a locator's path may point in it."""

    directory: str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class ParentRequest:
    """What a caller's function is asked: which file is the parent of this one?"""

    child_name: str
    child_path: Path | None
    locator: ParentLocator
    depth: int
    """Of the child in the chain, 0 = the leaf."""


ParentFunction = Callable[[ParentRequest], Source | None]
ParentPolicy = Literal["same-dir", "none"] | Sequence[Source] | ParentRoot | ParentFunction


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """How to open a disk. What the arguments of `vhdx.open` mean is told there.

    Raises: ValueError for a mode, a replay or parents that are none of those allowed, or that do not go together.
    """

    mode: Mode = "r"
    """Of the leaf; parents are opened for reading."""
    parents: ParentPolicy = "same-dir"
    on_missing_parent: Callable[[ChainError], None] | None = None
    """Told of the first parent that cannot be found; the disk then ends there. None: opening the disk fails."""
    replay: ReplayMode = "auto"
    strict: bool = False
    lock: bool = True
    no_lock_ok: bool = False
    ignore_change_tracking: bool = False
    tuning: Tuning = DEFAULT_TUNING
    """Of the leaf."""

    def __post_init__(self) -> None:
        _check_one_of("mode", self.mode, get_args(Mode))
        _check_one_of("replay", self.replay, get_args(ReplayMode))
        if self.writable and self.replay == "ignore":
            raise ValueError("replay='ignore' is for reading: a writer must not lose what the log holds")
        if not _is_policy(self.parents):
            raise ValueError(
                f"parents must be 'same-dir', 'none', sources, a root or a function: {self.parents!r}"
            )

    @property
    def writable(self) -> bool:
        """Whether the leaf is to be changed."""
        return self.mode == "r+"

    def open_store(self, source: Source | Owned) -> tuple[ByteStore, bool]:
        """As `storage.source.open_store`, for the leaf."""
        return open_store(source, writable=self.writable, lock=self.lock, no_lock_ok=self.no_lock_ok)

    def for_parents(self) -> OpenOptions:
        """How the files below the leaf are opened."""
        return OpenOptions(replay=self.replay, strict=self.strict, lock=self.lock)


def _check_one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        *others, last = map(repr, allowed)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, not {value!r}")


def _is_policy(parents: object) -> bool:
    if isinstance(parents, str):
        return parents in ("same-dir", "none")
    if isinstance(parents, bytes | bytearray):
        return False
    return isinstance(parents, Iterable | ParentRoot) or callable(parents)
