"""Breaches of rules, collected or raised: the one way in which parsing code says that something is wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field

from vhdx.errors import CorruptImageError, FormatError, NotVhdxError, UnsupportedFeatureError
from vhdx.rules import RULES, OnOpen, RuleCode, Severity

_EXCEPTIONS: dict[OnOpen, type[FormatError]] = {
    OnOpen.NOT_VHDX: NotVhdxError,
    OnOpen.UNSUPPORTED: UnsupportedFeatureError,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach of a rule, found in one place."""

    code: RuleCode
    structure: str
    file_offset: int | None
    """Bytes from the start of the file, or None where no single place is to blame."""
    found: str = ""
    expected: str = ""
    hint: str = ""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return RULES[self.code].severity

    @property
    def rule(self) -> str:
        """The rule, as a sentence."""
        return RULES[self.code].sentence

    @property
    def consequence(self) -> str:
        """What it means for the data, and what to do."""
        return self.hint or RULES[self.code].consequence

    def as_error(self, image: str | None = None) -> FormatError:
        """Make the exception that refuses the image for this finding."""
        kind = _EXCEPTIONS.get(RULES[self.code].on_open, CorruptImageError)
        return kind(
            self.code,
            self.structure,
            self.file_offset,
            found=self.found,
            expected=self.expected,
            hint=self.hint,
            image=image,
        )

    def __str__(self) -> str:
        return f"{self.severity.value}: {self.as_error()}"


def finding_of(error: FormatError) -> Finding:
    """The finding that an exception was made from."""
    return Finding(error.code, error.structure, error.file_offset, error.found, error.expected, error.hint)


@dataclass(slots=True)
class Report:
    """Decides what a breach leads to: an exception, or a line in `findings`.

    `strict` turns tolerated breaches of rules marked STRICT into exceptions. `image` is put into messages.
    At most `limit` findings are kept for one rule, so that a hostile file cannot fill the memory.
    """

    image: str | None = None
    strict: bool = False
    limit: int = 64
    findings: list[Finding] = field(default_factory=list)

    def breach(
        self,
        code: RuleCode,
        structure: str,
        file_offset: int | None = None,
        *,
        found: str = "",
        expected: str = "",
        hint: str = "",
    ) -> None:
        """Report a breach.

        Raises: FormatError (the subclass that fits) if the rule is one that open refuses.
        """
        finding = Finding(code, structure, file_offset, found, expected, hint)
        on_open = RULES[code].on_open
        if on_open is OnOpen.TOLERATE or (on_open is OnOpen.STRICT and not self.strict):
            self.note(finding)
        else:
            raise finding.as_error(self.image)

    def note(self, finding: Finding) -> None:
        """Add a finding without judging it."""
        if sum(1 for known in self.findings if known.code is finding.code) < self.limit:
            self.findings.append(finding)


Breach = Callable[..., None]
"""The type of `Report.breach`, for code that only needs to report."""
