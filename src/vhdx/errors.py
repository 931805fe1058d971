"""Every exception that the library raises on its own account.

    VhdxError
      FormatError                  the image breaks a rule: structure, file offset, rule, found, expected
        NotVhdxError                 it is something else
        CorruptImageError            damaged, truncated or hostile
        UnsupportedFeatureError      a version, region or metadata item that is not known
      ImageStateError              the call does not fit the state of the open image, or of a check
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

from __future__ import annotations

from typing import TYPE_CHECKING

from vhdx.rules import OnOpen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vhdx._holder import Holder
    from vhdx.findings import Finding
    from vhdx.rules import RuleCode


class VhdxError(Exception):
    """Base of every error of this library."""


class FormatError(VhdxError):
    """An image breaks a rule of the format: `finding` says which, and where; its fields can be read here too."""

    def __init__(self, finding: Finding, image: str | None = None) -> None:
        """`image` is the file's name, or None where it has none."""
        self.finding = finding
        self.image = image
        super().__init__(finding, image)

    @property
    def code(self) -> RuleCode:
        """The rule."""
        return self.finding.code

    @property
    def structure(self) -> str:
        """What breaks the rule, such as "header 1"."""
        return self.finding.structure

    @property
    def file_offset(self) -> int | None:
        """Bytes from the start of the file, or None where no single place is to blame."""
        return self.finding.file_offset

    @property
    def found(self) -> str:
        """What stands there; may be empty."""
        return self.finding.found

    @property
    def expected(self) -> str:
        """What should stand there; may be empty."""
        return self.finding.expected

    @property
    def hint(self) -> str:
        """What to do, where the rule's general advice does not fit; may be empty."""
        return self.finding.hint

    def __str__(self) -> str:
        return f"{self.image}: {self.finding.message}" if self.image else self.finding.message


class NotVhdxError(FormatError):
    """The file is not a VHDX; the message says what it looks like."""


class CorruptImageError(FormatError):
    """The image is damaged, truncated or built to deceive."""


class UnsupportedFeatureError(FormatError):
    """The image needs a version, region, metadata item or locator type that is not known."""


def refusal(finding: Finding, image: str | None = None) -> FormatError:
    """The exception with which an image is refused for a finding."""
    match finding.code.on_open:
        case OnOpen.NOT_VHDX:
            return NotVhdxError(finding, image)
        case OnOpen.UNSUPPORTED:
            return UnsupportedFeatureError(finding, image)
        case _:
            return CorruptImageError(finding, image)


class ImageStateError(VhdxError):
    """The call does not fit the state of the open image, or of a check that is under way."""


class ReadOnlyImageError(ImageStateError):
    """A change was asked of an image that is open for reading."""


class ImageClosedError(ImageStateError):
    """The image has been closed."""


class ImagePoisonedError(ImageStateError):
    """An earlier failure left a commit half done; close the image and open it again."""


class ImageLockedError(ImageStateError):
    """Somebody has the image open in a way that excludes this use: `holders` says who, as far as the system tells."""

    def __init__(self, message: str, holders: Sequence[Holder] = ()) -> None:
        self.holders = tuple(holders)
        super().__init__(message, self.holders)

    def __str__(self) -> str:
        return str(self.args[0])


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
