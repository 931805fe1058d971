"""Every exception that the library raises on its own account.

    VhdxError
      FormatError                  the image breaks a rule: structure, file offset, rule, found, expected
        NotVhdxError                 it is something else
        CorruptImageError            damaged, truncated or hostile
        UnsupportedFeatureError      a version, region or metadata item that is not known
      ImageStateError              the call does not fit the state of the open image
        ReadOnlyImageError
        ImageClosedError
        ImagePoisonedError           an earlier write failed half-way
        ImageLockedError             in use by another process
        LogReplayRequiredError       dirty, and replay="refuse"
      ChainError                   the parents do not fit
        ParentNotFoundError
        ParentMismatchError
        ChainCycleError
        ParentForbiddenError         the parent policy does not allow to look there
      RequestError(ValueError)     an argument is out of range
      MountError                   FUSE is missing, or does not mount

OSError passes through untouched. Nothing else that an image's content can cause escapes the library.
All of them can be pickled.
"""

from typing import Any

from vhdx.rules import RULES, RuleCode


class VhdxError(Exception):
    """Base of every error of this library."""


class FormatError(VhdxError):
    """An image breaks a rule of the format.

    Attributes: `structure` (such as "header 1"), `file_offset` in bytes or None, `code` (the rule), `found`,
    `expected` (texts, may be empty), `image` (the file's name or None).
    """

    def __init__(
        self,
        code: RuleCode,
        structure: str,
        file_offset: int | None = None,
        *,
        found: str = "",
        expected: str = "",
        hint: str = "",
        image: str | None = None,
    ) -> None:
        self.code = code
        self.structure = structure
        self.file_offset = file_offset
        self.found = found
        self.expected = expected
        self.hint = hint
        self.image = image
        super().__init__(code, structure, file_offset)

    def __str__(self) -> str:
        image = f"{self.image}: " if self.image else ""
        where = "" if self.file_offset is None else f" at file offset {self.file_offset:#x}"
        rule = RULES[self.code]
        found = f", found {self.found}" if self.found else ""
        expected = f", expected {self.expected}" if self.expected else ""
        advice = self.hint or rule.consequence
        return (
            f"{image}{self.structure}{where}: {rule.sentence} [{self.code.value}]{found}{expected}; {advice}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.code, self.structure, self.file_offset), self.__dict__)


class NotVhdxError(FormatError):
    """The file is not a VHDX; the message says what it looks like."""


class CorruptImageError(FormatError):
    """The image is damaged, truncated or built to deceive."""


class UnsupportedFeatureError(FormatError):
    """The image needs a version, region, metadata item or locator type that is not known."""


class ImageStateError(VhdxError):
    """The call does not fit the state of the open image."""


class ReadOnlyImageError(ImageStateError):
    """A change was asked of an image that is open for reading."""


class ImageClosedError(ImageStateError):
    """The image has been closed."""


class ImagePoisonedError(ImageStateError):
    """An earlier failure left a commit half done; close the image and open it again."""


class ImageLockedError(ImageStateError):
    """Another process has the image open in a way that excludes this one."""


class LogReplayRequiredError(ImageStateError):
    """The image's log holds changes, and replay was refused by the caller."""


class ChainError(VhdxError):
    """The files of a differencing chain do not fit together."""


class ParentNotFoundError(ChainError):
    """A parent is needed and was not found, or not opened."""


class ParentMismatchError(ChainError):
    """A file was found, but it is not the parent: its linkage or its sector size differs."""


class ChainCycleError(ChainError):
    """A file is its own ancestor, or the chain is deeper than the limit."""


class ParentForbiddenError(ChainError):
    """The locator points where the parent policy does not allow to look."""


class RequestError(VhdxError, ValueError):
    """An argument of a call is out of range; nothing was done."""


class MountError(VhdxError):
    """A device cannot be mounted: FUSE is missing or refuses; the message says what to do."""
